"""The benchmark behind `make bench`: every figure the project is held to, measured in one run."""
