"""Which shapes a model is compiled for: the user's, else a calibration sample's, else its own."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram

from formats.errors import UsageError
from kpuc.load import Model

Shape = tuple[int, ...]


def example_inputs(
    model: Model, input_shapes: Sequence[str] = (), sample: np.ndarray | None = None
) -> tuple[Any, ...] | dict[str, Any]:
    """Example inputs for capture: `--input-shape` texts, else the first calibration sample, else
    what the model itself says (its export, `example_input_array`, timm's default_cfg, Ultralytics'
    imgsz). UsageError, saying what to pass, if nothing is known.
    """
    if input_shapes:
        return parse_shapes(input_shapes)
    if sample is not None:
        return (torch.from_numpy(np.array(sample, order="C")),)
    own = _exported_inputs(model) if isinstance(model, ExportedProgram) else _own_inputs(model)
    if own is None:
        raise UsageError("the model does not say its input shape: pass --input-shape 1,3,224,224")
    return own


def parse_shapes(texts: Sequence[str]) -> tuple[Shape, ...] | dict[str, Shape]:
    """ "1,3,224,224" by position or "name:1,3,224,224" by name, all in one way."""
    parsed = [_parse_shape(text) for text in texts]
    names = [name for name, _ in parsed if name]
    if not names:
        return tuple(shape for _, shape in parsed)
    if len(set(names)) != len(parsed):
        raise UsageError("--input-shape: name every input once, or none")
    return dict(parsed)


def _parse_shape(text: str) -> tuple[str, Shape]:
    match = re.fullmatch(r"(?:(?P<name>[A-Za-z_]\w*):)?(?P<sizes>\d+(?:[,x]\d+)*)", text)
    if match is None or "0" in re.split("[,x]", match["sizes"]):
        raise UsageError(f"--input-shape {text!r}: expected positive sizes such as 1,3,224,224")
    return match["name"] or "", tuple(int(size) for size in re.split("[,x]", match["sizes"]))


def _exported_inputs(program: ExportedProgram) -> tuple[Any, ...] | dict[str, Any] | None:
    """Zeros of the exported shapes; a symbolic batch is 1, another symbolic size its example's."""
    values = {
        node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"
    }
    leaves = [values.get(str(name)) for name in program.graph_signature.user_inputs]
    tensors = [_zeros_like_export(leaf) for leaf in leaves]
    if program.call_spec.in_spec is None or any(tensor is None for tensor in tensors):
        return None
    arguments, keywords = torch.utils._pytree.tree_unflatten(tensors, program.call_spec.in_spec)
    if keywords:
        names = [str(name) for name in program.graph_signature.user_inputs]
        return dict(zip(names, tensors, strict=True))
    return tuple(arguments)


def _zeros_like_export(value: Any) -> torch.Tensor | None:
    if not isinstance(value, torch.Tensor):
        return None
    sizes = []
    for axis, size in enumerate(value.shape):
        symbolic = not isinstance(size, int)
        sizes.append(1 if symbolic and axis == 0 else int(size))
    return torch.zeros(sizes, dtype=value.dtype)


def _own_inputs(module: nn.Module) -> tuple[Any, ...] | dict[str, Any] | None:
    example = getattr(module, "example_input_array", None)
    if isinstance(example, torch.Tensor):
        return (example,)
    if isinstance(example, (tuple, dict)) and example:
        return example
    for name in ("pretrained_cfg", "default_cfg"):
        size = _entry(getattr(module, name, None), "input_size")
        if size is not None:
            return ((1, *(int(n) for n in size)),)
    return _ultralytics_input(module)


def _ultralytics_input(module: nn.Module) -> tuple[Any, ...] | None:
    """Detection models carry the training arguments and their yaml."""
    imgsz = getattr(module, "imgsz", None) or _entry(getattr(module, "args", None), "imgsz")
    if imgsz is None:
        return None
    height, width = (imgsz, imgsz) if isinstance(imgsz, int) else tuple(imgsz)[:2]
    yaml = getattr(module, "yaml", None)
    channels = (_entry(yaml, "channels") or _entry(yaml, "ch") or 3) if yaml else 3
    return ((1, int(channels), int(height), int(width)),)


def _entry(holder: Any, key: str) -> Any:
    return holder.get(key) if isinstance(holder, Mapping) else getattr(holder, key, None)
