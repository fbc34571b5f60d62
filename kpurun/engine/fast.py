"""The default engine: the reference's meaning on oneDNN's fp32 kernels, planned once at load.

It differs from the reference by the order of fp32 accumulation: by at most a unit in the last place
of the storage type, where a sum lies next to a rounding boundary. A run that makes an infinity or a
NaN is repeated by the reference, because the kernels do not all carry a NaN on as numpy does.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from formats.program import KPUProgram
from kpurun.engine import reference
from kpurun.engine.arithmetic import ABSENT, ieee_fp32, owned_tensor, round_in_place
from kpurun.engine.plan import make_plan
from kpurun.engine.storage import EngineResult, require_executable, weight_values


class FastEngine:
    """One loaded program: packed weights and prepared steps. `run` may be called many times."""

    def __init__(self, program: KPUProgram) -> None:
        require_executable(program)
        self._program = program
        with ieee_fp32():
            self._plan = make_plan(program, weight_values(program))

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by tensor id: float32 or exact integers. `inputs` are all inputs by tensor id."""
        return dict(self.execute(inputs).outputs)

    def execute(self, inputs: Mapping[str, np.ndarray]) -> EngineResult:
        """As `run`, with the first op whose result is not finite although its operands are."""
        with ieee_fp32():
            values, sums = self._run_steps(inputs)
            if self._needs_reference(sums):
                return reference.execute(self._program, inputs)
            return EngineResult(
                {i: _owned_array(values[self._plan.slots[i]]) for i in self._program.output_ids}
            )

    def _run_steps(self, inputs: Mapping[str, np.ndarray]) -> tuple[list[Tensor], list[Tensor]]:
        """All values that are kept; the sum of each input, then of each watched step's result."""
        values = list(self._plan.initial)
        sums = []
        for tensor in self._program.get_input_tensors():
            entered = round_in_place(owned_tensor(inputs[tensor.id]), tensor.dtype)
            values[self._plan.slots[tensor.id]] = entered
            sums.append(entered.sum(dtype=torch.float32))
        for step in self._plan.steps:
            results = step.run([values[slot] for slot in step.reads])
            for slot, result in zip(step.writes, results, strict=True):
                values[slot] = result
            if step.watched:
                sums.append(results[0].sum(dtype=torch.float32))
            for slot in step.releases:
                values[slot] = ABSENT
        return values, sums

    def _needs_reference(self, sums: list[Tensor]) -> bool:
        """Some op made an infinity or a NaN, or may have dropped a NaN that came to it.

        A sum is finite unless an element is not, or (bf16 only) the sum itself overflows: then the
        reference finds nothing, and only time is lost.
        """
        is_clean = not sums or bool(torch.stack(sums).isfinite().all())
        if is_clean and not self._plan.nonfinite_constants:
            return False
        are_finite = iter([bool(total.isfinite()) for total in sums])
        inputs = self._program.input_ids
        nonfinite = {tensor_id for tensor_id in inputs if not next(are_finite)}
        nonfinite |= self._plan.nonfinite_constants
        for step in self._plan.steps:
            came_in = not nonfinite.isdisjoint(step.op.input_ids)
            came_out = step.watched and not next(are_finite)
            if (came_out and not came_in) or (came_in and step.drops_nan):
                return True
            if came_in or came_out:
                nonfinite.update(step.op.output_ids)
        return False


def _owned_array(value: Tensor) -> np.ndarray:
    return np.array(value.numpy(), order="C")
