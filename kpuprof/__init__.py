"""The profiler: reads programs and profiles, and shows where time and energy go."""
