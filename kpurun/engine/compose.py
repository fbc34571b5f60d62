"""An op's kernel, what is left of its epilogue, and the way in and out of storage, as one function.

Whatever does nothing for an op is left out of its function.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from formats.precision import FLOAT_DTYPES
from formats.program import KPUTensor
from formats.quantized import CODE_RANGES, is_coded
from kpurun.engine.conversions import Load, Store, prepare_load, prepare_store
from kpurun.engine.kernel import Prepared, Site
from kpurun.engine.kernels import SELECTIONS
from kpurun.engine.stages import prepare_stage
from kpurun.engine.storage import is_finite
from kpurun.ops import OPS
from kpurun.ops.opdef import Int8Rule

# Operands as they are stored -> results as they are stored, and the sum of the first before it
# became codes if the op is watched.
Run = Callable[[Sequence[Tensor]], tuple[Sequence[Tensor], Tensor | None]]

# Products of so few codes and constants of at most this size stay far from the end of fp32.
TAME_MAGNITUDE = 1e6
MOST_TAME_STAGES = 3
# A small divisor makes any result, and padding may be infinite.
WILD_OPS = frozenset({"Div", "BatchNormalization", "Pad"})


def compose(site: Site, done: Prepared, constants: Mapping[str, np.ndarray]) -> Run:
    """constants: all of the program, as stored."""
    stages = [prepare_stage(stage) for stage in site.op.epilogue[done.stages_done :]]
    loads = _loads(site, done, constants)
    stores = _stores(site, done)
    own_count = site.op.operand_count
    is_owned = done.owns_results or bool(stages)
    watches = is_watched(site, done, constants)
    watches_accumulator = watches and is_coded(site.outputs[0])
    watches_result = watches and not watches_accumulator
    if not (loads or stages or stores or watches):
        kernel, count = done.kernel, None if done.stages_done else own_count
        return lambda operands: (kernel(operands[:count]), None)

    def run(operands: Sequence[Tensor]) -> tuple[Sequence[Tensor], Tensor | None]:
        if loads:
            operands = [loads[i](x) if i in loads else x for i, x in enumerate(operands)]
        results = done.kernel(operands if done.stages_done else operands[:own_count])
        if stages:
            (accumulator,) = results
            accumulator = accumulator if done.owns_results else accumulator.clone()
            for stage in stages:
                accumulator = stage(accumulator, operands)
            results = (accumulator,)
        total = None
        if watches_accumulator:
            total = results[0].sum(dtype=torch.float32)
            results = [result.nan_to_num(0.0, torch.inf, -torch.inf) for result in results]
        if stores:
            results = [store(x, is_owned) for store, x in zip(stores, results, strict=True)]
        return results, results[0].sum(dtype=torch.float32) if watches_result else total

    return run


def is_watched(site: Site, done: Prepared, constants: Mapping[str, np.ndarray]) -> bool:
    """Whether a result may be infinite or NaN: although no operand is, or before it becomes codes.

    Not if floats are only moved, and not if codes are computed from codes, which are small.
    """
    becomes_codes = is_coded(site.outputs[0])
    is_moved = site.op.op_type in SELECTIONS and not site.op.epilogue and not becomes_codes
    if is_moved or done.gives_codes:
        return False
    kinds = {site.op.op_type, *(stage.op_type for stage in site.op.epilogue)}
    attributes = [site.op.attributes, *(stage.attributes for stage in site.op.epilogue)]
    # JSON has no infinity: a bound of a Clip that is one goes by its name.
    is_infinite = any(value in ("inf", "-inf") for each in attributes for value in each.values())
    is_tame = not (kinds & WILD_OPS or is_infinite)
    is_bounded = is_tame and len(site.op.epilogue) <= MOST_TAME_STAGES
    are_coded = becomes_codes and all(_is_tame(x, constants) for x in site.inputs)
    return not (is_bounded and are_coded)


def _is_tame(tensor: KPUTensor, constants: Mapping[str, np.ndarray]) -> bool:
    """Whether its values are finite and not large, as is known before any input."""
    if is_coded(tensor) and tensor.scale is not None:
        low, high = CODE_RANGES[tensor.dtype]
        return abs(tensor.scale) * (high - low) <= TAME_MAGNITUDE
    if tensor.id not in constants:
        return False
    value = constants[tensor.id]
    return is_finite(value) and float(np.abs(value).max(initial=0)) <= TAME_MAGNITUDE


def _loads(site: Site, done: Prepared, constants: Mapping[str, np.ndarray]) -> dict[int, Load]:
    """By index of the operand: how it becomes real, where the kernel or a stage wants that."""
    taken = {stage.operand for stage in site.op.epilogue[: done.stages_done]}
    if done.takes_codes:
        # Of a product its factors: a bias meets the accumulator as a number.
        is_product = OPS[site.op.op_type].int8 is Int8Rule.KERNEL
        taken.update(range(2 if is_product else site.op.operand_count))
    else:
        taken = set()
    loads: dict[int, Load] = {}
    for index, tensor in enumerate(site.inputs):
        if index in taken or index in done.absorbed:
            continue
        scales = None if tensor.scales is None else constants[tensor.scales]
        load = prepare_load(tensor, scales)
        if load is not None:
            loads[index] = _held(load, constants[tensor.id]) if tensor.is_weight else load
    return loads


def _held(load: Load, stored: np.ndarray) -> Load:
    """A constant is made real once, at load."""
    value = load(torch.from_numpy(stored.copy()))
    return lambda _: value


def _stores(site: Site, done: Prepared) -> list[Store]:
    """One per result, none if all are as they are to be stored."""
    if done.gives_codes or _selects_stored(site):
        return []
    stores = [prepare_store(tensor) for tensor in site.outputs]
    return [store or _as_is for store in stores] if any(stores) else []


def _as_is(result: Tensor, _: bool) -> Tensor:
    return result


def _selects_stored(site: Site) -> bool:
    """Whether results are elements of operands of the same storage type."""
    if site.op.op_type not in SELECTIONS or site.op.epilogue:
        return False
    sources = {_storage(tensor) for tensor in site.inputs if tensor.dtype in FLOAT_DTYPES}
    return not any(map(is_coded, (*site.inputs, *site.outputs))) and sources == {
        _storage(tensor) for tensor in site.outputs
    }


def _storage(tensor: KPUTensor) -> tuple[object, ...]:
    return tensor.dtype, tensor.scale
