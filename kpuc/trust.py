"""What a pickle may do while it is loaded: build modules and tensors, and nothing else.

The rule. A pickle names every class and function that it will use. We let torch's restricted
unpickler use a name only if it is an nn.Module subclass (or functools.partial), found like this:

1. a module that is imported already, or whose code the user named, is looked at as it is;
2. otherwise the module must be a file of an installed distribution, in the place where that is
   installed, and this file, which we parse without running, must define a class of that name at its
   top level. Only then is it imported. A name alone can therefore import nothing but code that its
   user installed to be imported, and never a file that lies beside the model.

Everything else (functions, builtins, modules that run programs when they are built) is listed in a
TrustError, with nothing executed. What remains: the constructors and __setstate__ of installed
nn.Module classes run with arguments from the file.
"""

import ast
import functools
import importlib
import importlib.metadata
import json
import sys
from collections.abc import Collection, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import torch
from torch import nn

from formats.errors import TrustError

# Modules that carry a program of their own, which their state alone can replace.
_CARRY_CODE: tuple[type, ...] = (torch.jit.ScriptModule, torch.fx.GraphModule)


def allow_list(names: Sequence[str], file: str, own_packages: Collection[str] = ()) -> list[Any]:
    """(object, name) for each of the pickle's names; TrustError lists every name not allowed.

    names: "package.module.Class", as torch lists them; own_packages: top-level packages that the
    user named as theirs.
    """
    resolved = {name: _resolve(name, own_packages) for name in names}
    refused = [name for name, allowed in resolved.items() if allowed is None]
    if refused:
        raise TrustError(
            f"{file}: loading it would use {', '.join(sorted(refused))}; only torch and installed "
            "nn.Module classes load without trust. Pass --trust-pickle if you trust the file, or "
            "save a state_dict and pass --arch module:factory"
        )
    return [(allowed, name) for name, allowed in resolved.items()]


def _resolve(name: str, own_packages: Collection[str]) -> Any:
    """The class called `name` if the rule allows it, else None."""
    if name == "functools.partial":
        return functools.partial
    for module_name, class_name in _splits(name):
        if not _may_look(module_name, class_name, own_packages):
            continue
        found: Any = importlib.import_module(module_name)
        for part in class_name.split("."):
            found = getattr(found, part, None)
        is_module = isinstance(found, type) and issubclass(found, nn.Module)
        return found if is_module and not issubclass(found, _CARRY_CODE) else None
    return None


def _splits(name: str) -> list[tuple[str, str]]:
    """(module, class) for each place where the dotted name may end its module, longest first."""
    parts = name.split(".")
    return [(".".join(parts[:end]), ".".join(parts[end:])) for end in range(len(parts) - 1, 0, -1)]


def _may_look(module_name: str, class_name: str, own_packages: Collection[str]) -> bool:
    """Whether importing the module is allowed; never imports anything itself."""
    if module_name in sys.modules:
        return True
    source = _source_file(module_name)
    if source is None or not _defines_class(source, class_name.split(".")[0]):
        return False
    top = module_name.split(".")[0]
    return top in own_packages or any(source.is_relative_to(root) for root in _install_roots(top))


def _install_roots(package: str) -> list[Path]:
    """Directories that hold the distributions which provide a top-level package."""
    roots = []
    for name in importlib.metadata.packages_distributions().get(package, []):
        distribution = importlib.metadata.distribution(name)
        roots.append(Path(str(distribution.locate_file(""))).resolve())
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        if origin.get("dir_info", {}).get("editable"):
            roots.append(Path(unquote(urlparse(origin["url"]).path)).resolve())
    return roots


def _source_file(module_name: str) -> Path | None:
    """The module's source, found without importing its parents; a program (__main__) has none."""
    locations = None
    spec = None
    parts = module_name.split(".")
    if "__main__" in parts:
        return None
    for end in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:end]), locations)
        if spec is None:
            return None
        locations = spec.submodule_search_locations
    is_source = spec is not None and spec.origin is not None and spec.origin.endswith(".py")
    return Path(str(spec.origin)).resolve() if is_source and spec is not None else None


def _defines_class(source: Path, class_name: str) -> bool:
    try:
        tree = ast.parse(source.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return False
    return any(isinstance(node, ast.ClassDef) and node.name == class_name for node in tree.body)
