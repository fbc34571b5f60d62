"""Small programs built by hand, so that the machine is tested without the compiler."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from formats.codec import encode
from formats.precision import DType, KPUPrecision
from formats.program import EpilogueStage, KPUOp, KPUProgram, KPUTensor, MemoryLayout
from formats.tensors import pack
from kpurun import KPURuntime
from kpurun.ops import OPS, infer_types
from kpurun.ops.checks import type_of
from kpurun.ops.types import TensorType
from tests.op_case import OpCase

STORAGE = {
    KPUPrecision.FP16: DType.FP16,
    KPUPrecision.BF16: DType.BF16,
    KPUPrecision.POSIT8: DType.POSIT8,
    KPUPrecision.POSIT16: DType.POSIT16,
}
HOST_DTYPES = {
    DType.FP32: "float32",
    DType.INT32: "int32",
    DType.INT64: "int64",
    DType.BOOL: "bool",
}


# What `classifier` takes.
IMAGE = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)


class ProgramBuilder:
    """Collects tensors and ops in order; every tensor lies in DRAM, one after another.

    Names are ids. Methods return the id of the value they add.
    """

    def __init__(self, precision: KPUPrecision = KPUPrecision.FP16, name: str = "test") -> None:
        self.precision = precision
        self.name = name
        self._types: dict[str, TensorType] = {}
        self._tensors: dict[str, KPUTensor] = {}
        self._stored: dict[str, np.ndarray] = {}
        self._ops: list[KPUOp] = []

    def input(self, name: str, shape: Sequence[int], dtype: DType = DType.FP32) -> str:
        self._add(name, TensorType(tuple(shape), dtype), is_input=True)
        return name

    def constant(self, name: str, value: np.ndarray, unrounded: bool = False) -> str:
        """A weight; `unrounded` keeps a float in fp32, as the bias of an accumulator."""
        value = np.asarray(value)
        self._add(name, type_of(value), is_weight=True)
        if unrounded:
            self._tensors[name] = replace(self._tensors[name], dtype=DType.FP32)
        self._stored[name] = value
        return name

    def coded(
        self, tensor_id: str, scale: float, zero_point: int | None = 0, dtype: DType = DType.UINT8
    ) -> str:
        """The value is stored as codes."""
        old = self._tensors[tensor_id]
        self._tensors[tensor_id] = replace(old, dtype=dtype, scale=scale, zero_point=zero_point)
        return tensor_id

    def codes(
        self,
        name: str,
        codes: np.ndarray,
        scales: Any,
        axis: int = 0,
        group_size: int = 0,
        dtype: DType = DType.INT8,
    ) -> str:
        """A weight by its codes, or by what `dtype` stores; scales: one, or an array of them."""
        self._add(name, TensorType(np.shape(codes)), is_weight=True)
        if np.ndim(scales):
            many = self.constant(f"{name}.scales", np.float32(scales), unrounded=True)
            found = {"scales": many, "scale_axis": axis, "group_size": group_size}
        else:
            found = {"scale": scales}
        self._tensors[name] = replace(self._tensors[name], dtype=dtype, **found)
        self._stored[name] = np.asarray(codes)
        return name

    def op(
        self,
        op_type: str,
        *operands: str,
        epilogue: Sequence[tuple[Any, ...]] = (),
        name: str = "",
        precision: KPUPrecision | None = None,
        **attributes: Any,
    ) -> str:
        """The id of the only (or first) output. A stage is (op type, attributes) or
        (op type, operand id, accumulator side)."""
        op_id = name or f"{op_type.lower()}_{len(self._ops)}"
        stages, stage_operands = [], []
        for kind, what, *side in epilogue:
            if isinstance(what, str):
                index = len(operands) + len(stage_operands)
                stage_operands.append(what)
                stages.append(EpilogueStage(kind, {}, index, side[0] if side else 0))
            else:
                stages.append(EpilogueStage(kind, what))
        scales = [self._tensors[i].scales for i in operands if self._tensors[i].scales]
        types = infer_types(OPS[op_type], attributes, tuple(self._types[i] for i in operands))
        outputs = [f"{op_id}_out{index or ''}" for index in range(len(types))]
        for output, type_ in zip(outputs, types, strict=True):
            self._add(output, type_)
        self._ops.append(
            KPUOp(
                id=op_id,
                op_type=op_type,
                input_ids=(*operands, *stage_operands, *scales),
                output_ids=tuple(outputs),
                attributes=attributes,
                schedule_order=len(self._ops),
                epilogue=tuple(stages),
                operand_count=len(operands),
                name=op_id,
                precision=precision,
            )
        )
        return outputs[0]

    def program(self, *outputs: str, **fields: Any) -> KPUProgram:
        """Float outputs leave the accumulator as fp32, as the compiler has it."""
        tensors = dict(self._tensors)
        for output in outputs:
            old = tensors[output]
            dtype = old.dtype if old.is_quantized else self._types[output].dtype
            tensors[output] = replace(old, is_output=True, dtype=dtype)
        tensors = {tensor.id: tensor for tensor in _placed(tensors.values())}
        return KPUProgram(
            name=self.name,
            precision=self.precision,
            ops=tuple(self._ops),
            tensors=tensors,
            input_ids=tuple(t.id for t in tensors.values() if t.is_input),
            output_ids=outputs,
            weights_blob=_blob(self._stored, tensors),
            **fields,
        )

    def _add(self, name: str, type_: TensorType, **fields: Any) -> None:
        assert name not in self._tensors, f"{name} exists"
        dtype = STORAGE[self.precision] if type_.is_float else type_.dtype
        self._types[name] = type_
        self._tensors[name] = KPUTensor(
            id=name,
            name=name,
            shape=type_.shape,
            dtype=dtype,
            host_dtype=HOST_DTYPES[type_.dtype],
            **fields,
        )


def program_of(
    case: OpCase,
    arrays: Sequence[np.ndarray],
    precision: KPUPrecision = KPUPrecision.FP16,
    constants: Sequence[int] = (),
    epilogue: Sequence[tuple[Any, ...]] = (),
) -> KPUProgram:
    """One op case as a program, operands of the indices in `constants` baked in as weights.

    An operand that a stage of the epilogue names is the constant 0.75.
    An Identity follows each float output, so that the case's own result is rounded to storage.
    """
    builder = ProgramBuilder(precision, case.name)
    operands = [
        builder.constant(f"x{index}", array, unrounded=index in OPS[case.op].accumulator_operands)
        if index in constants
        else builder.input(f"x{index}", array.shape, type_of(array).dtype)
        for index, array in enumerate(arrays)
    ]
    for stage in epilogue:
        if isinstance(stage[1], str):
            builder.constant(stage[1], np.array(0.75), unrounded=True)
    first = builder.op(case.op, *operands, epilogue=epilogue, name="case", **case.attributes)
    results = [i for i in builder._tensors if i.startswith(first)]
    return builder.program(*(builder.op("Identity", result) for result in results))


def inputs_of(program: KPUProgram, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """The operands of a case that are inputs of its program."""
    named = {f"x{index}": array for index, array in enumerate(arrays)}
    return {tensor_id: named[tensor_id] for tensor_id in program.input_ids}


def _placed(tensors: Any) -> list[KPUTensor]:
    placed, address = [], 0
    for tensor in tensors:
        placed.append(replace(tensor, layout=MemoryLayout(base_address=address)))
        address += -(-tensor.size_bytes // 64) * 64
    return placed


def _blob(stored: Mapping[str, np.ndarray], tensors: Mapping[str, KPUTensor]) -> bytes | None:
    arrays = {name: encode(value, tensors[name].dtype) for name, value in stored.items()}
    return pack(arrays, {name: tensors[name].dtype for name in arrays}) if arrays else None


def classifier(**fields: Any) -> KPUProgram:
    """A convolution and pooling; two outputs, the first computed last."""
    builder = ProgramBuilder(name="classifier")
    image = builder.input("image", (1, 3, 8, 8))
    weight = builder.constant("w", np.random.default_rng(1).standard_normal((4, 3, 3, 3)))
    features = builder.op("Conv", image, weight, epilogue=[("Relu", {})], name="features")
    scores = builder.op("GlobalAveragePool", features, name="scores")
    return builder.program(scores, features, **fields)


def loaded(program: KPUProgram, *config: object, **options: Any) -> KPURuntime:
    """A runtime with the program in it."""
    runtime = KPURuntime(*config, **options)
    runtime.load_program(program)
    return runtime
