"""One of two programs being matched: who reads what, and which ops have found a partner."""

from collections.abc import Iterable

from formats.program import KPUOp, KPUProgram

Mark = int | str  # the group of an op, or an input or output of the program


class Side:
    """The ops of one program and, while matching goes on, the group that each is in."""

    def __init__(self, program: KPUProgram) -> None:
        self.ops = program.get_ops_in_order()
        self.group: dict[str, int] = {}
        self.sources = {op.id: {op.id, *op.fused_with} for op in self.ops}
        self.shapes = {
            op.id: tuple(program.tensors[i].shape for i in op.output_ids) for op in self.ops
        }
        self._by_id = {op.id: op for op in self.ops}
        makers = {tensor_id: op.id for op in self.ops for tensor_id in op.output_ids}
        inputs = {tensor_id: f"input {k}" for k, tensor_id in enumerate(program.input_ids)}
        self._before: dict[str, list[str]] = {}
        self._after: dict[str, list[str]] = {op.id: [] for op in self.ops}
        self._ends: dict[str, list[str]] = {op.id: [] for op in self.ops}
        for op in self.ops:
            read = [makers.get(i) or inputs.get(i) for i in op.input_ids]
            self._before[op.id] = [place for place in read if place is not None]
            for place in self._before[op.id]:
                if place in self._after:
                    self._after[place].append(op.id)
        for k, tensor_id in enumerate(program.output_ids):
            if tensor_id in makers:
                self._ends[makers[tensor_id]].append(f"output {k}")

    def open(self) -> list[KPUOp]:
        """Ops without a partner yet, in scheduled order."""
        return [op for op in self.ops if op.id not in self.group]

    def open_of(self, ops: Iterable[KPUOp]) -> list[KPUOp]:
        """Those of some ops without a partner, each once."""
        return list({op.id: op for op in ops if op.id not in self.group}.values())

    def makers(self, op: KPUOp) -> list[KPUOp]:
        """The ops whose results it reads."""
        return [self._by_id[i] for i in self._before[op.id] if i in self._by_id]

    def readers(self, op: KPUOp) -> list[KPUOp]:
        """The ops that read its results."""
        return [self._by_id[i] for i in self._after[op.id]]

    def marks_before(self, op: KPUOp) -> tuple[Mark, ...] | None:
        """Groups that it reads from, in order, or inputs of the program; None if one is open."""
        return self._marks(self._before[op.id])

    def marks_after(self, op: KPUOp) -> tuple[Mark, ...] | None:
        """Groups that read it, in no order, or outputs of the program; None if one is open."""
        marks = self._marks([*self._after[op.id], *self._ends[op.id]])
        return None if marks is None else tuple(sorted(marks, key=str))

    def _marks(self, places: Iterable[str]) -> tuple[Mark, ...] | None:
        marks: list[Mark] = []
        for place in places:
            if place in self._by_id and place not in self.group:
                return None
            marks.append(self.group.get(place, place))
        return tuple(marks) or None
