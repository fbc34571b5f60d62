"""What a row of the module cases is: a small model with its inputs, or one that must be refused."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


class Function(nn.Module):
    """A function of tensors as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *arguments: Any) -> Any:
        return self.function(*arguments)


@dataclass(frozen=True)
class ModuleCase:
    """`make` gives the module (or a function of tensors); inputs are tensors or float32 shapes."""

    name: str
    make: Callable[[], nn.Module] | None
    inputs: tuple[Any, ...]
    function: Callable[..., Any] | None = None
    tolerance: float = 1e-5

    def module(self) -> nn.Module:
        """The module in eval mode, with the same weights every time."""
        torch.manual_seed(0)
        module = Function(self.function) if self.make is None else self.make()
        for part in module.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is not None:
                part.running_mean.normal_()
                part.running_var.uniform_(0.2, 2)
                if part.affine:
                    nn.init.uniform_(part.weight, 0.5, 2)
                    nn.init.normal_(part.bias)
        return module.eval()

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """The inputs; a shape stands for normally distributed values."""
        generator = torch.Generator().manual_seed(1)
        return tuple(
            given if isinstance(given, torch.Tensor) else torch.randn(given, generator=generator)
            for given in self.inputs
        )


@dataclass(frozen=True)
class RefusedCase:
    """A module that must not compile: the op names it is refused for, and words of the reason."""

    case: ModuleCase
    ops: Sequence[str]
    words: str = ""


def of(
    name: str, function: Callable[..., Any], *inputs: Any, tolerance: float = 1e-5
) -> ModuleCase:
    """A case of a plain function."""
    return ModuleCase(name, None, inputs, function, tolerance)


def module(name: str, make: Callable[[], nn.Module], *inputs: Any) -> ModuleCase:
    """A case of a module that `make` builds."""
    return ModuleCase(name, make, inputs)


def refused(
    name: str, function: Callable[..., Any], inputs: tuple[Any, ...], op: str, words: str = ""
) -> RefusedCase:
    """A plain function that is refused for one op."""
    return RefusedCase(of(name, function, *inputs), [op], words)
