"""Cases of convolution, matrix products, normalisation and attention."""

import functools

import torch
from torch import nn
from torch.nn import functional

from tests.kpuc.module_case import ModuleCase, module, of, refused

IMAGE = (2, 6, 9, 8)


def conv(
    name: str, *arguments: object, shape: tuple[int, ...] = IMAGE, **options: object
) -> ModuleCase:
    kind = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[len(shape) - 2]
    return module(f"conv {name}", functools.partial(kind, *arguments, **options), shape)


class Attention(nn.Module):
    """Self-attention as vision transformers write it."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(12, 36)
        self.out = nn.Linear(12, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, 3, 4).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))


class MultiHead(nn.MultiheadAttention):
    """The output only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x, x, x, need_weights=False)[0]


QKV = ((2, 3, 5, 4), (2, 3, 6, 4), (2, 3, 6, 4))
MASK = torch.tensor([True, True, False, True, False, True]).expand(5, 6)
ADDITIVE = torch.linspace(-1, 1, 30).reshape(5, 6)

CASES: tuple[ModuleCase, ...] = (
    conv("plain", 6, 4, 3),
    conv("stride and padding", 6, 4, 3, stride=(2, 1), padding=(1, 2)),
    conv("dilation", 6, 4, 3, dilation=(2, 1), padding=2),
    conv("grouped", 6, 4, 3, groups=2),
    conv("depthwise", 6, 12, 3, groups=6, bias=False),
    conv("without bias", 6, 4, 1, bias=False),
    conv("same padding, odd total", 6, 4, (3, 2), padding="same"),
    conv("same padding, dilated", 6, 4, (4, 3), padding="same", dilation=(1, 2)),
    conv("valid padding", 6, 4, 3, padding="valid", stride=2),
    conv("reflect padding", 6, 4, 3, padding=2, padding_mode="reflect"),
    conv("replicate padding", 6, 4, 3, padding=(1, 2), padding_mode="replicate"),
    conv("circular padding", 6, 4, 3, padding=1, padding_mode="circular"),
    conv("same padding, circular", 6, 4, 4, padding="same", padding_mode="circular"),
    conv("1-D", 6, 4, 5, stride=2, padding=2, dilation=2, shape=(2, 6, 23)),
    conv("1-D same", 6, 4, 4, padding="same", shape=(2, 6, 11)),
    conv("3-D", 4, 4, (2, 3, 1), stride=2, padding=1, groups=2, shape=(1, 4, 5, 6, 4)),
    conv("3-D same", 2, 3, 3, padding="same", shape=(1, 2, 4, 5, 6)),
    of(
        "conv of one image",
        lambda x: functional.conv2d(x, torch.ones(4, 6, 3, 3), None, 2),
        (6, 9, 8),
    ),
    of(
        "the general convolution",
        lambda x: torch.convolution(
            x, torch.ones(4, 3, 2, 2), torch.ones(4), [2, 1], [1, 0], [1, 2], False, [0, 0], 2
        ),
        IMAGE,
    ),
    module("linear of a matrix", lambda: nn.Linear(7, 5), (3, 7)),
    module("linear without bias", lambda: nn.Linear(7, 5, bias=False), (3, 7)),
    module("linear of a vector", lambda: nn.Linear(7, 5), (7,)),
    module("linear of stacks", lambda: nn.Linear(7, 5), (2, 3, 4, 7)),
    of("linear with a computed weight", lambda x, w: functional.linear(x, w), (2, 3, 7), (5, 7)),
    of("linear with a weight vector", lambda x: functional.linear(x, torch.ones(7)), (2, 3, 7)),
    of("addmm", lambda c, a, b: torch.addmm(c, a, b, beta=0.5, alpha=2), (5,), (3, 4), (4, 5)),
    of(
        "addmm with beta 0",
        lambda a: torch.addmm(torch.tensor([float("nan")]), a, a, beta=0),
        (4, 4),
    ),
    of("baddbmm", lambda c, a: torch.baddbmm(c, a, a, beta=2, alpha=0.5), (2, 4, 4), (2, 4, 4)),
    of("baddbmm with beta 0", lambda c, a: torch.baddbmm(c, a, a, beta=0), (2, 4, 4), (2, 4, 4)),
    of("addmv", lambda c, a, b: torch.addmv(c, a, b), (3,), (3, 4), (4,)),
    of("mm", torch.mm, (3, 4), (4, 5)),
    of("bmm", torch.bmm, (2, 3, 4), (2, 4, 5)),
    of("mv", torch.mv, (3, 4), (4,)),
    of("dot", torch.dot, (6,), (6,)),
    of("matmul of vectors", torch.matmul, (4,), (4,)),
    of("matmul vector by stack", torch.matmul, (4,), (2, 4, 3)),
    of("matmul stack by vector", torch.matmul, (2, 3, 4), (4,)),
    of("matmul with broadcast stacks", torch.matmul, (2, 1, 3, 4), (5, 4, 2)),
    of("einsum", lambda a, b: torch.einsum("nchw,cd->ndhw", a, b), IMAGE, (6, 5)),
    module("batch norm 1-D", lambda: nn.BatchNorm1d(6, eps=0.1), (4, 6)),
    module("batch norm 2-D", lambda: nn.BatchNorm2d(6, eps=0.5), IMAGE),
    module("batch norm without affine", lambda: nn.BatchNorm2d(6, affine=False), IMAGE),
    module("batch norm 3-D", lambda: nn.BatchNorm3d(2), (1, 2, 3, 4, 5)),
    of("batch norm written in place", lambda x: _normalised_in_place(x), IMAGE),
    module("attention of a vision transformer", Attention, (2, 5, 12)),
    module("multi-head attention", lambda: MultiHead(12, 3, batch_first=True), (2, 5, 12)),
    of(
        "attention with a boolean mask",
        lambda *q: functional.scaled_dot_product_attention(*q, MASK),
        *QKV,
    ),
    of(
        "attention with a float mask",
        lambda *q: functional.scaled_dot_product_attention(*q, ADDITIVE),
        *QKV,
    ),
    of(
        "attention, causal",
        lambda *q: functional.scaled_dot_product_attention(*q, is_causal=True),
        *QKV,
    ),
    of(
        "attention, scale", lambda *q: functional.scaled_dot_product_attention(*q, scale=0.25), *QKV
    ),
    of(
        "attention, grouped queries",
        lambda *q: functional.scaled_dot_product_attention(*q, enable_gqa=True),
        (2, 6, 5, 4),
        (2, 3, 6, 4),
        (2, 3, 6, 4),
    ),
)


def _normalised_in_place(x: torch.Tensor) -> torch.Tensor:
    normal = functional.batch_norm(
        x, torch.ones(6), torch.full((6,), 2.0), None, torch.ones(6), eps=0.25
    )
    return normal.mul_(2)


REFUSED = (
    refused(
        "batch statistics",
        lambda x: functional.batch_norm(x, None, None, training=True),
        (IMAGE,),
        "BatchNormalization",
        "training",
    ),
    refused(
        "transposed convolution",
        lambda x: functional.conv_transpose2d(x, torch.ones(6, 4, 2, 2)),
        (IMAGE,),
        "ConvTranspose",
    ),
    refused(
        "general transposed convolution",
        lambda x: torch.convolution(
            x, torch.ones(6, 4, 2, 2), None, [2, 2], [0, 0], [1, 1], True, [0, 0], 1
        ),
        (IMAGE,),
        "ConvTranspose",
    ),
    refused(
        "attention with dropout",
        lambda *q: functional.scaled_dot_product_attention(*q, dropout_p=0.5),
        QKV,
        "Attention",
        "dropout_p=0.5",
    ),
    refused(
        "attention with a computed mask",
        lambda q, k, v, m: functional.scaled_dot_product_attention(q, k, v, m),
        (*QKV, (5, 6)),
        "Attention",
        "attn_mask",
    ),
    refused(
        "attention to nothing",
        lambda *q: functional.scaled_dot_product_attention(*q, torch.zeros(5, 6, dtype=torch.bool)),
        QKV,
        "Attention",
        "every key",
    ),
    refused("instance norm", functional.instance_norm, (IMAGE,), "InstanceNorm"),
    refused("group norm", lambda x: functional.group_norm(x, 2), (IMAGE,), "GroupNorm"),
    refused("layer norm", lambda x: functional.layer_norm(x, (8,)), (IMAGE,), "LayerNorm"),
    refused(
        "integer matrix product",
        lambda x: x @ x,
        (torch.ones(3, 3, dtype=torch.int64),),
        "MatMul",
        "floating",
    ),
)
