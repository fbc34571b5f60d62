"""Accuracy runs by hand, of the program of `small_profile`."""

from dataclasses import replace

from formats.console import json_text
from formats.profile import Profile
from kpuprof.accuracy import Accuracy, FloatFigures, OpFigures, PerLayer, document
from kpuprof.accuracy_file import digest_of

OUTPUT = FloatFigures(
    "scores", "out", 0.125, 0.02, "set/b.png", 31.5, 28.25, "set/a.png", 0.75, 0.1
)
OPS = (
    OpFigures("n0", "conv1", "Conv+Relu", "fp16", "h", 40.5, 40.5),
    OpFigures("n1", "fc", "Gemm", "fp16", "scores", 31.5, 32.25),
)


def accuracy_of(profile: Profile, ops: tuple[OpFigures, ...] = OPS) -> Accuracy:
    """Of the program of that profile; without ops: as without --per-layer."""
    return Accuracy(
        program=profile.program.name,
        program_digest=digest_of(profile.program),
        precision=profile.program.precision.value,
        config=profile.program.target_config.name,
        reference="net",
        runtime="PyTorch",
        data="set",
        samples=12,
        outputs=(OUTPUT,),
        exact_outputs=(),
        per_layer=PerLayer(ops, "") if ops else None,
        warnings=(),
    )


def named(found: Accuracy, text: str) -> Accuracy:
    """With that text wherever a name is."""
    output = replace(
        OUTPUT, name=text, reference_name=text, max_difference_sample=text, worst_sqnr_sample=text
    )
    return replace(found, reference=text, runtime=text, data=text, outputs=(output,))


def text_of(found: Accuracy) -> str:
    """What `kpuprof accuracy -o` writes."""
    return json_text("accuracy", document(found, []))
