"""Programs for the sake of their times: a model without samples, its codes standing for nothing.

Sizes, tiles, cycles and joules do not depend on the scales of codes, so whoever explores machines
needs no calibration. Such a program is not for a file: what it would compute is not the model.
"""

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace

from formats.config import KPUConfig
from formats.errors import LimitError, MemoryError, UsageError
from formats.precision import KPUPrecision
from formats.program import KPUProgram
from kpuc.aliases import aliases
from kpuc.capture import capture
from kpuc.compiler import plan_graph
from kpuc.emit import Source, emit
from kpuc.example import example_inputs
from kpuc.graph import Graph
from kpuc.load import load_model
from kpuc.lower import lower
from kpuc.plan import plan_memory
from kpuc.precision import CODED, float_storage, require_precision
from kpuc.quant.prepare import nominal
from kpuc.retile import formats_of, graph_of, retile
from kpuc.scheduled import Scheduled

FLOATS = frozenset({KPUPrecision.FP16, KPUPrecision.BF16})
ROOM_BYTES = 2**40
ROOM = 2**20  # for dimensions and batches


def nominal_programs(
    model: str,
    config: KPUConfig,
    precisions: Sequence[KPUPrecision],
    *,
    input_shapes: Sequence[str] = (),
    arch: str | None = None,
    trust_pickle: bool = False,
) -> dict[KPUPrecision, KPUProgram]:
    """The model in each precision, captured and lowered once.

    Ops are fused and laid out for `config`. Where that cannot hold the model they are for the same
    machine with more memory, so that another may be tried. Raises what compiling raises.
    """
    with redirect_stdout(sys.stderr):  # what the model's own code prints was not asked for
        loaded = load_model(model, trust_pickle=trust_pickle, arch=arch)
        graph = lower(capture(loaded.module, example_inputs(loaded.module, input_shapes)))
    return {
        precision: _program(graph, config, precision, Source(loaded.name))
        for precision in precisions
    }


def _program(
    graph: Graph, config: KPUConfig, precision: KPUPrecision, source: Source
) -> KPUProgram:
    try:
        return emit(*plan_graph(graph, config, precision), config, source)
    except (LimitError, MemoryError):
        roomy = _roomy(config)
        return emit(*plan_graph(graph, roomy, precision), roomy, source)


def _roomy(config: KPUConfig) -> KPUConfig:
    memory = replace(
        config.memory,
        sram_l1_bytes=ROOM_BYTES,
        sram_l2_bytes=ROOM_BYTES,
        dram_bytes=ROOM_BYTES,
    )
    return replace(config, memory=memory, max_tensor_dims=ROOM, max_batch_size=ROOM)


def in_precision(program: KPUProgram, precision: KPUPrecision, config: KPUConfig) -> KPUProgram:
    """A float program as it would be in another precision, tiled for `config`; without weights.

    UsageError for a program of codes: what became codes, and what did not, stays as it was decided.
    Raises what planning raises.
    """
    if precision is program.precision:
        return retile(program, config)
    if program.precision not in FLOATS:
        raise UsageError(
            f"{program.name} is in {program.precision.value}, whose codes stay as they are: "
            f"compile the model with --precision {precision.value}"
        )
    require_precision(config, precision)
    graph, formats = graph_of(program), formats_of(program)
    coded, storage = (
        nominal(graph, precision)
        if precision in CODED
        else (graph, float_storage(graph, precision))
    )
    named = aliases(coded, storage, formats)
    scheduled = Scheduled(coded, coded.nodes, storage, formats, named)
    source = Source(program.name, program.source_model, program.source_hash, program.preprocess)
    made = emit(scheduled, plan_memory(scheduled, config), config, source)
    return replace(made, weights_blob=None)
