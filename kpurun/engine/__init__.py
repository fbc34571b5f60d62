"""The engines that execute a program: the definition (`reference`) and a fast way to its numbers.

Every engine takes {tensor id: array} and gives an `EngineResult`; torch is a kernel library of the
fast engine and is imported nowhere else in kpurun.
"""
