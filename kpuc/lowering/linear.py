"""Convolution, matrix products, batch normalisation and attention."""

import math
from collections.abc import Sequence

import torch

from kpuc.lowering.site import Absent, Lowered, LoweringError, Site, Symbol, Table, Tensor, per_axis

aten = torch.ops.aten


def _convolve(
    at: Site,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    pads: tuple[int, ...],
    dilation: Sequence[int],
    groups: int,
) -> Symbol:
    """x [N, C, spatial…] or, as torch allows, [C, spatial…]; pads: every begin, then every end."""
    spatial = len(weight.shape) - 2
    unbatched = len(x.shape) == spatial + 1
    images = at.emit("Unsqueeze", x, axes=(0,)) if unbatched else x
    out = at.emit(
        "Conv",
        images,
        weight,
        *(() if bias is None else (bias,)),
        kernel_shape=tuple(weight.shape[2:]),
        strides=per_axis(stride, spatial),
        pads=pads,
        dilations=per_axis(dilation, spatial),
        group=groups,
    )
    return at.emit("Squeeze", out, axes=(0,)) if unbatched else out


def conv(
    at: Site,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Lowered:
    """conv1d, conv2d and conv3d with numeric padding."""
    pads = per_axis(padding, len(weight.shape) - 2)
    return _convolve(at, x, weight, bias, stride, pads * 2, dilation, groups)


def conv_named_padding(
    at: Site,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: str,
    dilation: Sequence[int],
    groups: int,
) -> Lowered:
    """padding="same" puts the odd element at the end, as torch does; "valid" is none."""
    kernel = tuple(weight.shape[2:])
    if padding == "valid":
        return _convolve(at, x, weight, bias, stride, (0,) * 2 * len(kernel), dilation, groups)
    if padding != "same":
        raise LoweringError("Conv", f"padding={padding!r}")
    totals = [d * (k - 1) for k, d in zip(kernel, per_axis(dilation, len(kernel)), strict=True)]
    begins = tuple(total // 2 for total in totals)
    ends = tuple(total - begin for total, begin in zip(totals, begins, strict=True))
    return _convolve(at, x, weight, bias, stride, begins + ends, dilation, groups)


def convolution(
    at: Site,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Lowered:
    """The general form; output_padding has a meaning for transposed convolution only."""
    if transposed:
        raise LoweringError("ConvTranspose")
    return conv(at, x, weight, bias, stride, padding, dilation, groups)


def linear(at: Site, x: Tensor, weight: Tensor, bias: Tensor | None) -> Lowered:
    """x·weightᵀ + bias: Gemm for a matrix, MatMul and Add for anything else."""
    biases = () if bias is None else (bias,)
    if len(x.shape) == 2 and len(weight.shape) == 2:
        return at.emit("Gemm", x, weight, *biases, transB=1)
    product = at.emit("MatMul", x, _transposed(at, weight))
    return product if bias is None else at.emit("Add", product, bias)


def _transposed(at: Site, matrix: Tensor) -> Tensor:
    """The last two axes swapped, at once if the matrix is known; a vector as it is."""
    rank = len(matrix.shape)
    if rank < 2:
        return matrix
    if isinstance(matrix, torch.Tensor):
        return at.renamed(matrix.transpose(-1, -2), matrix, "transposed")
    return at.transpose(matrix, (*range(rank - 2), rank - 1, rank - 2))


def addmm(at: Site, bias: Tensor, a: Tensor, b: Tensor, beta: float, alpha: float) -> Lowered:
    """beta·bias + alpha·a·b. With beta 0 torch ignores the bias, NaN and all."""
    biases = () if beta == 0 else (bias,)
    return at.emit("Gemm", a, b, *biases, alpha=float(alpha), beta=float(beta))


def add_product(at: Site, bias: Tensor, a: Tensor, b: Tensor, beta: float, alpha: float) -> Lowered:
    """baddbmm and addmv: beta·bias + alpha·a·b for stacks of matrices, or a matrix and a vector."""
    product = at.emit("MatMul", a, b)
    if alpha != 1:
        product = at.emit("Mul", product, float(alpha))
    if beta == 0:
        return product
    return at.emit("Add", product, bias if beta == 1 else at.emit("Mul", bias, float(beta)))


def matmul(at: Site, a: Tensor, b: Tensor) -> Lowered:
    """mm, bmm, mv, dot and matmul: numpy's rule is torch's."""
    return at.emit("MatMul", a, b)


def batch_norm(
    at: Site,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Lowered:
    """Normalisation with the module's running statistics; momentum matters in training only."""
    if training or mean is None or variance is None:
        raise LoweringError(
            "BatchNormalization",
            "it takes its statistics from the batch (training mode or track_running_stats=False)",
        )
    channels = x.shape[1]
    scale = torch.ones(channels) if weight is None else weight
    shift = torch.zeros(channels) if bias is None else bias
    return at.emit("BatchNormalization", x, scale, shift, mean, variance, epsilon=float(eps))


def batch_norm_no_training(
    at: Site,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    momentum: float,
    eps: float,
) -> Lowered:
    """As batch_norm; the saved statistics are for training."""
    out = batch_norm(at, x, weight, bias, mean, variance, False, momentum, eps, False)
    saved = Absent("BatchNormalization", "its saved statistics are used, they exist in training")
    assert isinstance(out, Symbol)
    return out, saved, saved


def attention(
    at: Site,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout_p: float,
    is_causal: bool,
    scale: float | None,
    enable_gqa: bool,
) -> Lowered:
    """softmax(query·keyᵀ·scale + mask)·value; scale defaults to 1/sqrt(embedding)."""
    if dropout_p != 0:
        raise LoweringError("Attention", f"dropout_p={dropout_p} is random")
    if enable_gqa:
        key, value = (_repeated_heads(at, t, query.shape[-3]) for t in (key, value))
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    products = at.emit("MatMul", query, _transposed(at, key))
    scores = at.emit("Mul", products, float(factor))
    bias = _additive_mask(mask, is_causal, query.shape[-2], key.shape[-2])
    if bias is not None:
        scores = at.emit("Add", scores, bias)
    return at.emit("MatMul", at.emit("Softmax", scores, axis=-1), value)


def _repeated_heads(at: Site, x: Tensor, heads: int) -> Tensor:
    """Grouped-query attention: each head of key and value serves several of the query."""
    repeats = heads // x.shape[-3]
    if repeats == 1:
        return x
    return at.gather(x, len(x.shape) - 3, torch.arange(heads) // repeats)


def _additive_mask(
    mask: Tensor | None, is_causal: bool, queries: int, keys: int
) -> torch.Tensor | None:
    """The mask as what is added to the scores: 0 where attention is allowed, -inf where not."""
    if isinstance(mask, Symbol):
        raise LoweringError(
            "Attention", "attn_mask is computed from the input; only a constant works"
        )
    if is_causal and mask is not None:
        raise LoweringError("Attention", "is_causal and attn_mask exclude each other")
    if is_causal:
        mask = torch.ones(queries, keys, dtype=torch.bool).tril()
    if mask is None:
        return None
    bias = mask
    if mask.dtype == torch.bool:
        bias = torch.zeros(mask.shape).masked_fill(mask.logical_not(), -math.inf)
    if bool((bias == -math.inf).all(-1).any()):
        raise LoweringError("Attention", "a row of attn_mask forbids every key")
    return bias


TABLE: Table = {
    aten.conv1d.default: conv,
    aten.conv2d.default: conv,
    aten.conv3d.default: conv,
    aten.conv1d.padding: conv_named_padding,
    aten.conv2d.padding: conv_named_padding,
    aten.conv3d.padding: conv_named_padding,
    aten.convolution.default: convolution,
    aten.linear.default: linear,
    aten.addmm.default: addmm,
    aten.baddbmm.default: add_product,
    aten.addmv.default: add_product,
    aten.mm.default: matmul,
    aten.bmm.default: matmul,
    aten.mv.default: matmul,
    aten.dot.default: matmul,
    aten.matmul.default: matmul,
    aten.batch_norm.default: batch_norm,
    aten._native_batch_norm_legit_no_training.default: batch_norm_no_training,
    aten.scaled_dot_product_attention.default: attention,
}
