"""YOLOv8n, the detector, with Ultralytics' state_dict keys and eval outputs."""

import math

import torch
from torch import Tensor, nn

IMAGE_SIZE = 640
STRIDES = (8, 16, 32)
CLASSES = 80
BINS = 16  # a box side is a distribution over this many distances ("reg_max")


class Conv(nn.Module):
    """Convolution with "same" padding, BatchNorm, SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class Bottleneck(nn.Module):
    """Two 3×3 convolutions, beside a shortcut in the backbone and without one in the neck."""

    def __init__(self, channels: int, shortcut: bool) -> None:
        super().__init__()
        self.cv1 = Conv(channels, channels, 3)
        self.cv2 = Conv(channels, channels, 3)
        self.has_shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        out = self.cv2(self.cv1(x))
        return x + out if self.has_shortcut else out


class C2f(nn.Module):
    """Half of the channels runs through bottlenecks; every intermediate result is concatenated."""

    def __init__(self, inputs: int, outputs: int, repeats: int, shortcut: bool = False) -> None:
        super().__init__()
        hidden = outputs // 2
        self.cv1 = Conv(inputs, 2 * hidden)
        self.cv2 = Conv((2 + repeats) * hidden, outputs)
        self.m = nn.ModuleList(Bottleneck(hidden, shortcut) for _ in range(repeats))

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.cv1(x).chunk(2, 1))
        for bottleneck in self.m:
            parts.append(bottleneck(parts[-1]))
        return self.cv2(torch.cat(parts, 1))


class SPPF(nn.Module):
    """Spatial pyramid pooling: three 5×5 max-pools in a row see 5, 9 and 13 pixels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        hidden = inputs // 2
        self.cv1 = Conv(inputs, hidden)
        self.cv2 = Conv(4 * hidden, outputs)
        self.m = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.cv1(x)]
        for _ in range(3):
            parts.append(self.m(parts[-1]))
        return self.cv2(torch.cat(parts, 1))


class DFL(nn.Module):
    """Expected distance of a distribution over `BINS` distances (arXiv:2006.04388)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(BINS, 1, 1, bias=False).requires_grad_(False)
        self.conv.weight.data[:] = torch.arange(BINS, dtype=torch.float32).view(1, BINS, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 4·BINS, A) logits -> (N, 4, A) distances in units of the stride."""
        batch, _, anchors = x.shape
        bins = x.view(batch, 4, BINS, anchors).transpose(2, 1).softmax(1)
        return self.conv(bins).view(batch, 4, anchors)


class Detect(nn.Module):
    """Box and class branches on three feature maps.

    Returns the decoded (N, 4 + classes, A): centre x, y, width, height in pixels, then class
    probabilities; and the raw heads (N, 4·BINS + classes, H, W), one per feature map.
    """

    def __init__(self, classes: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        box, cls = max(16, channels[0] // 4, 4 * BINS), max(channels[0], min(classes, 100))
        self.classes = classes
        self.cv2 = nn.ModuleList(
            nn.Sequential(Conv(c, box, 3), Conv(box, box, 3), nn.Conv2d(box, 4 * BINS, 1))
            for c in channels
        )
        self.cv3 = nn.ModuleList(
            nn.Sequential(Conv(c, cls, 3), Conv(cls, cls, 3), nn.Conv2d(cls, classes, 1))
            for c in channels
        )
        self.dfl = DFL()
        self.set_biases()

    def set_biases(self) -> None:
        """Biases as Ultralytics starts training with: about 5 objects per 640×640 image."""
        for box, cls, stride in zip(self.cv2, self.cv3, STRIDES, strict=True):
            nn.init.constant_(box[-1].bias, 2.0)
            cells = (IMAGE_SIZE / stride) ** 2
            nn.init.constant_(cls[-1].bias, math.log(5 / self.classes / cells))

    def forward(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, list[Tensor]]:
        heads = [
            torch.cat((box(x), cls(x)), 1)
            for x, box, cls in zip(maps, self.cv2, self.cv3, strict=True)
        ]
        flat = torch.cat([head.flatten(2) for head in heads], 2)
        distances, scores = flat.split((4 * BINS, self.classes), 1)
        centres, strides = anchor_grid([(head.shape[2], head.shape[3]) for head in heads])
        boxes = boxes_from_distances(self.dfl(distances), centres) * strides
        return torch.cat((boxes, scores.sigmoid()), 1), heads


def anchor_grid(sizes: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Cell centres (1, 2, A) in units of the stride, and strides (1, A), of all feature maps."""
    centres, strides = [], []
    for (height, width), stride in zip(sizes, STRIDES, strict=True):
        y = torch.arange(height, dtype=torch.float32) + 0.5
        x = torch.arange(width, dtype=torch.float32) + 0.5
        grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
        centres.append(torch.stack((grid_x, grid_y)).view(2, -1))
        strides.append(torch.full((1, height * width), float(stride)))
    return torch.cat(centres, 1).unsqueeze(0), torch.cat(strides, 1)


def boxes_from_distances(distances: Tensor, centres: Tensor) -> Tensor:
    """(N, 4, A) left, top, right, bottom from a centre -> centre x, y, width, height."""
    before, after = distances.chunk(2, 1)
    top_left, bottom_right = centres - before, centres + after
    return torch.cat(((top_left + bottom_right) / 2, bottom_right - top_left), 1)


class YOLOv8n(nn.Module):
    """(N, 3, H, W) RGB in [0, 1], H and W multiples of 32 -> (decoded, [head8, head16, head32]).

    Layers are numbered as in Ultralytics' yolov8.yaml, scale n; 4.4 GMAC at 640×640.
    """

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.model = nn.ModuleList(
            [
                Conv(3, 16, 3, 2),
                Conv(16, 32, 3, 2),
                C2f(32, 32, 1, shortcut=True),
                Conv(32, 64, 3, 2),
                C2f(64, 64, 2, shortcut=True),
                Conv(64, 128, 3, 2),
                C2f(128, 128, 2, shortcut=True),
                Conv(128, 256, 3, 2),
                C2f(256, 256, 1, shortcut=True),
                SPPF(256, 256),
                nn.Upsample(scale_factor=2.0, mode="nearest"),
                nn.Identity(),  # concatenation with layer 6
                C2f(384, 128, 1),
                nn.Upsample(scale_factor=2.0, mode="nearest"),
                nn.Identity(),  # concatenation with layer 4
                C2f(192, 64, 1),
                Conv(64, 64, 3, 2),
                nn.Identity(),  # concatenation with layer 12
                C2f(192, 128, 1),
                Conv(128, 128, 3, 2),
                nn.Identity(),  # concatenation with layer 9
                C2f(384, 256, 1),
                Detect(classes, (64, 128, 256)),
            ]
        )

    @property
    def example_input_array(self) -> Tensor:
        """An input of the size the network is meant for; kpuc reads its shape."""
        return torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        layer = self.model
        p3 = layer[4](layer[3](layer[2](layer[1](layer[0](x)))))
        p4 = layer[6](layer[5](p3))
        p5 = layer[9](layer[8](layer[7](p4)))
        up4 = layer[12](torch.cat((layer[10](p5), p4), 1))
        out3 = layer[15](torch.cat((layer[13](up4), p3), 1))
        out4 = layer[18](torch.cat((layer[16](out3), up4), 1))
        out5 = layer[21](torch.cat((layer[19](out4), p5), 1))
        return layer[22]((out3, out4, out5))


def yolov8n() -> YOLOv8n:
    """YOLOv8n in eval mode with the samples' deterministic weights (see samples.weights)."""
    from samples.weights import prepared_detector

    return prepared_detector(YOLOv8n())
