"""Reads .pt2 files without running anything in them.

torch.export.load unpickles sample inputs, weights and constants, evaluates guards and symbolic
shapes as Python, imports what pytree specs name, and writes names into generated code. So the
archive is read with torch's own reader, every string in it is checked against what it may be, and
only what passes is written to a new archive in memory, which is then loaded.
"""

import io
import json
import logging
import re
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from formats.errors import FileError, KPUError, TrustError

_MODEL = "models/model.json"
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_SAMPLE_INPUTS = "data/sample_inputs/model.pt"
_PLAIN_RECORDS = re.compile(r"(archive_format|archive_version|byteorder)")
_TENSOR_RECORDS = re.compile(r"data/(weights/weight|constants/tensor)_\d+")

_NAME = re.compile(r"[\w.\-]*")  # what may stand in generated code or name an attribute
_ATEN = re.compile(r"torch\.ops\.aten\.\w+\.\w+")
_BLOCKS = frozenset({"torch.ops.higher_order.wrap_with_set_grad_enabled"})
_OPERATORS = frozenset(
    f"_operator.{name}" for name in "getitem add sub mul floordiv mod eq ne lt le gt ge neg".split()
)
_WORD = (
    r"Symbol|positive|nonnegative|integer|True|False|Integer|Add|Mul|Pow|Max|Min|Mod|PythonMod"
    r"|FloorDiv|CleanDiv|CeilToInt|[su]\d+|\d+"
)
_EXPRESSION = re.compile(rf"(?:'[su]\d+'|\b(?:{_WORD})\b|[-+*/(),= ])*")
_TREE_TYPES = frozenset(
    {None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"}
)
_FREE_TEXT = frozenset({"as_string", "as_strings", "torch_version"})  # repr'd or never read
_KEPT_METADATA = ("stack_trace", "nn_module_stack")  # shown to people, never evaluated


def read_exported(path: Path, trust_pickle: bool) -> ExportedProgram:
    """The exported program; TrustError if the file holds more than ATen and plain tensors."""
    logger = logging.getLogger("torch.export")
    level = logger.level
    logger.setLevel(logging.ERROR)  # of a broken file it logs tracebacks before it raises
    try:
        source: Any = str(path) if trust_pickle else io.BytesIO(_plain_archive(path))
        return torch.export.load(source)
    except KPUError:
        raise
    except Exception as error:  # zipfile, json and torch raise anything
        raise FileError(f"{path}: not a program of torch.export: {_first_line(error)}") from None
    finally:
        logger.setLevel(level)


def _plain_archive(path: Path) -> bytes:
    """The archive again, with its checked parts only."""
    try:
        reader = torch._C.PyTorchFileReader(str(path))
        records = reader.get_all_records()
        if _MODEL not in records:
            raise FileError(f"{path}: no exported program in it (no {_MODEL})")
        model = json.loads(reader.get_record(_MODEL))
        configs = {name: json.loads(reader.get_record(name)) for name in _CONFIGS}
    except (RuntimeError, ValueError) as error:
        raise FileError(f"{path}: not a .pt2 archive: {_first_line(error)}") from None
    for name, config in configs.items():
        _check_payloads(path, name, config)
    content = {
        record: reader.get_record(record)
        for record in records
        if _PLAIN_RECORDS.fullmatch(record) or _TENSOR_RECORDS.fullmatch(record)
    }
    content |= {name: json.dumps(config).encode() for name, config in configs.items()}
    content[_MODEL] = json.dumps(_checked_model(path, model)).encode()
    content[_SAMPLE_INPUTS] = b""
    buffer = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(buffer)
    for record, data in content.items():
        writer.write_record(record, data, len(data))
    writer.write_end_of_file()
    return buffer.getvalue()


def _check_payloads(path: Path, name: str, config: Any) -> None:
    """Weights and constants must be raw tensors."""
    _check_strings(path, config)
    for tensor_name, payload in dict(config["config"]).items():
        record = f"{name.rsplit('/', 1)[0]}/{payload['path_name']}"
        if payload["use_pickle"] or not _TENSOR_RECORDS.fullmatch(record):
            _refuse(path, f"{tensor_name} is stored as a pickled or opaque object")


def _checked_model(path: Path, model: dict[str, Any]) -> dict[str, Any]:
    """The program's description without guards and with harmless strings only.

    Guards are Python source that torch would compile; the shapes they check are checked against the
    example inputs when the program is captured.
    """
    plain: dict[str, Any] = _without_metadata(model) | {"guards_code": []}
    _check_strings(path, plain)
    return plain


def _without_metadata(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_metadata(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: {k: str(item[k]) for k in _KEPT_METADATA if k in item}
        if key == "metadata" and isinstance(item, dict)
        else _without_metadata(item)
        for key, item in value.items()
    }


def _check_strings(path: Path, value: Any, key: str = "") -> None:
    """Every string in the description is what its place allows."""
    if isinstance(value, dict) and key != "metadata":
        for name, item in value.items():
            _check_string(path, "expr_str" if key == "range_constraints" else "", name)
            _check_strings(path, item, name)
    elif isinstance(value, list):
        for item in value:
            _check_strings(path, item, key)
    elif isinstance(value, str) and key not in _FREE_TEXT:
        _check_string(path, key, value)


def _check_string(path: Path, key: str, text: str) -> None:
    if key == "expr_str":
        if not _EXPRESSION.fullmatch(text):
            _refuse(path, f"the symbolic shape {text!r}")
    elif key in ("in_spec", "out_spec"):
        _check_tree(path, text)
    elif key in ("target", "as_operator"):
        _check_target(path, text)
    else:
        _check_name(path, text)


def _check_target(path: Path, target: str) -> None:
    """An ATen op, a size computed by Python's operators, a no_grad block, or a parameter's name."""
    is_name = _NAME.fullmatch(target) and not target.startswith(("torch.", "math.", "_operator."))
    if not (is_name or _ATEN.fullmatch(target) or target in _OPERATORS | _BLOCKS):
        _refuse(path, f"the operator {target!r}, which is not ATen")


def _check_name(path: Path, text: str) -> None:
    if not _NAME.fullmatch(text):
        _refuse(path, f"the name {text!r}")


def _check_tree(path: Path, text: str) -> None:
    """A pytree spec is JSON: [protocol, node]; a node names its type, context and children."""
    if not text:
        return
    try:
        nodes = [json.loads(text)[1]]
        while nodes:
            node = nodes.pop()
            if node["type"] not in _TREE_TYPES:
                _refuse(path, f"an input or output of type {node['type']!r}")
            nodes += node["children_spec"]
    except (ValueError, LookupError, TypeError):
        raise FileError(f"{path}: malformed description of inputs and outputs") from None


def _refuse(path: Path, what: str) -> None:
    raise TrustError(
        f"{path}: it contains {what}, which loading might execute; "
        "pass --trust-pickle if you trust the file"
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
