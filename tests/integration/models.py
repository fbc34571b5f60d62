"""Small models that the command-line tests name as `tests.integration.models:factory`."""

import sys

import torch
from torch import nn


class SmallNet(nn.Module):
    """A few layers of each kind, quick to compile: 3×16×16 in, 10 scores out."""

    example_input_array = torch.zeros(1, 3, 16, 16)

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.classifier = nn.Linear(8 * 8 * 8, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(image).flatten(1))


class WideNet(nn.Module):
    """One fully connected layer of 16 million weights."""

    example_input_array = torch.zeros(1, 4096)

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4096, 4096)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.layer(features)


class NormNet(nn.Module):
    """Two ops that the machine does not have."""

    example_input_array = torch.zeros(1, 8, 4, 4)

    def __init__(self) -> None:
        super().__init__()
        self.group = nn.GroupNorm(2, 8)
        self.instance = nn.InstanceNorm2d(8)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.instance(self.group(image))


class ScalesNet(nn.Module):
    """y0 = x0, y1 = (1 + 2^-12) · x1, of which FP16 makes x1."""

    example_input_array = torch.zeros(1, 2)

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2, bias=False)
        self.layer.weight.data = torch.tensor([[1.0, 0.0], [0.0, 1 + 2.0**-12]])

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.layer(features)


class ChainNet(nn.Module):
    """Three convolutions, one behind the other."""

    example_input_array = torch.zeros(1, 3, 12, 12)

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.third = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.third(self.second(self.first(image).relu()).relu())


class LeavingNet(nn.Module):
    """Calls what ends a process, as a script that was never meant as a module does."""

    example_input_array = torch.zeros(1, 3)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        sys.exit("that is all")


class OwnError(Exception):
    """No class that anybody else knows."""


def leaving() -> nn.Module:
    sys.exit(3)


def broken() -> nn.Module:
    raise OwnError("first line\nsecond line")


def talkative() -> nn.Module:
    print("building the model")
    return small()


def small() -> nn.Module:
    torch.manual_seed(0)
    return SmallNet().eval()


def wide() -> nn.Module:
    torch.manual_seed(0)
    return WideNet().eval()


def scales() -> nn.Module:
    return ScalesNet().eval()


def chain() -> nn.Module:
    torch.manual_seed(0)
    return ChainNet().eval()


def uneven() -> nn.Module:
    """The chain, every other channel of its first convolution 16 times smaller and made up for."""
    module = ChainNet().eval()
    factors = torch.tensor([1.0, 1 / 16] * 4)
    torch.manual_seed(0)
    for layer in (module.first, module.second, module.third):
        layer.reset_parameters()
    module.first.weight.data *= factors[:, None, None, None]
    module.first.bias.data *= factors
    module.second.weight.data /= factors[:, None, None]
    return module


def norms() -> nn.Module:
    return NormNet().eval()
