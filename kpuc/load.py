"""What MODEL on the command line stands for: a file or a factory, as a module ready for capture."""

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.export import ExportedProgram

from formats.errors import FileError, UsageError
from kpuc.exported import read_exported
from kpuc.failures import MODEL_ERRORS, one_line
from kpuc.pickles import module_in, read_pickle, state_dict_in

Model = nn.Module | ExportedProgram
_SUFFIXES = (".pt2", ".pt", ".pth", ".safetensors")


@dataclass(frozen=True)
class LoadedModel:
    """A model and what to call it. `path` is None for a factory."""

    module: Model
    name: str
    path: Path | None


def load_model(
    target: str | Path, *, trust_pickle: bool = False, arch: str | None = None
) -> LoadedModel:
    """Load MODEL: a .pt2, .pt, .pth or .safetensors file, or "package.module:factory".

    arch: "package.module:factory" that builds the module a state_dict belongs to.
    Errors: FileError for a file that is missing, empty or not what its name says; TrustError if
    loading would run code from the file; UsageError otherwise.
    """
    text = os.fspath(target)
    path = Path(text)
    if not path.exists() and _is_factory(text):
        if arch is not None:
            raise UsageError(f"{text} builds a model itself: leave out --arch")
        return LoadedModel(build(text), text.split(":")[1], None)
    _check_file(path)
    if path.suffix == ".pt2":
        if arch is not None:
            raise UsageError(f"{path} is a whole program: leave out --arch")
        return LoadedModel(read_exported(path, trust_pickle), path.stem, path)
    return LoadedModel(_read_module(path, trust_pickle, arch), path.stem, path)


def _is_factory(text: str) -> bool:
    module, colon, factory = text.partition(":")
    names = [*module.split("."), *factory.split(".")]
    return bool(colon) and all(name.isidentifier() for name in names)


def _check_file(path: Path) -> None:
    if not path.exists():
        raise FileError(f"{path}: no such file")
    if not path.is_file():
        raise FileError(f"{path}: not a file")
    if path.stat().st_size == 0:
        raise FileError(f"{path}: the file is empty")
    if path.suffix not in _SUFFIXES:
        raise UsageError(
            f"{path}: a model is one of {', '.join(_SUFFIXES)} or package.module:factory"
        )


def _read_module(path: Path, trust_pickle: bool, arch: str | None) -> nn.Module:
    own_packages = []
    if arch is not None:
        own_packages = [arch.split(".")[0].split(":")[0]]
        _make_importable()
    if path.suffix == ".safetensors":
        content: Any = _read_safetensors(path)
    else:
        content = read_pickle(path, trust_pickle, own_packages)
    module = module_in(content)
    if module is not None:
        return module
    state = state_dict_in(content)
    if state is None:
        raise FileError(f"{path}: neither a module nor a state_dict is in it")
    if arch is None:
        raise UsageError(
            f"{path} holds weights only: say what they belong to with --arch package.module:factory"
        )
    return _with_weights(build(arch), state, path, arch)


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise FileError(f"{path}: not a safetensors file: {error}") from None


def _with_weights(module: nn.Module, state: Any, path: Path, arch: str) -> nn.Module:
    wanted = module.state_dict()
    missing = sorted(set(wanted) - set(state))
    unexpected = sorted(set(state) - set(wanted))
    misfits = sorted(
        name for name in set(state) & set(wanted) if state[name].shape != wanted[name].shape
    )
    for what, names in (
        ("has no", missing),
        ("has an unknown", unexpected),
        ("has another shape for", misfits),
    ):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise FileError(f"{path} does not fit {arch}: it {what} {names[0]!r}{more}")
    module.load_state_dict(state)
    return module


def build(factory: str) -> nn.Module:
    """Call "package.module:factory", the user's own code; the current directory is importable."""
    if not _is_factory(factory):
        raise UsageError(f"{factory!r} is not of the form package.module:factory")
    module_name, attribute = factory.split(":")
    _make_importable()
    try:
        found: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise UsageError(f"{factory}: cannot import {module_name}: {error}") from None
    except MODEL_ERRORS as error:
        raise UsageError(f"{factory}: importing {module_name} failed: {one_line(error)}") from error
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise UsageError(f"{factory}: {module_name} has no {attribute!r}")
        found = getattr(found, name)
    return found if isinstance(found, nn.Module) else _called(factory, found)


def _make_importable() -> None:
    """The user's own code in the current directory, as `python -m` does."""
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())


def _called(factory: str, function: Callable[[], Any]) -> nn.Module:
    if not callable(function):
        raise UsageError(f"{factory} is neither a module nor a function that makes one")
    needed = [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if needed:
        raise UsageError(f"{factory} needs arguments ({', '.join(needed)}); wrap it in a function")
    try:
        module = function()
    except MODEL_ERRORS as error:
        raise UsageError(f"{factory} failed: {one_line(error)}") from error
    if not isinstance(module, nn.Module):
        raise UsageError(f"{factory} made a {type(module).__name__}, not an nn.Module")
    return module
