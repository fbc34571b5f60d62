"""Where a captured node comes from: the module's path and the user's own source line."""

import re
import sys
import sysconfig
from pathlib import Path

import torch
from torch.fx import Node

_FRAME = re.compile(
    r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+), in .*\n(?P<code>[^\n]*)', re.M
)
_A_TORCH = re.compile(r"/(site|dist)-packages/torch/")  # of the computer that exported a .pt2
_NOT_THE_USERS = (
    str(Path(torch.__file__).parent),
    str(Path(__file__).parent),
    sysconfig.get_paths()["stdlib"] + "/contextlib.py",
)


def module_path(node: Node) -> str:
    """The innermost module that the node belongs to: "layer1.0.conv1", or "" for the root."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [entry[0] for entry in stack.values()]
    return clean_path(paths[-1]) if paths else ""


def clean_path(dynamo_name: str) -> str:
    """Dynamo's spelling of a module or tensor as the user spells it.

    "L['self']._modules['layer1']._modules['0']._parameters['weight']" -> "layer1.0.weight"
    """
    without_root = re.sub(r"^[LG]\['[^']*'\]", "", dynamo_name)
    dotted = re.sub(r"\._(modules|parameters|buffers)\['([^']*)'\]", r".\2", without_root)
    dotted = re.sub(r"\[['\"]?([^'\"\]]*)['\"]?\]", r".\1", dotted)
    return dotted.removeprefix(".").removeprefix("_orig_mod.")


def user_source(node: Node) -> str:
    """ "file:line: code" of the deepest frame that is the user's, or "" if there is none."""
    return deepest_frame(node.meta.get("stack_trace") or "")


def deepest_frame(stack_trace: str) -> str:
    """The last user frame of a formatted traceback as "file:line: code"."""
    found = ""
    for frame in _FRAME.finditer(stack_trace):
        file = frame["file"]
        if file.startswith((*_NOT_THE_USERS, "<")) or _A_TORCH.search(file):
            continue
        found = f"{short_path(file)}:{frame['line']}: {frame['code'].strip()}"
    return found


def short_path(file: str) -> str:
    """The path as an import sees it: relative to the sys.path entry that holds it."""
    roots = {Path(entry or ".").resolve() for entry in sys.path}
    path = Path(file)
    holding = [root for root in roots if path.is_relative_to(root)]
    if not holding:
        return file
    return str(path.relative_to(max(holding, key=lambda root: len(root.parts))))
