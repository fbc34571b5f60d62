"""Convolution for the fast engine: oneDNN on channels-last maps with weights packed at load.

Measured on ResNet-18, MobileNetV2 and YOLOv8n layers: 0.35 to 0.95 of the time of the eager call,
whose NCHW maps oneDNN converts to and fro. The first stage of the epilogue rides along where oneDNN
computes the same function. Weights never meet the padding: of a weight that is not finite, a
product with zero would be NaN.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from formats.program import EpilogueStage
from kpurun.engine.kernel import Prepared, Site
from kpurun.ops import OPS
from kpurun.ops.opdef import complete
from kpurun.ops.window import Window, window_of

PostOp = tuple[str, list[float], str]  # oneDNN's name, its parameters, the algorithm (unused)

NO_POST_OP: PostOp = ("none", [], "")


def prepare_convolution(site: Site) -> Prepared:
    """Packed weights where they and the bias are constants of one or two spatial axes."""
    window = window_of("Conv", site.attributes, site.shapes[1][2:])
    is_constant = all(index in site.constants for index in range(1, site.op.operand_count))
    has_onednn = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]  # torch's
    if is_constant and window.rank <= 2 and has_onednn:
        return _packed(site, window)
    return _general(site, window)


def _packed(site: Site, window: Window) -> Prepared:
    is_flat = window.rank == 1  # run as a map of one row
    padding, margins = split_padding(window)
    weight, bias = site.constants[1], site.constants.get(2)
    geometry = [padding, list(window.strides), list(window.dilations)]
    if is_flat:
        weight = weight.unsqueeze(2)
        geometry = [
            [value, *parameter] for value, parameter in zip((0, 1, 1), geometry, strict=True)
        ]
    groups = site.attributes["group"]
    packed = torch.ops.mkldnn._reorder_convolution_weight(
        weight.contiguous(memory_format=torch.channels_last), *geometry, groups,
        map_shape(site, margins, is_flat),
    )  # fmt: skip
    post_op = post_op_of(site.next_stage)

    def kernel(operands: Sequence[Tensor]) -> Sequence[Tensor]:
        x = with_margins(operands[0], margins)
        x = x.unsqueeze(2) if is_flat else x
        x = x.contiguous(memory_format=torch.channels_last)
        out = torch.ops.mkldnn._convolution_pointwise(x, packed, bias, *geometry, groups, *post_op)
        return (out.squeeze(2) if is_flat else out,)

    fuses = post_op is not NO_POST_OP
    return Prepared(
        kernel,
        absorbed=frozenset(range(1, site.op.operand_count)),
        stages_done=int(fuses),
        drops_nan=post_op[0] in ("relu", "hardtanh") or not bool(weight.isfinite().all()),
    )


def _general(site: Site, window: Window) -> Prepared:
    padding, margins = split_padding(window)
    groups = site.attributes["group"]
    no_output_padding = [0] * window.rank

    def kernel(operands: Sequence[Tensor]) -> Sequence[Tensor]:
        x = with_margins(operands[0], margins)
        bias = operands[2] if site.op.operand_count == 3 else None
        out = torch.convolution(
            x, operands[1], bias, window.strides, padding, window.dilations,
            False, no_output_padding, groups,
        )  # fmt: skip
        return (out,)

    return Prepared(kernel, drops_nan=any(padding))


def split_padding(window: Window) -> tuple[list[int], list[int]]:
    """(padding per axis for the kernel, margins for `pad`): the kernel pads both ends alike."""
    if window.begins == window.ends:
        return list(window.begins), []
    ends_of_each_axis = zip(window.begins, window.ends, strict=True)
    margins = [size for both_ends in reversed(list(ends_of_each_axis)) for size in both_ends]
    return [0] * window.rank, margins


def with_margins(x: Tensor, margins: list[int], value: int = 0) -> Tensor:
    """The map with `margins` of `value`."""
    return functional.pad(x, margins, value=value) if margins else x


def map_shape(site: Site, margins: list[int], is_flat: bool) -> list[int]:
    """Shape of the map that oneDNN sees, for which it chooses the order of the weights."""
    shape = list(site.shapes[0])
    for axis in range(len(margins) // 2):
        shape[-1 - axis] += margins[2 * axis] + margins[2 * axis + 1]
    return [*shape[:2], 1, shape[2]] if is_flat else shape


def post_op_of(stage: EpilogueStage | None) -> PostOp:
    """The stage as oneDNN's post-op; NO_POST_OP where there is none with the same meaning."""
    if stage is None or stage.operand is not None:
        return NO_POST_OP
    attributes = complete(OPS[stage.op_type], stage.attributes)
    if stage.op_type == "Relu":
        return "relu", [], ""
    if stage.op_type == "HardSwish":
        return "hardswish", [], ""
    if stage.op_type == "Swish" and attributes["alpha"] == 1:
        return "swish", [], ""
    if stage.op_type == "Clip":
        return _clip_post_op(attributes["min"], attributes["max"])
    return NO_POST_OP


def _clip_post_op(low: float | None, high: float | None) -> PostOp:
    if low is None or high is None or low > high:
        return NO_POST_OP
    return "hardtanh", [float(low), float(high)], ""
