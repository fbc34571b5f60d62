"""What no schedule of a program beats: the longest of three kinds of work, all of it overlapped."""

from math import ceil

from formats.profile import Profile
from kpuprof.roofline import peaks_of
from kpuprof.rows import OpRow
from kpuprof.units import runs_on_arrays


def bound_cycles(profile: Profile, rows: list[OpRow]) -> int:
    """Array work (MACs / peak), vector work (lane operations / lanes), compulsory DRAM traffic
    (weights, inputs and outputs once); as kpuc prints it."""
    program = profile.program
    peaks = peaks_of(program.target_config)
    ops = program.get_ops_in_order()
    arrays = sum(
        row.macs / peaks.macs[row.precision]
        for op, row in zip(ops, rows, strict=True)
        if runs_on_arrays(program, op)
    )
    lanes = sum(row.lane_ops for row in rows) / peaks.lane_ops
    if not program.target_config.timing.overlap_folds:
        lanes = 0.0  # then nothing drains
    compulsory_bytes = sum(
        tensor.size_bytes
        for tensor in program.tensors.values()
        if tensor.is_weight or tensor.is_input or tensor.is_output
    )
    return ceil(max(arrays, lanes, compulsory_bytes / peaks.dram_bytes))
