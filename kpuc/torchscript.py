"""TorchScript modules: Dynamo does not look inside them, torch's own converter does."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch._export.converter import TS2EPConverter
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from formats.errors import CompilationError
from kpuc.failures import EXPORT_ERRORS, MODEL_ERRORS, export_failure, model_failure
from kpuc.trace import quiet


def exported_from_torchscript(
    module: torch.jit.ScriptModule, arguments: Sequence[Any], keywords: Mapping[str, Any]
) -> ExportedProgram:
    """The module in eval mode as an exported program, checked against it on the example inputs.

    CompilationError if it cannot be converted, or converts to something else.
    """
    was_training = module.training
    module.eval()
    try:
        return _converted(module, tuple(arguments), dict(keywords))
    finally:
        module.train(was_training)


def _converted(
    module: torch.jit.ScriptModule, arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> ExportedProgram:
    try:
        expected = module(*arguments, **keywords)
    except MODEL_ERRORS as error:
        raise model_failure(error) from error
    with quiet(), _without_advice(), torch.no_grad():
        try:
            program = TS2EPConverter(module, arguments, keywords).convert()
            got = program.module()(*arguments, **keywords)
        except (*EXPORT_ERRORS, LookupError, NotImplementedError) as error:
            raise export_failure(error) from error
    pairs = zip(pytree.tree_leaves(expected), pytree.tree_leaves(got), strict=True)
    if not all(_agree(*pair) for pair in pairs):
        raise CompilationError(
            "this TorchScript module does not survive conversion; export the original module with "
            "torch.export.save instead"
        )
    return program


def _agree(expected: Any, got: Any) -> bool:
    if not isinstance(expected, torch.Tensor) or not isinstance(got, torch.Tensor):
        return bool(expected == got)
    same_type = expected.shape == got.shape and expected.dtype == got.dtype
    return same_type and torch.allclose(expected, got, equal_nan=True)


@contextmanager
def _without_advice() -> Iterator[None]:
    """The converter asks for dynamic sizes and then warns that ours are fixed."""
    logger = logging.getLogger("torch._export.non_strict_utils")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
