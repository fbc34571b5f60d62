"""What every value is stored as: the precision decides for floats, integers stay as they are."""

import numpy as np

from formats.codec import POSITS, round_to
from formats.config import KPUConfig
from formats.errors import (
    CompilationError,
    ConfigurationError,
    UsageError,
    too_few_calibration_samples,
)
from formats.precision import DType, KPUPrecision
from formats.schema import load_config, presets
from kpuc.graph import Graph
from kpuc.storage import QuantParams, Storage
from kpurun.ops import op_named
from kpurun.ops.opdef import Int8Rule

# From here on, rounding to the nearest gives infinity: half a step above the largest finite value.
# Posits end at their largest value instead.
OVERFLOW = {DType.FP16: 65_520.0, DType.BF16: float.fromhex("0x1.FFp127")}
POSIT_OCTAVES = 8  # below the largest weight that are tried for the scale
CODED = (KPUPrecision.INT8, KPUPrecision.INT4)  # activations are codes, which needs calibration
SCALED = (*CODED, KPUPrecision.POSIT8, KPUPrecision.POSIT16)  # what calibration can make nearer


def require_precision(config: KPUConfig, precision: KPUPrecision) -> None:
    """ConfigurationError when this machine cannot compute in `precision`; it names one that can."""
    if precision in config.supported_precisions:
        return
    able = [name for name in presets() if precision in load_config(name).supported_precisions]
    listed = ", ".join(known.value for known in config.supported_precisions)
    hint = f"; the preset {able[0]} does (--config {able[0]})" if able else ""
    raise ConfigurationError(
        f"{config.name} does not compute in {precision.value} (it has {listed}){hint}"
    )


def is_calibrated(precision: KPUPrecision, samples: object | None) -> bool:
    """Whether programs of the precision are made from samples, or from what was kept of them."""
    return precision in CODED or (precision in SCALED and samples is not None)


def require_calibration(
    precision: KPUPrecision, calibration: object, load_from: object, save_to: object
) -> None:
    """UsageError unless codes are made of samples or of a saved calibration, and nothing else of
    one. None stands for what was not given.

    Samples for a precision without codes are allowed: they may say what shape an input has.
    """
    if precision not in CODED:
        for option, path in (("load_calibration", load_from), ("save_calibration", save_to)):
            if path is not None:
                raise UsageError(f"{option}: {precision.value} needs no calibration")
    elif calibration is not None and load_from is not None:
        raise UsageError("give calibration samples or load_calibration, not both")
    elif calibration is None and load_from is None:
        least = too_few_calibration_samples(precision.value)
        raise UsageError(f"{least}: give those as calibration, or load_calibration")


def require_use(precision: KPUPrecision, calibration: object, quantization: object) -> None:
    """UsageError for samples, or options of codes, that programs of the precision are not made
    from. None stands for what was not given."""
    if calibration is not None and precision not in SCALED:
        raise UsageError(f"calibration: {precision.value} takes nothing from samples")
    if quantization is not None and precision not in CODED:
        raise UsageError(f"quantization: {precision.value} has no codes")


def float_storage(graph: Graph, precision: KPUPrecision) -> Storage:
    """How values are stored in a program without codes.

    Floats take the precision's type. Outputs leave the accumulator as fp32, and constants that only
    meet the accumulator (biases, BatchNorm parameters, epilogue operands) are kept in fp32.
    CompilationError names a finite constant that the type cannot hold.
    """
    storage = unchecked_float_storage(graph, precision)
    require_representable(graph, storage)
    return storage


def unchecked_float_storage(graph: Graph, precision: KPUPrecision) -> Storage:
    """The same, whatever the constants hold."""
    wide = set(graph.outputs) | accumulator_constants(graph)
    narrow = DType(precision.value)
    dtypes = {}
    for value, kind in graph.types.items():
        if not kind.is_float:
            dtypes[value] = kind.dtype
        else:
            dtypes[value] = DType.FP32 if value in wide else narrow
    scaled = factors(graph) if narrow in POSITS else set()
    params = {
        value: QuantParams(scale=posit_scale(graph.constants[value], narrow))
        for value in sorted(scaled)
        if dtypes[value] is narrow
    }
    return Storage(precision, dtypes, params)


def factors(graph: Graph) -> set[str]:
    """Constants that are factors of multiply-accumulates, and nothing else."""
    multiplied: set[str] = set()
    elsewhere: set[str] = set()
    for node in graph.nodes:
        is_kernel = op_named(node.op_type).int8 is Int8Rule.KERNEL
        for index, value in enumerate(node.inputs):
            (multiplied if is_kernel and index < 2 else elsewhere).add(value)
    return {value for value in multiplied - elsewhere if value in graph.constants}


def posit_scale(array: np.ndarray, dtype: DType) -> float:
    """The power of two in units of which posits are nearest to the values, by squared error.

    Posits are densest around one, and weights lie far below it.
    """
    largest = float(np.abs(array).max(initial=0.0))
    if not 0 < largest < np.inf:
        return 1.0
    top = np.frexp(np.float32(largest))[1]
    candidates = [float(np.ldexp(1.0, int(top) - below)) for below in range(POSIT_OCTAVES)]
    values = array.astype(np.float32)
    errors = [
        float(np.square(round_to(values / np.float32(scale), dtype) * scale - values).sum())
        for scale in candidates
    ]
    return candidates[int(np.argmin(errors))]


def accumulator_constants(graph: Graph) -> set[str]:
    """Constants that no op reads other than on the accumulator."""
    on_accumulator: set[str] = set()
    elsewhere: set[str] = set()
    for node in graph.nodes:
        operands = node.operands
        wide = op_named(node.op_type).accumulator_operands
        for index, value in enumerate(node.inputs):
            meets_accumulator = index >= len(operands) or index in wide
            (on_accumulator if meets_accumulator else elsewhere).add(value)
    return {value for value in on_accumulator - elsewhere if value in graph.constants}


def require_representable(graph: Graph, storage: Storage) -> None:
    """CompilationError names a finite constant that the type it is stored as cannot hold."""
    for value, array in graph.constants.items():
        dtype = storage.dtypes[value]
        if not is_representable(array, dtype):
            remedy = ": use --precision bf16" if dtype is DType.FP16 else ""
            raise CompilationError(
                f"constant {graph.names.get(value, value)} holds {_largest(array):.4g}, which "
                f"{dtype.value} cannot{remedy}"
            )


def is_representable(array: np.ndarray, dtype: DType) -> bool:
    """Whether the type has a finite value near every finite one of a constant."""
    return dtype not in OVERFLOW or _largest(array) < OVERFLOW[dtype]


def _largest(array: np.ndarray) -> float:
    return float(np.abs(array[np.isfinite(array)]).max(initial=0.0))
