"""The networks of a sweep as programs, each prepared once, whatever the number of machines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from formats.errors import UsageError
from formats.precision import KPUPrecision
from kpuprof.sweep.space import Axis, Space

if TYPE_CHECKING:
    from formats.program import KPUProgram

PROGRAM_SUFFIX, PROFILE_SUFFIX = ".kpu", ".kprof"
DEFAULT_PRECISION = KPUPrecision.FP16  # as kpuc's
# Of ops and tensors, what a machine or a person decides: equal programs may differ in it.
OF_THE_MACHINE = {
    *("tiling", "estimated_cycles", "estimated_energy_pj", "layout", "scale", "zero_point"),
    *("name", "source", "fused_with"),
}


@dataclass(frozen=True)
class ModelOptions:
    """How kpuc reads model files; as its own options."""

    input_shapes: tuple[str, ...] = ()
    arch: str | None = None
    trust_pickle: bool = False


@dataclass(frozen=True)
class Model:
    """label: what the table calls it; digests: what its figures depend on, by precision."""

    label: str
    programs: Mapping[KPUPrecision, "KPUProgram"]
    digests: Mapping[KPUPrecision, str]

    def axes(self, space: Space) -> list[Axis]:
        """All that varies for this model, the precision first."""
        return [Axis("precision", tuple(each.value for each in self.programs)), *space.axes]


def read_models(paths: Sequence[str], space: Space, options: ModelOptions) -> list[Model]:
    """Programs as they are, other models compiled in the space's precisions.

    UsageError for options that nothing takes, a precision that a program does not have, and for a
    program that is given twice; what loading and compiling raise.
    """
    if options != ModelOptions() and all(map(_is_program, paths)):
        raise UsageError("--input-shape, --arch and --trust-pickle are for models, not programs")
    for path in paths:
        _require_no_profile(path)
    there = {path: _program(path, space) for path in paths if _is_program(path)}
    models = [
        _model(label, there.get(path) or _compiled(path, space, options))
        for label, path in zip(_labels(paths), paths, strict=True)
    ]
    known: dict[str, str] = {}
    for model in models:
        for digest in model.digests.values():
            if digest in known:
                raise UsageError(f"{known[digest]} and {model.label} are the same program")
            known[digest] = model.label
    return models


def _model(label: str, programs: "Mapping[KPUPrecision, KPUProgram]") -> Model:
    digests = {precision: _digest(program) for precision, program in programs.items()}
    return Model(label, programs, digests)


def _require_no_profile(path: str) -> None:
    if path.lower().endswith(PROFILE_SUFFIX):
        raise UsageError(f"{path}: a profile, where a program (.kpu) or a model is needed")


def _is_program(path: str) -> bool:
    return path.lower().endswith(PROGRAM_SUFFIX)


def _program(path: str, space: Space) -> "dict[KPUPrecision, KPUProgram]":
    from formats.container import load_program

    program = load_program(path)
    if space.precisions not in ((), (program.precision,)):
        raise UsageError(
            f"{path} is a program in {program.precision.value}: precisions vary for models that "
            "kpuc compiles"
        )
    return {program.precision: program}


def _compiled(path: str, space: Space, options: ModelOptions) -> "dict[KPUPrecision, KPUProgram]":
    from kpuc.nominal import nominal_programs

    return nominal_programs(
        path,
        space.base,
        space.precisions or (DEFAULT_PRECISION,),
        input_shapes=options.input_shapes,
        arch=options.arch,
        trust_pickle=options.trust_pickle,
    )


def _labels(paths: Sequence[str]) -> list[str]:
    """Names of files without folders and suffixes, of factories without modules; numbered where
    two are the same."""
    stems = [
        path.rpartition(":")[2] if ":" in path and not Path(path).exists() else Path(path).stem
        for path in paths
    ]
    return [
        stem if stems.count(stem) == 1 else f"{stem} {stems[: place + 1].count(stem)}"
        for place, stem in enumerate(stems)
    ]


def _digest(program: "KPUProgram") -> str:
    """SHA-256 of ops and tensors: neither of weights nor of what is decided anew for a machine."""
    content = [
        program.precision.value,
        program.input_ids,
        program.output_ids,
        [_lasting(op) for op in program.get_ops_in_order()],
        [(_lasting(tensor), tensor.layout.format) for tensor in program.tensors.values()],
    ]
    return sha256(repr(content).encode()).hexdigest()


def _lasting(record: Any) -> list[tuple[str, Any]]:
    names = [entry.name for entry in fields(record) if entry.name not in OF_THE_MACHINE]
    return [(name, getattr(record, name)) for name in names]


def without_weights(program: "KPUProgram") -> "KPUProgram":
    """What workers need of it: no figure depends on a weight."""
    return replace(program, weights_blob=None)
