"""Every defect that can be planted in a program is found and named."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from formats import (
    Buffer,
    DType,
    EpilogueStage,
    KPUConfig,
    KPUOp,
    KPUProgram,
    KPUTensor,
    MemoryConfig,
    MemoryLayout,
    MemoryType,
    TileConfig,
    tensors,
)
from formats.errors import FileError
from formats.verify import problems, verify
from tests.formats.programs import CONV_BIAS, CONV_WEIGHT, L2, WEIGHTS, tiny_program

L1, DRAM = MemoryType.SRAM_L1, MemoryType.DRAM
CONV_INPUTS = ("image", "weight", "bias", "residual", "weight.scales")

Defect = Callable[[KPUProgram], KPUProgram]


def tensor(tensor_id: str, /, **changes) -> Defect:
    """Change one tensor; keys of its layout are found there."""

    def plant(program: KPUProgram) -> KPUProgram:
        old = program.tensors[tensor_id]
        placed = {key: changes[key] for key in changes if hasattr(old.layout, key)}
        own = {key: changes[key] for key in changes.keys() - placed.keys()}
        new = replace(old, layout=replace(old.layout, **placed), **own)
        return replace(program, tensors={**program.tensors, tensor_id: new})

    return plant


def op(index: int, **changes) -> Defect:
    def plant(program: KPUProgram) -> KPUProgram:
        ops = list(program.ops)
        ops[index] = replace(ops[index], **changes)
        return replace(program, ops=tuple(ops))

    return plant


def tiling(**changes) -> Defect:
    return op(0, tiling=TileConfig(**changes))


def stages(*epilogue: EpilogueStage) -> Defect:
    return op(0, epilogue=epilogue)


def buffer(index: int, **changes) -> Defect:
    def plant(program: KPUProgram) -> KPUProgram:
        buffers = list(program.buffers)
        buffers[index] = replace(buffers[index], **changes)
        return replace(program, buffers=tuple(buffers))

    return plant


def program(**changes) -> Defect:
    return lambda sound: replace(sound, **changes)


def added(extra: KPUTensor) -> Defect:
    return lambda sound: replace(sound, tensors={**sound.tensors, extra.id: extra})


def weights(**arrays: np.ndarray) -> Defect:
    return program(weights_blob=tensors.pack(arrays))


def both(*defects: Defect) -> Defect:
    def plant(sound: KPUProgram) -> KPUProgram:
        for defect in defects:
            sound = defect(sound)
        return sound

    return plant


ADD = EpilogueStage("Add", operand=3)
UNSCALED = {"scale": None, "zero_point": None}
INT4_LEAST = np.full(54, 0x88, np.uint8)  # 4·3·3·3 nibbles of -8


def posit(**changes) -> Defect:
    return tensor("image", **{"dtype": DType.POSIT8, "scale": 0.5, "zero_point": None, **changes})


DEFECTS: dict[str, tuple[Defect, str]] = {
    # the machine
    "config": (
        program(target_config=KPUConfig(memory=MemoryConfig(sram_l1_bytes=0))),
        "L1 SRAM must be positive",
    ),
    "memory of a fable": (
        program(target_config=KPUConfig(memory=MemoryConfig(dram_bytes=2**60))),
        "larger than any",
    ),
    # ids and names
    "tensor filed wrongly": (tensor("flat", id="other"), "filed under another id"),
    "op id twice": (op(1, id="conv"), "two ops have the id 'conv'"),
    "op id empty": (op(0, id=""), "op '' has an empty or unprintable"),
    "escape in a name": (tensor("image", name="\x1b[2J"), "tensor 'image' has an empty or unprint"),
    "escape in the name": (program(name="a\nb"), "name 'a.nb' cannot be printed"),
    "escape in the machine's name": (
        program(target_config=KPUConfig(version="\x1b[2J")),
        "the machine's name .* cannot be printed",
    ),
    # tensors
    "rank": (tensor("image", shape=(1,) * 7), "7 dimensions, at most 6"),
    "zero dimension": (tensor("image", shape=(1, 0, 4, 4)), r"\[1, 0, 4, 4\]"),
    "negative dimension": (tensor("image", shape=(-1, 3, 4, 4)), r"\[-1, 3, 4, 4\]"),
    "numpy dimension": (tensor("image", shape=(np.int64(1), 3, 4, 4)), "no whole number"),
    "layout": (tensor("features", format="NCWH"), "unknown layout 'NCWH'"),
    "NHWC of rank 2": (tensor("flat", format="NHWC"), "NHWC but has 2 dimensions"),
    "NHWC input": (tensor("image", format="NHWC"), "inputs and outputs are NCHW"),
    "strided": (tensor("features", contiguous=False), "not contiguous"),
    "tile shape": (tensor("features", tile_shape=(1, 4)), r"tile shape \[1, 4\]"),
    "host dtype": (tensor("image", host_dtype="object"), "host dtype 'object'"),
    "scale": (tensor("image", scale=-1.0), "scale -1.0"),
    "scale NaN": (tensor("image", scale=float("nan")), "scale nan"),
    "scale below float32": (tensor("image", scale=1e-60), "scale 1e-60"),
    "scale beyond float32": (tensor("image", scale=1e60), r"scale 1e\+60"),
    "scale of a float": (tensor("features", scale=1.0), "a scale, which fp16 cannot have"),
    "int4 without a scale": (tensor("image", dtype=DType.INT4, **UNSCALED), "has no scale"),
    "zero point": (tensor("image", zero_point=256), "zero point 256, which uint8"),
    "zero point that is no code": (
        tensor("image", dtype=DType.INT8, zero_point=-128),
        "zero point -128, which int8",
    ),
    "zero point of a posit": (posit(zero_point=1), "zero point 1, which posit8"),
    "posit's scale": (posit(scale=0.75), "scale 0.75, which is no power of two"),
    "zero point alone": (tensor("features", zero_point=0), "zero point 0"),
    # scales that are tensors
    "scales unknown": (tensor("weight", scales="ghost"), "'ghost', which are no fp32 weight"),
    "scales fp16": (tensor("weight.scales", dtype=DType.FP16), "which are no fp32 weight"),
    "scales of an activation": (
        tensor("image", **UNSCALED, scales="weight.scales"),
        "'image' has scales, but is no weight",
    ),
    "scales and a scale": (tensor("weight", scale=0.5), "has one scale too"),
    "scale axis": (tensor("weight", scale_axis=4), "no axis 4"),
    "group size negative": (tensor("weight", group_size=-1), "negative group size"),
    "scales of another axis": (tensor("weight", scale_axis=1), r"scales of shape \[3\], not \[4\]"),
    # 3·3·3 = 27 weights of a filter are 3 groups of up to 10
    "scales of groups": (tensor("weight", group_size=10), r"scales of shape \[4, 3\], not \[4\]"),
    "groups without scales": (tensor("image", group_size=4), "a group size but no scales"),
    "scales unread": (
        op(0, input_ids=CONV_INPUTS[:-1]),
        "op 'conv' does not read the scales 'weight.scales' of its operand",
    ),
    "scales read twice": (op(0, input_ids=(*CONV_INPUTS, "weight.scales")), "scales.* twice"),
    # inputs and outputs
    "unknown input": (program(input_ids=("image", "residual", "x")), "input 'x' is an unknown"),
    "unknown output": (program(output_ids=("y",)), "output 'y' is an unknown"),
    "input twice": (program(input_ids=("image", "image", "residual")), "'image' is listed twice"),
    "unmarked output": (tensor("mean", is_output=False), "'mean' is marked as output or listed"),
    "unlisted input": (tensor("flat", is_input=True), "'flat' is marked as input or listed"),
    "weight and input": (tensor("image", is_weight=True), "'image' is both a weight and an input"),
    # ops
    "unknown operand": (op(2, input_ids=("nothing",)), "op 'mean' references the unknown tensor"),
    "unknown result": (op(2, output_ids=("nothing",)), "references the unknown tensor 'nothing'"),
    "op type": (op(2, op_type="rm -rf"), "op type 'rm -rf'"),
    "no output": (op(2, output_ids=()), "has no output"),
    "operand count 0": (op(2, operand_count=0), "1 inputs, but operand_count 0"),
    "operand count 2": (op(2, operand_count=2), "1 inputs, but operand_count 2"),
    "negative estimate": (op(0, estimated_cycles=-1), "estimates"),
    "infinite estimate": (op(0, estimated_energy_pj=float("inf")), "estimates"),
    "epilogue of two": (op(0, output_ids=("features", "flat")), "an epilogue but not one output"),
    "unread input": (stages(EpilogueStage("Relu")), "input 'residual' that neither it nor"),
    "stage lacks operand": (stages(ADD, EpilogueStage("Mul")), "Mul without an operand"),
    "stage with operand": (stages(ADD, EpilogueStage("Relu", operand=3)), "Relu with an operand"),
    "stage reads too far": (stages(ADD, EpilogueStage("Mul", operand=5)), "names operand 5"),
    "stage reads the op's": (stages(ADD, EpilogueStage("Mul", operand=1)), "names operand 1"),
    "accumulator side": (
        stages(replace(ADD, accumulator_side=2)),
        "accumulator side 2",
    ),
    "tile of 0": (tiling(tile_sizes={"OC": 0}), "tile size"),
    "loops twice": (tiling(loop_order=("OC", "OC")), "loops over 'OC' twice"),
    "tile beyond L2's": (tiling(tile_sizes={"OH": 8}, l2_tile_sizes={"OH": 4}), "OH=8 inside"),
    "reduction split": (tiling(reduction_split=0), "reduction split"),
    # order
    "schedule order": (op(1, schedule_order=5), "schedule_order"),
    "cycle": (op(0, input_ids=("flat", *CONV_INPUTS[1:])), "'flat' before it is made"),
    "made twice": (op(2, output_ids=("mean", "flat")), "makes 'flat', which exists already"),
    "input made": (op(2, output_ids=("mean", "image")), "makes 'image', which exists already"),
    "never made": (
        added(KPUTensor("orphan", "orphan", (1,), DType.FP16)),
        "'orphan' is never made",
    ),
    # weights
    "weight missing": (weights(weight=CONV_WEIGHT), "'bias' is not in weights_blob"),
    "weights missing": (program(weights_blob=None), "'bias' is not in weights_blob"),
    "weight too many": (
        weights(**WEIGHTS, more=CONV_BIAS),
        "'more', which is no weight",
    ),
    "weight dtype": (
        weights(**WEIGHTS | {"weight": CONV_WEIGHT.astype(np.float32)}),
        r"'weight' is stored as F32\[4, 3, 3, 3\], not I8\[4, 3, 3, 3\]",
    ),
    "weight shape": (
        weights(**WEIGHTS | {"weight": CONV_WEIGHT.reshape(3, 4, 3, 3)}),
        r"'weight' is stored as I8\[3, 4, 3, 3\]",
    ),
    "bf16 as plain numbers": (
        both(
            tensor("bias", dtype=DType.BF16),
            weights(**WEIGHTS | {"bias": CONV_BIAS.astype(np.uint16)}),
        ),
        "U16.*, not BF16",
    ),
    "code beyond the range": (
        weights(**WEIGHTS | {"weight": np.full_like(CONV_WEIGHT, -128)}),
        "weight 'weight' holds the code -128, below -127",
    ),
    "int4 code beyond the range": (
        both(tensor("weight", dtype=DType.INT4), weights(**WEIGHTS | {"weight": INT4_LEAST})),
        "weight 'weight' holds the code -8, below -7",
    ),
    "scale of a channel": (
        weights(**WEIGHTS | {"weight.scales": np.float32([0.5, 0, np.nan, 1])}),
        "weight 'weight' has the scale 0.0",
    ),
    "posit's scale of a channel": (
        both(
            tensor("weight", dtype=DType.POSIT8),
            weights(
                **WEIGHTS
                | {
                    "weight": CONV_WEIGHT.view(np.uint8),
                    "weight.scales": np.float32([0.5, 2, 3, 1]),
                }
            ),
        ),
        "'weight' has the scale 3.0, which is no power of two",
    ),
    "blob is no safetensors": (program(weights_blob=b"weights"), "weights: the tensor file"),
    # places
    "register": (tensor("features", memory_type=MemoryType.REGISTER), "cannot live in register"),
    "flash": (tensor("features", memory_type=MemoryType.FLASH), "cannot live in flash"),
    "negative address": (tensor("image", base_address=-64), "the address -64"),
    "beyond DRAM": (tensor("image", base_address=2**32), "ends at byte .* of DRAM"),
    "beyond L2": (
        tensor("features", base_address=2 * 2**20 - 64),
        "'features' ends at byte 2,097,216 of L2 SRAM, which has 2,097,152",
    ),
    "misaligned": (tensor("image", base_address=32), "0x20 is not aligned to 64"),
    "alignment 0": (tensor("image", alignment_bytes=0), "not aligned to 0"),
    "view of nothing": (tensor("flat", alias_of="ghost"), "view of 'ghost'"),
    "view of a view": (
        tensor("mean", alias_of="flat"),
        "'mean' is a view of 'flat', which is no tensor with its own bytes",
    ),
    "view of itself": (tensor("flat", alias_of="flat"), "no tensor with its own bytes"),
    "view elsewhere": (tensor("flat", base_address=4096), "does not have the place"),
    "view larger": (tensor("flat", shape=(1, 128)), "does not have the size of"),
    "view of another type": (tensor("flat", dtype=DType.BF16), "does not have the place and type"),
    "view of other codes": (
        both(
            tensor("features", dtype=DType.UINT8, scale=0.5, zero_point=3),
            tensor("flat", dtype=DType.UINT8, scale=0.25, zero_point=3),
        ),
        "'flat' has other codes than 'features', its root",
    ),
    "view of what its op does not read": (
        tensor("flat", alias_of="residual", memory_type=DRAM, shape=(4,), base_address=576),
        "does not read that",
    ),
    "part of nothing": (tensor("flat", alias_of=None, starts=(0, 0)), "of no other tensor"),
    "part of another rank": (tensor("flat", starts=(0, 0)), "'flat' is no box in 'features'"),
    "part beyond its root": (
        tensor("flat", shape=(1, 4, 2, 4), starts=(0, 0, 3, 0)),
        "is no box in 'features', its root, at .0, 0, 3, 0.",
    ),
    "part before its root": (
        tensor("flat", shape=(1, 4, 2, 4), starts=(0, -1, 0, 0)),
        "is no box in",
    ),
    "part in another order": (
        tensor("flat", shape=(1, 4, 2, 4), starts=(0, 0, 0, 0), format="NHWC"),
        "is no box in",
    ),
    "buffer of no op": (buffer(0, op_id="ghost"), "no op of that id touches"),
    "buffer of a stranger": (buffer(0, tensor_id="mean"), "no op of that id touches"),
    "buffer in DRAM": (buffer(0, memory_type=DRAM), "where nothing is staged"),
    "buffer beyond L1": (buffer(1, base_address=2**18 - 64), "of L1 SRAM, which has 262,144"),
    "buffer empty": (buffer(0, size_bytes=0), "0 bytes for 2 copies"),
    "buffer without copies": (buffer(0, copies=0), "192 bytes for 0 copies"),
    "buffer twice": (buffer(1, memory_type=L2, base_address=2048), "is there twice"),
    # at the same time
    "weights overlap": (tensor("bias", base_address=320), "'bias'.* overlap in DRAM"),
    "input over weight": (tensor("residual", base_address=256), "overlap in DRAM while both"),
    "output over a live input": (
        both(op(2, input_ids=("flat", "image"), operand_count=2), tensor("mean", base_address=0)),
        "tensor 'image' and tensor 'mean' overlap in DRAM",
    ),
    "buffers overlap": (buffer(2, base_address=64), "overlap in L1 SRAM"),
    "buffer over a live tensor": (
        buffer(0, base_address=64),
        "tensor 'features' and the sram_l2 buffer of 'image' for op 'conv' overlap in L2 SRAM",
    ),
    "a view keeps its root alive": (
        lambda sound: replace(
            sound,
            buffers=(*sound.buffers, Buffer("mean", "flat", L2, 64, 64)),
        ),
        "tensor 'features' and the sram_l2 buffer of 'flat' for op 'mean' overlap in L2",
    ),
}


def test_the_program_without_a_defect_is_well_formed():
    assert problems(tiny_program()) == []
    assert tiny_program().validate() == []


@pytest.mark.parametrize(("defect", "message"), DEFECTS.values(), ids=DEFECTS)
def test_a_planted_defect_is_named(defect, message):
    with pytest.raises(FileError, match=message):
        verify(defect(tiny_program()))


def test_memory_that_is_dead_may_be_used_again():
    """The input is read for the last time by the first op, so the output may take its place."""
    assert problems(tensor("mean", base_address=0)(tiny_program())) == []


def test_a_graph_without_weights_is_sound_where_none_are_expected():
    graph = tiny_program(weights_blob=None)
    assert problems(graph, has_weights=False) == []
    assert problems(graph) != []


def test_int4_weights_are_packed():
    packed = KPUTensor(
        "weight", "w", (3, 3), DType.INT4, MemoryLayout(base_address=64), is_weight=True, scale=0.5
    )
    made = KPUProgram(
        name="int4",
        ops=(KPUOp("add", "Add", ("x", "weight"), ("y",), operand_count=2),),
        tensors={
            "x": KPUTensor("x", "x", (3, 3), DType.INT8, is_input=True),
            "weight": packed,
            "y": KPUTensor("y", "y", (3, 3), DType.INT8, MemoryLayout(L2), is_output=True),
        },
        input_ids=("x",),
        output_ids=("y",),
        weights_blob=tensors.pack({"weight": np.zeros(5, np.uint8)}),
    )
    assert problems(made) == []


def test_all_problems_of_a_kind_are_listed_and_the_first_is_raised():
    wrong = both(tensor("image", base_address=32), tensor("bias", base_address=500))(tiny_program())
    assert len(problems(wrong)) == 2
    with pytest.raises(FileError, match=r"\(and 1 more\)"):
        verify(wrong)
