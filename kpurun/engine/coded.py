"""Ops on codes for the fast engine: which kernel an op gets when operands or results are coded.

In order of preference: integer products, codes passed through, a table of 256 entries, and for all
else the op's fp32 kernel between dequantising and quantising.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from formats.precision import FLOAT_DTYPES
from formats.program import KPUProgram, KPUTensor
from formats.quantized import is_coded, kept, reals
from kpurun.engine.conversions import code_type, have_same_codes, prepare_requantise
from kpurun.engine.exact_products import prepare_exact_products
from kpurun.engine.int8_kernels import INTEGER_KERNELS
from kpurun.engine.kernel import Prepared, Site, dense, one
from kpurun.engine.kernels import ANY_DTYPE, KERNELS, SELECTIONS, prepare_by_record
from kpurun.engine.pooling import (
    prepare_global_average_pool_of_codes,
    prepare_max_pool_of_codes,
)
from kpurun.engine.stages import ACTIVATIONS
from kpurun.engine.storage import multiplies_codes
from kpurun.engine.tables import prepare_table

# Their results are codes of their operands, or the code of a constant.
PASSED_THROUGH = SELECTIONS | {"Pad"}


def prepare_coded(
    program: KPUProgram, site: Site, values: Mapping[str, np.ndarray], integer_kernels: bool
) -> Prepared:
    """The kernel of an op that touches codes.

    site: with codes as the constants that are coded; values: all constants, as stored;
    integer_kernels: whether oneDNN's may be used.
    """
    weight = site.inputs[1] if len(site.inputs) > 1 else None
    if multiplies_codes(program, site.op) and weight is not None and not weight.group_size:
        scales = None if weight.scales is None else values[weight.scales]
        prepare = INTEGER_KERNELS[site.op.op_type]
        has_coded_bias = any(map(is_coded, site.inputs[2 : site.op.operand_count]))
        prepared = prepare(site, scales) if integer_kernels and not has_coded_bias else None
        return prepared or prepare_exact_products(site, values)
    if _passes_codes(site):
        return _on_codes(site)
    table = prepare_table(site.op, *site.inputs, *site.outputs) if _has_table(site) else None
    if table is not None:
        return Prepared(
            lambda operands: (table(operands[0]),),
            stages_done=len(site.op.epilogue),
            takes_codes=True,
            gives_codes=True,
        )
    if _joins_codes(site):
        return _concat(site)
    if _requantises(site):
        requantise = prepare_requantise(site.inputs[0], site.outputs[0])
        return replace(one(requantise), takes_codes=True, gives_codes=True)
    if site.op.op_type == "GlobalAveragePool" and is_coded(site.inputs[0]):
        return prepare_global_average_pool_of_codes(site) or _on_reals(site, values)
    return _on_reals(site, values)


def _passes_codes(site: Site) -> bool:
    """Whether all float operands and results are coded alike, so that codes need no change."""
    op_type = site.op.op_type
    if op_type not in PASSED_THROUGH or site.op.epilogue:
        return False
    if op_type == "Pad" and not _pads_with_code(site):
        return False
    if op_type == "MaxPool" and len(site.shapes[0]) != 4:
        return False
    first, *others = _selected(site)
    return is_coded(first) and all(have_same_codes(first, other) for other in others)


def _pads_with_code(site: Site) -> bool:
    return site.attributes["mode"] == "constant" and math.isfinite(float(site.attributes["value"]))


def _selected(site: Site) -> tuple[KPUTensor, ...]:
    """The tensors whose elements the op moves about; the indices of a Gather are not."""
    own = site.inputs[: 1 if site.op.op_type == "Gather" else site.op.operand_count]
    return (*own, *site.outputs)


def _on_codes(site: Site) -> Prepared:
    if site.op.op_type == "MaxPool":
        return replace(prepare_max_pool_of_codes(site), takes_codes=True, gives_codes=True)
    if site.op.op_type == "Pad":
        site = replace(site, attributes={**site.attributes, "value": _code_of_padding(site)})
    return replace(KERNELS[site.op.op_type](site), takes_codes=True, gives_codes=True)


def _code_of_padding(site: Site) -> int:
    value = np.array([float(site.attributes["value"])], np.float32)
    return int(kept(value, site.outputs[0])[0])


def _has_table(site: Site) -> bool:
    """A function of one coded activation alone, stages included."""
    is_unary = site.op.op_type in ACTIVATIONS and len(site.inputs) == 1
    return is_unary and _are_codes_of_one_scale((site.inputs[0], site.outputs[0]))


def _requantises(site: Site) -> bool:
    """An Identity between two codes."""
    is_alone = site.op.op_type == "Identity" and not site.op.epilogue
    return is_alone and _are_codes_of_one_scale(_selected(site))


def _are_codes_of_one_scale(tensors: Sequence[KPUTensor]) -> bool:
    return all(is_coded(tensor) and tensor.scales is None for tensor in tensors)


def _is_float(tensor: KPUTensor) -> bool:
    return is_coded(tensor) or tensor.dtype in FLOAT_DTYPES


def _concat(site: Site) -> Prepared:
    """Each operand as codes of the result, put where it belongs: reals would take four times the
    memory."""
    (output,) = site.outputs
    axis = site.attributes["axis"]
    changes = [prepare_requantise(tensor, output) for tensor in site.inputs]

    def kernel(operands: Sequence[Tensor]) -> Sequence[Tensor]:
        if not all(x.dim() == 4 and x.stride(1) == 1 for x in operands):
            codes = [dense(change(x)) for change, x in zip(changes, operands, strict=True)]
            return (torch.cat(codes, axis),)
        out = torch.empty(output.shape, dtype=code_type(output), memory_format=torch.channels_last)
        parts = torch.split(out, [x.shape[axis] for x in operands], axis)
        for part, change, x in zip(parts, changes, operands, strict=True):
            part.copy_(change(x))
        return (out,)

    return Prepared(kernel, takes_codes=True, gives_codes=True)


def _joins_codes(site: Site) -> bool:
    return (
        site.op.op_type == "Concat"
        and not site.op.epilogue
        and _are_codes_of_one_scale(_selected(site))
    )


def _on_reals(site: Site, values: Mapping[str, np.ndarray]) -> Prepared:
    """The fp32 kernel, or for integers among the operands the record, on dequantised operands."""
    constants = {
        index: torch.from_numpy(_real_constant(site.inputs[index], values))
        for index in site.constants
    }
    on_reals = replace(site, constants=constants)
    touched = (*site.inputs, *site.outputs)
    has_kernel = site.op.op_type in ANY_DTYPE and not site.op.epilogue
    if has_kernel or all(map(_is_float, touched)):
        return KERNELS[site.op.op_type](on_reals)
    return prepare_by_record(on_reals)


def _real_constant(tensor: KPUTensor, values: Mapping[str, np.ndarray]) -> np.ndarray:
    stored = values[tensor.id]
    if not is_coded(tensor):
        return stored.copy()
    return reals(stored, tensor, None if tensor.scales is None else values[tensor.scales])
