"""What torch says when a model cannot be captured, turned into one error a user can act on."""

import re
import traceback

import torch
from torch._dynamo.exc import TorchDynamoException

from formats.errors import CompilationError, KPUError, LimitError
from kpuc.source import deepest_frame

# What a model's own code may raise: anything, also its own classes, and sys.exit().
MODEL_ERRORS = (Exception, SystemExit)

_DATA_DEPENDENT = (
    "control flow or a shape depends on the values of a tensor; the machine runs one fixed "
    "program: use tensor operations that always run, or move the decision out of the model"
)
_NOT_TRACEABLE = (
    "torch.compile cannot capture this; remove it from forward, or move it out of the model"
)


def model_failure(error: BaseException) -> KPUError:
    """The model itself fails on the example input, before anything is captured."""
    if is_out_of_memory(error):
        return LimitError(
            "the model needs more memory than this computer has: pass a smaller --input-shape"
        )
    frames = traceback.format_exception(error)
    where = deepest_frame("".join(frames))
    reason = _first_line(str(error)) if str(error) else type(error).__name__
    return CompilationError(f"the model fails on its example input: {reason}{_at(where)}")


def is_out_of_memory(error: BaseException) -> bool:
    """Python's error, or torch's, which is told from others by its text alone."""
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error)


def one_line(error: BaseException) -> str:
    """The kind of an exception and what it says."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def capture_failure(error: TorchDynamoException) -> CompilationError:
    """Dynamo could not capture the model whole."""
    text = str(error)
    where = deepest_frame(text) or _stack_of(error)
    return CompilationError(f"the model cannot be captured: {_cause(text)}{_at(where)}")


def _cause(text: str) -> str:
    is_data_dependent = "data-dependent" in text.lower() or "data dependent" in text.lower()
    explanation = _DATA_DEPENDENT if is_data_dependent else _NOT_TRACEABLE
    return f"{explanation} (torch: {_first_line(text)})"


def _stack_of(error: TorchDynamoException) -> str:
    stack = getattr(error, "real_stack", None)
    return deepest_frame("".join(stack.format())) if stack else ""


def no_tensor(output: str, value: object) -> CompilationError:
    """An output of the model is something that a program cannot return."""
    return CompilationError(
        f"output {output!r} is of type {type(value).__name__}; a program returns tensors: "
        "return tensors, or tuples, lists and dicts of them"
    )


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return re.sub(r"\s+", " ", lines[0]) if lines else "no explanation"


def _at(where: str) -> str:
    return f"\n  {where}" if where else ""


def export_failure(error: Exception) -> CompilationError:
    """torch.export could not turn the captured graph into ATen."""
    where = deepest_frame(str(error)) or deepest_frame("".join(traceback.format_exception(error)))
    return CompilationError(f"the model cannot be exported: {_first_line(str(error))}{_at(where)}")


EXPORT_ERRORS = (RuntimeError, TypeError, ValueError, AssertionError, torch._dynamo.exc.UserError)
