"""Cases of pooling and resampling."""

import functools

import torch
from torch import nn
from torch.nn import functional

from tests.kpuc.module_case import ModuleCase, module, of, refused

IMAGE = (2, 3, 11, 10)


def pool(name: str, kind: type[nn.Module], *arguments: object, **options: object) -> ModuleCase:
    shape = options.pop("shape", IMAGE)
    return module(f"{kind.__name__} {name}", functools.partial(kind, *arguments, **options), shape)


CASES: tuple[ModuleCase, ...] = (
    pool("plain", nn.MaxPool2d, 2),
    pool("padded", nn.MaxPool2d, 3, 2, 1),
    pool("dilated", nn.MaxPool2d, 2, 1, 1, dilation=(2, 3)),
    pool("ceil_mode", nn.MaxPool2d, 3, 2, ceil_mode=True),
    pool("ceil_mode, padded", nn.MaxPool2d, (3, 2), (2, 3), 1, ceil_mode=True),
    pool("of one image", nn.MaxPool2d, 2, shape=(3, 8, 8)),
    pool("1-D", nn.MaxPool1d, 3, 2, 1, shape=(2, 3, 12)),
    pool("3-D", nn.MaxPool3d, 2, shape=(1, 2, 4, 5, 6)),
    of(
        "max_pool2d_with_indices",
        lambda x: functional.max_pool2d(x, 2, return_indices=True)[0],
        IMAGE,
    ),
    of(
        "max_pool3d_with_indices",
        lambda x: functional.max_pool3d(x, 2, return_indices=True)[0],
        (1, 2, 4, 4, 4),
    ),
    pool("plain", nn.AvgPool2d, 2),
    pool("padded", nn.AvgPool2d, 3, 2, 1),
    pool("padding not counted", nn.AvgPool2d, 3, 2, 1, count_include_pad=False),
    pool("ceil_mode", nn.AvgPool2d, 3, 2, 1, ceil_mode=True),
    pool("ceil_mode, not counted", nn.AvgPool2d, 3, 2, 1, ceil_mode=True, count_include_pad=False),
    pool("divisor", nn.AvgPool2d, (2, 3), (2, 3), divisor_override=4),
    pool("divisor, padded, ceil_mode", nn.AvgPool2d, 3, 2, 1, True, divisor_override=7),
    pool("of one image", nn.AvgPool2d, 3, shape=(3, 8, 8)),
    pool("1-D", nn.AvgPool1d, 3, 2, 1, ceil_mode=True, count_include_pad=False, shape=(2, 3, 12)),
    pool("3-D", nn.AvgPool3d, (2, 3, 2), divisor_override=5, shape=(1, 2, 4, 6, 5)),
    pool("to 1", nn.AdaptiveAvgPool2d, 1),
    pool("17 to 7", nn.AdaptiveAvgPool2d, 7, shape=(1, 2, 17, 17)),
    pool("even on one axis", nn.AdaptiveAvgPool2d, (4, 5), shape=(1, 2, 11, 10)),
    pool("equal but overlapping windows", nn.AdaptiveAvgPool2d, (2, 2), shape=(1, 2, 5, 6)),
    pool("to more", nn.AdaptiveAvgPool2d, (7, 3), shape=(1, 2, 3, 3)),
    pool("None keeps an axis", nn.AdaptiveAvgPool2d, (None, 2)),
    pool("to 1 on one axis", nn.AdaptiveAvgPool2d, (1, 3)),
    pool("of one image", nn.AdaptiveAvgPool2d, 3, shape=(2, 7, 8)),
    pool("", nn.AdaptiveAvgPool1d, 5, shape=(2, 3, 13)),
    pool("", nn.AdaptiveAvgPool3d, (2, 3, 1), shape=(1, 2, 5, 7, 4)),
    pool("", nn.AdaptiveMaxPool1d, 4, shape=(2, 3, 12)),
    pool("uneven", nn.AdaptiveMaxPool2d, (3, 4)),
    pool("", nn.AdaptiveMaxPool3d, 2, shape=(1, 2, 5, 4, 6)),
    of("nearest ×2", lambda x: functional.interpolate(x, scale_factor=2), IMAGE),
    of("nearest ×1.7", lambda x: functional.interpolate(x, scale_factor=1.7), IMAGE),
    of(
        "nearest ×1.7 with sizes recomputed",
        lambda x: functional.interpolate(x, scale_factor=1.7, recompute_scale_factor=True),
        IMAGE,
    ),
    of("nearest to a size", lambda x: functional.interpolate(x, size=(5, 23)), IMAGE),
    of("nearest to the same size", lambda x: functional.interpolate(x, size=(11, 10)), IMAGE),
    of("nearest 1-D", lambda x: functional.interpolate(x, scale_factor=3), (2, 3, 5)),
    of("nearest 3-D", lambda x: functional.interpolate(x, scale_factor=2), (1, 2, 3, 2, 4)),
    of(
        "nearest-exact 1-D",
        lambda x: functional.interpolate(x, size=8, mode="nearest-exact"),
        (2, 3, 5),
    ),
    of(
        "nearest-exact",
        lambda x: functional.interpolate(x, size=(7, 24), mode="nearest-exact"),
        IMAGE,
    ),
    of(
        "nearest-exact 3-D",
        lambda x: functional.interpolate(x, size=(4, 5, 3), mode="nearest-exact"),
        (1, 2, 3, 2, 4),
    ),
    of("upsample_nearest1d", lambda x: torch.ops.aten.upsample_nearest1d(x, [7], 1.4), (2, 3, 5)),
    of(
        "upsample_nearest2d",
        lambda x: torch.ops.aten.upsample_nearest2d(x, [18, 17], 1.7, 1.7),
        IMAGE,
    ),
    of(
        "upsample_nearest3d",
        lambda x: torch.ops.aten.upsample_nearest3d(x, [6, 4, 8]),
        (1, 2, 3, 2, 4),
    ),
    of("bilinear ×2", lambda x: functional.interpolate(x, scale_factor=2, mode="bilinear"), IMAGE),
    of(
        "bilinear with aligned corners",
        lambda x: functional.interpolate(x, size=(23, 7), mode="bilinear", align_corners=True),
        IMAGE,
    ),
    of(
        "bilinear ×0.6",
        lambda x: functional.interpolate(x, scale_factor=0.6, mode="bilinear"),
        IMAGE,
    ),
    of("linear", lambda x: functional.interpolate(x, size=9, mode="linear"), (2, 3, 5)),
    of(
        "trilinear",
        lambda x: functional.interpolate(x, size=(4, 5, 3), mode="trilinear"),
        (1, 2, 3, 2, 4),
    ),
)

REFUSED = (
    refused(
        "indices",
        lambda x: functional.max_pool2d(x, 2, return_indices=True),
        (IMAGE,),
        "MaxPool",
        "return_indices",
    ),
    refused(
        "adaptive indices",
        lambda x: functional.adaptive_max_pool2d(x, 2, return_indices=True),
        (IMAGE,),
        "MaxPool",
        "return_indices",
    ),
    refused(
        "antialias",
        lambda x: functional.interpolate(x, size=(5, 5), mode="bilinear", antialias=True),
        (IMAGE,),
        "Resize(antialias)",
    ),
    refused(
        "bicubic antialias",
        lambda x: functional.interpolate(x, size=(5, 5), mode="bicubic", antialias=True),
        (IMAGE,),
        "Resize(antialias)",
    ),
    refused(
        "bicubic",
        lambda x: functional.interpolate(x, size=(5, 5), mode="bicubic"),
        (IMAGE,),
        "Resize",
    ),
    refused("lp pool", lambda x: functional.lp_pool2d(x, 3.0, 2), (IMAGE,), "Sign"),
    refused("local response norm", lambda x: functional.local_response_norm(x, 2), (IMAGE,), "Pow"),
    refused(
        "grid sample",
        lambda x, g: functional.grid_sample(x, g, align_corners=False),
        (IMAGE, (2, 4, 4, 2)),
        "GridSample",
    ),
)
