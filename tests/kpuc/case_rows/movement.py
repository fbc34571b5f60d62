"""Cases of views, moves, selections, writes into slices, and conversions."""

import torch
from torch import nn
from torch.nn import functional

from tests.kpuc.module_case import ModuleCase, module, of, refused

SHAPE = (2, 3, 4, 5)
INTS = torch.tensor([[2**25 + 1, -3, 0], [7, 2, -9]])
INDEX = torch.tensor([2, 0, 2, 1])


def write_slice(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    y[:, :, 1:3] = x[:, :, :2] + 1
    return y


def write_strided(x: torch.Tensor) -> torch.Tensor:
    y = x + 0
    y[..., ::2] = 7
    return y


def write_nothing(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    y[:, 9:] = 1
    return y


def write_row(x: torch.Tensor) -> torch.Tensor:
    y = x + 0
    y[:, 1] = x[:, 0]
    y[:, -1].mul_(2)
    return y


def write_through_view(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    y = x.clone()
    flat = y.view(-1)
    flat[3:7] += 1
    y.t_()
    return y, flat


def write_through_dropout(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    y = x * 2
    z = functional.dropout(y, training=False)  # y itself
    z.relu_()
    return y, z + 1


def write_after_view(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    flat = y.view(-1)
    functional.relu_(y)
    return flat * 3


def write_after_reading(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    y = x * 2
    before = y + 1
    active = functional.leaky_relu_(y, 0.5)
    return before, y * 3, functional.hardtanh_(active) + y


def write_to_parts(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    first, _ = y.split([1, 2], 0)
    functional.silu(first, inplace=True)
    return y


def fill_buffer(x: torch.Tensor) -> torch.Tensor:
    y = torch.empty(2, 6)
    y[:, :3] = x
    y[:, 3:].copy_(x.flip(1))
    return y


def channel_shuffled(x: torch.Tensor) -> torch.Tensor:
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, -1, h, w)


class Embedded(nn.Module):
    """An embedding of token numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 4, padding_idx=1)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.table(tokens)


CASES: tuple[ModuleCase, ...] = (
    of("view", lambda x: x.view(6, -1), SHAPE),
    of("view of another shape", lambda x: x.flip(0).view(x.shape[0], -1).relu_(), SHAPE),
    of("reshape", lambda x: x.transpose(1, 2).reshape(8, 15), SHAPE),
    of("reshape of a constant batch", lambda x: torch.reshape(x, (2, 60)), SHAPE),
    of("_unsafe_view", lambda x: torch.ops.aten._unsafe_view(x, [6, 20]), SHAPE),
    module("flatten", nn.Flatten, SHAPE),
    of("flatten some axes", lambda x: torch.flatten(x, 1, -2), SHAPE),
    module("unflatten", lambda: nn.Unflatten(2, (2, 2)), SHAPE),
    of("view_as", lambda x, y: x.view_as(y), SHAPE, (6, 20)),
    of("squeeze", torch.squeeze, (1, 3, 1, 4)),
    of("squeeze an axis", lambda x: (x.squeeze(0), x.squeeze(1), x.squeeze(-2)), (1, 3, 1, 4)),
    of("squeeze axes", lambda x: torch.squeeze(x, (0, 1, 2)), (1, 3, 1, 4)),
    of("unsqueeze", lambda x: (x.unsqueeze(0), x.unsqueeze(-1), x[:, None]), (3, 4)),
    of("permute", lambda x: x.permute(0, 2, -1, 1), SHAPE),
    of("transpose", lambda x: x.transpose(-1, 1), SHAPE),
    of("t", lambda x: (x.t(), x.T), (3, 4)),
    of("mT", lambda x: x.mT, SHAPE),
    of("movedim", lambda x: torch.movedim(x, 1, -1), SHAPE),
    of("expand", lambda x: x.expand(4, -1, 5), (3, 1)),
    of("expand leading axes", lambda x: x.expand(1, 1, 3, 4), (3, 4)),
    of("expand_as", lambda x, y: x.expand_as(y), (3, 1, 1), SHAPE),
    of("repeat", lambda x: x.repeat(2, 1, 3), (3, 4)),
    of("tile", lambda x: torch.tile(x, (2, 2)), (3, 4)),
    of("repeat_interleave", lambda x: x.repeat_interleave(3, dim=1), (3, 4)),
    of("repeat_interleave of all", lambda x: torch.repeat_interleave(x, 2), (3, 4)),
    of("cat", lambda x, y: torch.cat((x, y, x), -3), SHAPE, (2, 1, 4, 5)),
    of("cat with a constant", lambda x: torch.cat([torch.ones(2, 1, 4, 5), x], 1), SHAPE),
    of("cat of types", lambda x, y: torch.cat([x, y]), INTS, (2, 3)),
    of("cat with an empty vector", lambda x: torch.cat([torch.empty(0), x, x], 1), SHAPE),
    of("cat with an empty slice", lambda x: torch.cat([x[:, :0], x], 1), SHAPE),
    of("cat of one", lambda x: torch.cat([x * 1], 0), SHAPE),
    of("stack", lambda x, y: torch.stack([x, y], -1), SHAPE, SHAPE),
    of("split", lambda x: torch.split(x, 2, dim=-1), SHAPE),
    of("split by sizes", lambda x: x.split([1, 3], 2), SHAPE),
    of("split into one", lambda x: x.relu().split(9, 2), SHAPE),
    of("chunk", lambda x: x.chunk(3, 2), SHAPE),
    of("chunk, and no view is left", lambda x: [y.relu_() for y in (x + 1).chunk(2, 3)], SHAPE),
    of("unbind", lambda x: x.unbind(1), SHAPE),
    of("unbind an axis of 1", lambda x: x.unbind(0), (1, 3)),
    of(
        "slices", lambda x: (x[1:], x[:, :-1], x[..., 1:4:2], x[:, 5:0] if False else x[-1:]), SHAPE
    ),
    of("slices beyond the ends", lambda x: x[:, -9:99], SHAPE),
    of("select", lambda x: (x[0], x[:, -1], x[..., 2]), SHAPE),
    of("narrow", lambda x: x.narrow(2, 1, 2), SHAPE),
    of("flip", lambda x: torch.flip(x, (1, -1)), SHAPE),
    of("flip a number", lambda x: x.sum().flip(0), SHAPE),
    of("roll", lambda x: torch.roll(x, (1, -2), (0, 3)), SHAPE),
    of("roll of all", lambda x: torch.roll(x, 7), SHAPE),
    of("pad", lambda x: functional.pad(x, (1, 2, 0, 3), value=1.5), SHAPE),
    of("pad that crops", lambda x: functional.pad(x, (-1, 2, 0, -2)), SHAPE),
    of("pad integers", lambda x: functional.pad(x, (1, 1), value=9), INTS),
    of("pad of nothing", lambda x: functional.pad(x, (0, 0)).relu(), SHAPE),
    of("constant_pad_nd", lambda x: torch.constant_pad_nd(x, (0, 1, 2, 0), -1), SHAPE),
    of("pad reflect", lambda x: functional.pad(x, (1, 2, 3, 0), mode="reflect"), SHAPE),
    of("pad replicate", lambda x: functional.pad(x, (1, 2, 3, 0), mode="replicate"), SHAPE),
    of("pad circular, crop", lambda x: functional.pad(x, (-1, 2, 2, -2), mode="circular"), SHAPE),
    of("pad circular", lambda x: functional.pad(x, (1, 2, 3, 0), mode="circular"), SHAPE),
    of("reflection_pad1d", lambda x: torch.ops.aten.reflection_pad1d(x, [2, 1]), (2, 3, 5)),
    of("reflection_pad2d", lambda x: torch.ops.aten.reflection_pad2d(x, [2, 1, 0, 3]), SHAPE),
    of(
        "reflection_pad3d",
        lambda x: torch.ops.aten.reflection_pad3d(x, [1, 0, 0, 1, 1, 1]),
        (1, 2, 3, 2, 4),
    ),
    of("replication_pad1d", lambda x: torch.ops.aten.replication_pad1d(x, [2, 1]), (2, 3, 5)),
    of("replication_pad2d", lambda x: torch.ops.aten.replication_pad2d(x, [2, 1, 0, 3]), SHAPE),
    of(
        "replication_pad3d",
        lambda x: torch.ops.aten.replication_pad3d(x, [1, 0, 0, 1, 1, 1]),
        (1, 2, 3, 2, 4),
    ),
    module("pixel shuffle", lambda: nn.PixelShuffle(2), (2, 12, 3, 5)),
    of("pixel shuffle without a batch", lambda x: functional.pixel_shuffle(x, 3), (9, 2, 2)),
    module("pixel unshuffle", lambda: nn.PixelUnshuffle(2), (2, 3, 4, 6)),
    module("channel shuffle", lambda: nn.ChannelShuffle(2), (1, 6, 2, 3)),
    of("channel shuffle by views", channel_shuffled, (1, 6, 2, 3)),
    of("index_select", lambda x: torch.index_select(x, -1, INDEX), SHAPE),
    of("index by a constant", lambda x: x[:, :, INDEX], SHAPE),
    of("index by negative constants", lambda x: x[:, torch.tensor([-1, 0])], SHAPE),
    of("index by a grid", lambda x: x[:, INDEX.reshape(2, 2) % 3], SHAPE),
    of("index on two axes", lambda x: x[:, :, INDEX, INDEX - 3], SHAPE),
    of("index by an input", lambda x, i: x[i], SHAPE, torch.tensor([1, 0, 1])),
    module("embedding", Embedded, torch.tensor([[0, 6, 1], [3, 3, 2]])),
    of("write a slice", write_slice, SHAPE),
    of("write every second element", write_strided, SHAPE),
    of("write rows", write_row, SHAPE),
    of("write through a view", write_through_view, (3, 4)),
    of("write through dropout", write_through_dropout, (3, 4)),
    of("write after a view was taken", write_after_view, (3, 4)),
    of("write after the old value was read", write_after_reading, (3, 4)),
    of("write to a part", write_to_parts, (3, 4)),
    of("write to an input", lambda x: (functional.relu6(x * 5, inplace=True), x.relu_()), (3, 4)),
    of("write into a new tensor", fill_buffer, (2, 3)),
    of("slice_scatter of all", lambda x: torch.slice_scatter(x, x * 2, 1), SHAPE),
    of("write beyond the end", write_nothing, (3, 4)),
    of("select_scatter", lambda x: torch.select_scatter(x, x[:, 0] * 3, 1, -1), (3, 4)),
    of("fill", lambda x: torch.fill(x, 2.5) + x, SHAPE),
    of(
        "fill with an integer that no float is",
        lambda x: torch.fill(x, 2**53 + 1) - 2**53 + x,
        INTS,
    ),
    of("fill by a tensor", lambda x: torch.fill(x, x[0, 0, 0, 0]) * x, SHAPE),
    of("fill_ then use", lambda x: (x * 1).fill_(3) + x, SHAPE),
    of("copy of another type", lambda x, i: torch.ops.aten.copy(x, i), (2, 3), INTS),
    of("zeros_like", lambda x: torch.zeros_like(x) + x, SHAPE),
    of("ones_like", lambda x: torch.ones_like(x, dtype=torch.int64), SHAPE),
    of("full_like", lambda x: torch.full_like(x, 3) * x, SHAPE),
    of("empty_like, filled", lambda x: torch.empty_like(x).fill_(1) + x, SHAPE),
    of("new_zeros", lambda x: x + x.new_zeros(5), SHAPE),
    of("new_ones", lambda x: x + x.new_ones(4, 1), SHAPE),
    of("new_full", lambda x: x + x.new_full((5,), 2), SHAPE),
    of("new_empty, filled", lambda x: x + x.new_empty(5).fill_(2), SHAPE),
    of("contiguous", lambda x: x.permute(0, 2, 3, 1).contiguous(), SHAPE),
    of("clone in channels_last", lambda x: x.clone(memory_format=torch.channels_last) + 1, SHAPE),
    of("detach and alias", lambda x: torch.ops.aten.alias(x.detach()) + 1, SHAPE),
    of("a literal tensor", lambda x: x + torch.tensor([1.0, 2, 3, 4, 5]), SHAPE),
    of("lift_fresh_copy", lambda x: torch.ops.aten.lift_fresh_copy(x) + 1, SHAPE),
    of("float to int and back", lambda x: (x * 10).to(torch.int64).float(), SHAPE),
    of("to bool", lambda x: x.to(torch.bool), INTS),
    of("to another's type", lambda x, y: x.to(y), INTS, (1,)),
    of("type_as", lambda x, y: x.type_as(y), INTS, (1,)),
    of("to a device", lambda x: x.to("cpu", torch.float64) + 1, SHAPE),
    of("to device and type", lambda x: torch.ops.aten.to.device(x, "cpu", torch.int32), SHAPE),
    of("to.dtype_layout", lambda x: torch.ops.aten.to.dtype_layout(x, dtype=torch.float64), SHAPE),
    of("_to_copy", lambda x: torch.ops.aten._to_copy(x, dtype=torch.int32), SHAPE),
    of("half inside", lambda x: (x.half() * 2).float(), (2, 3), tolerance=2e-3),
    of("a folded grid", lambda x: x + _grid(4, 5), SHAPE),
)


def _grid(height: int, width: int) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack((x, y), -1).float().mean(-1).sqrt().exp()


REFUSED = (
    refused("view as another type", lambda x: x.view(torch.int32), (SHAPE,), "aten.view.dtype"),
    refused(
        "gather",
        lambda x: torch.gather(x, 0, torch.zeros(1, 3, 4, 5, dtype=torch.int64)),
        (SHAPE,),
        "GatherElements",
    ),
    refused(
        "index on distant axes",
        lambda x: x[INDEX % 2, :, INDEX],
        (SHAPE,),
        "GatherND",
        "neighbours",
    ),
    refused("index by two inputs", lambda x, i: x[i, i], (SHAPE, torch.tensor([0, 1])), "GatherND"),
    refused(
        "index_put",
        lambda x: x.index_put((INDEX % 2,), torch.ones(4, 3, 4, 5)),
        (SHAPE,),
        "ScatterND",
    ),
    refused(
        "scatter",
        lambda x: x.scatter(0, torch.zeros(1, 3, 4, 5, dtype=torch.int64), 1.0),
        (SHAPE,),
        "ScatterElements",
    ),
    refused("sort", lambda x: torch.sort(x)[0], (SHAPE,), "Sort"),
    refused("topk", lambda x: torch.topk(x, 2)[0], (SHAPE,), "TopK"),
)
