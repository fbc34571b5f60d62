"""The default engine: the reference's meaning on oneDNN's kernels, planned once at load.

Floats differ from the reference by the order of fp32 accumulation: by at most a unit in the last
place of the storage type, where a sum lies next to a rounding boundary. Sums of codes are exact;
scaling them in fp32 may move a value across such a boundary, to the next code. A run that makes an
infinity or a NaN is repeated by the reference, because the kernels do not all carry a NaN on as
numpy does.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from formats.program import KPUProgram, KPUTensor
from formats.quantized import is_coded
from kpurun.engine import reference
from kpurun.engine.arithmetic import ABSENT, ieee_fp32, owned_tensor
from kpurun.engine.conversions import dequantized, prepare_store, quantized_image
from kpurun.engine.kernel import in_order
from kpurun.engine.onednn.trials import are_integer_kernels_exact
from kpurun.engine.plan import make_plan
from kpurun.engine.storage import EngineResult, weight_values

FINITE = torch.zeros(())  # the sum of an input that is codes


class FastEngine:
    """One loaded program: packed weights and prepared steps. `run` may be called many times."""

    def __init__(self, program: KPUProgram, *, integer_kernels: bool | None = None) -> None:
        """integer_kernels: whether products of codes may use oneDNN's; None asks the processor."""
        self._program = program
        if integer_kernels is None:
            integer_kernels = are_integer_kernels_exact()
        with ieee_fp32():
            self._plan = make_plan(program, weight_values(program), integer_kernels)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by tensor id: float32 or exact integers. `inputs` are all inputs by tensor id."""
        return dict(self.execute(inputs).outputs)

    def execute(self, inputs: Mapping[str, np.ndarray]) -> EngineResult:
        """As `run`, with the first op whose result is not finite although its operands are."""
        with ieee_fp32():
            values, sums = self._run_steps(inputs)
            if self._needs_reference(sums):
                return reference.execute(self._program, inputs)
            return EngineResult({i: self._output(i, values) for i in self._program.output_ids})

    def _output(self, tensor_id: str, values: list[Tensor]) -> np.ndarray:
        value, tensor = values[self._plan.slots[tensor_id]], self._program.tensors[tensor_id]
        return _owned_array(dequantized(value, tensor) if is_coded(tensor) else value)

    def _run_steps(self, inputs: Mapping[str, np.ndarray]) -> tuple[list[Tensor], list[Tensor]]:
        """All values that are kept; the sum of each input, then of each watched step's result."""
        values = list(self._plan.initial)
        sums = []
        for tensor in self._program.get_input_tensors():
            entered = _entered(inputs[tensor.id], tensor)
            values[self._plan.slots[tensor.id]] = entered
            sums.append(FINITE if is_coded(tensor) else entered.sum(dtype=torch.float32))
        for step in self._plan.steps:
            results, total = step.run([values[slot] for slot in step.reads])
            for slot, result in zip(step.writes, results, strict=True):
                values[slot] = result
            if total is not None:
                sums.append(total)
            for slot in step.releases:
                values[slot] = ABSENT
        return values, sums

    def _needs_reference(self, sums: list[Tensor]) -> bool:
        """Some op made an infinity or a NaN, or may have dropped a NaN that came to it.

        A sum is finite unless an element is not, or (bf16 only) the sum itself overflows: then the
        reference finds nothing, and only time is lost.
        """
        unknown = [total for total in sums if total is not FINITE]
        is_clean = not unknown or bool(torch.stack(unknown).isfinite().all())
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
                nonfinite.update(i for i in step.op.output_ids if not self._is_coded(i))
        return False

    def _is_coded(self, tensor_id: str) -> bool:
        return is_coded(self._program.tensors[tensor_id])


def _entered(array: np.ndarray, tensor: KPUTensor) -> Tensor:
    """What storage keeps of an input, in memory of its own."""
    if is_coded(tensor):
        readable = array if array.flags.writeable else array.copy()  # torch warns of the others
        return quantized_image(torch.from_numpy(np.ascontiguousarray(readable)), tensor)
    store = prepare_store(tensor)
    entered = owned_tensor(array)
    return entered if store is None else store(entered, True)


def _owned_array(value: Tensor) -> np.ndarray:
    array: np.ndarray = in_order(value).numpy()
    return array
