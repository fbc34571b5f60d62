"""What `kpuprof accuracy` wrote, read back, and which program it is of."""

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

from formats.console import STDIO
from formats.errors import FileError, UsageError
from formats.files import read_file
from formats.program import KPUProgram
from kpuprof.accuracy import Accuracy

COMMAND = "accuracy"  # of the document that `--json` and `-o` write


def digest_of(program: KPUProgram) -> str:
    """Equal for programs that compute the same, whatever machine they are tiled for.

    Of a profile's program too, which has no weights: those are known by their source and by what
    calibration made of them.
    """
    import msgspec

    from formats.document import canonical

    ops = [
        (op.id, op.op_type, op.attributes, op.input_ids, op.output_ids, op.epilogue, op.precision)
        for op in sorted(program.ops, key=lambda op: op.id)
    ]
    tensors = {
        tensor.id: (tensor.shape, tensor.dtype, tensor.scale, tensor.zero_point, tensor.scales)
        for tensor in program.tensors.values()
    }
    made_of = (program.source_hash, program.precision, program.quantization)
    return sha256(canonical(msgspec.to_builtins((ops, tensors, made_of)))).hexdigest()


def load_accuracy(path: str) -> Accuracy:
    """The figures of one accuracy run, from a path or `-`. FileError for anything else."""
    import msgspec

    name = "stdin" if path == STDIO else path
    try:
        document = msgspec.json.decode(bytes(read_file(path)), type=dict[str, Any])
        if document.get("command") == COMMAND:
            return msgspec.convert(document, Accuracy)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FileError(f"{name}: not what kpuprof accuracy -o writes: {error}") from error
    raise FileError(f"{name}: not what kpuprof accuracy -o writes")


def accuracy_by_digest(paths: Iterable[str], programs: Iterable[KPUProgram]) -> dict[str, Accuracy]:
    """Runs by the digest of the program that they are of; UsageError for one of another program
    than these, or a second one of the same."""
    names = {digest_of(program): program.name for program in programs}
    found: dict[str, Accuracy] = {}
    for path in paths:
        run = load_accuracy(path)
        what = f"--accuracy {Path(path).name}"
        if run.program_digest not in names:
            given = ", ".join(sorted(set(names.values())))
            raise UsageError(
                f"{what}: is of another program, {run.program} in {run.precision}, than the "
                f"profiles' {given}: compiled from another model, or with other samples or options"
            )
        if run.program_digest in found:
            raise UsageError(f"{what}: a second accuracy run of {run.program}")
        found[run.program_digest] = run
    return found
