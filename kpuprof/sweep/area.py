"""The area proxy: transistors of textbook circuits, in units of one INT8 multiply-accumulate.

Counts are those of Weste and Harris, CMOS VLSI Design: 6 transistors for a bit of SRAM, 28 for a
mirror adder, 6 for an AND. No wires, control or pads: it ranks machines and sizes no chip.
"""

from formats.config import KPUConfig
from formats.precision import KPUPrecision

SRAM_BIT, FULL_ADDER, AND = 6, 28, 6
ACCUMULATOR_BITS = 32
SIGNIFICANDS = {KPUPrecision.BF16: 8, KPUPrecision.FP16: 11}  # bits, the hidden one included
FP32_SIGNIFICAND = 24


def multiply_accumulate(multiplier_bits: int, adder_bits: int) -> int:
    """Transistors of an array multiplier (AND and full adder per pair of bits) and an adder."""
    return multiplier_bits**2 * (AND + FULL_ADDER) + adder_bits * FULL_ADDER


INT8_MAC = multiply_accumulate(8, ACCUMULATOR_BITS)  # 64 · 34 + 32 · 28 = 3072
LANE = multiply_accumulate(FP32_SIGNIFICAND, FP32_SIGNIFICAND) / INT8_MAC
SRAM_KIB = 1024 * 8 * SRAM_BIT / INT8_MAC  # 49152 / 3072 = 16


def area_proxy(config: KPUConfig) -> float:
    """Arrays, vector lanes, L1 and L2, in INT8 multiply-accumulate units.

    An element of an array is an INT8 unit and, where the machine computes in floats, as much of a
    float unit as its float rate says (tops_fp16 / tops_int8).
    """
    compute, memory = config.compute, config.memory
    wide = max((SIGNIFICANDS.get(each, 0) for each in config.supported_precisions), default=0)
    floats = multiply_accumulate(wide, FP32_SIGNIFICAND) / INT8_MAC if wide else 0.0
    element = 1 + floats * compute.tops_fp16 / compute.tops_int8
    arrays = compute.tiles * compute.systolic_rows * compute.systolic_cols * element
    lanes = compute.tiles * compute.vector_lanes * LANE
    return arrays + lanes + (memory.sram_l1_bytes + memory.sram_l2_bytes) / 1024 * SRAM_KIB
