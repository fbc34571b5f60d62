"""Reads .pt and .pth files: modules, checkpoints, state_dicts and TorchScript."""

import pickle
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from formats.errors import FileError, KPUError, TrustError
from kpuc.trust import allow_list

# Where checkpoints keep the module: the averaged weights first, as Ultralytics does.
_MODULE_KEYS = ("ema", "model", "module", "net", "network")
_STATE_DICT_KEYS = ("state_dict", "model_state_dict", "model_state", "ema", "model", "net")


def read_pickle(path: Path, trust_pickle: bool, own_packages: Collection[str] = ()) -> Any:
    """What the file holds. TrustError if that takes running code the user has not agreed to."""
    try:
        return _content(path, trust_pickle, own_packages)
    except KPUError:
        raise
    except Exception as error:  # torch, zipfile and the pickle's own classes raise anything
        raise FileError(f"{path}: not a torch file ({_first_line(error)})") from None


def _content(path: Path, trust_pickle: bool, own_packages: Collection[str]) -> Any:
    if _is_torchscript(path):
        return _read_torchscript(path, trust_pickle)
    if trust_pickle:
        return _load(path, weights_only=False)
    if not zipfile.is_zipfile(path):
        return _load(path, weights_only=True)  # the format before torch 1.6: tensors only
    names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    allowed = allow_list(names, str(path), own_packages)
    with torch.serialization.safe_globals(allowed):
        return _load(path, weights_only=True)


def _load(path: Path, weights_only: bool) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=weights_only)
    except pickle.UnpicklingError as error:
        if weights_only and path.read_bytes()[:2] in (b"\x80\x02", b"\x80\x04", b"PK"):
            raise TrustError(
                f"{path}: its pickle does more than rebuild tensors and modules; "
                "pass --trust-pickle if you trust the file"
            ) from None
        raise FileError(f"{path}: not a torch file ({_first_line(error)})") from None
    except ModuleNotFoundError as error:
        raise FileError(f"{path}: it needs the package {error.name!r}, not installed") from None


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _read_torchscript(path: Path, trust_pickle: bool) -> Any:
    if not trust_pickle:
        raise TrustError(f"{path}: TorchScript carries code of its own: pass --trust-pickle")
    try:
        # torch.jit is not annotated
        return torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise FileError(f"{path}: not a TorchScript file: {_first_line(error)}") from None


def module_in(content: Any) -> nn.Module | None:
    """The module that a file holds, directly or in a checkpoint; None if there is none.

    Half-precision modules are computed in fp32, as every module is.
    """
    candidates = [content]
    if isinstance(content, Mapping):
        candidates = [content.get(key) for key in _MODULE_KEYS]
    for candidate in candidates:
        if isinstance(candidate, nn.Module):
            is_script = isinstance(candidate, torch.jit.ScriptModule)
            return candidate if is_script else candidate.float()
    return None


def state_dict_in(content: Any) -> Mapping[str, torch.Tensor] | None:
    """The state_dict that a file holds, directly or in a checkpoint; None if there is none."""
    if not isinstance(content, Mapping):
        return None
    for candidate in (content, *(content.get(key) for key in _STATE_DICT_KEYS)):
        if isinstance(candidate, Mapping) and _is_state_dict(candidate):
            return _without_wrapper(candidate)
    return None


def _is_state_dict(candidate: Mapping[Any, Any]) -> bool:
    return bool(candidate) and all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in candidate.items()
    )


def _without_wrapper(state: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """Names without the "module." that DataParallel puts before every one."""
    if all(name.startswith("module.") for name in state):
        return {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return state


def _first_line(error: BaseException) -> str:
    """torch's explanation; a KeyError's text is a key and explains nothing."""
    lines = str(error).strip().splitlines()
    return type(error).__name__ if not lines or isinstance(error, KeyError) else lines[0]
