"""Lowering: functional ATen to the compiler's graph of native ops, node by node.

Whatever does not depend on the program's inputs is computed here, by torch itself: that is the
captured program's own meaning. Everything the machine cannot do is collected and reported at once.
"""

import operator
from typing import Any

import torch
from torch._ops import OpOverload
from torch.fx import Node as AtenNode
from torch.utils import _pytree as pytree

from formats.errors import CompilationError
from kpuc.aten import ATEN, plain_name
from kpuc.captured import Captured, InputSlot, OutputSlot
from kpuc.graph import Graph
from kpuc.lowering.shape import same
from kpuc.lowering.site import DTYPES, Absent, Builder, LoweringError, Site, Symbol, semantic_dtype
from kpuc.refusals import Refusals
from kpuc.source import module_path, user_source
from kpurun.ops.types import TensorType

aten = torch.ops.aten
# Checks of what the trace has settled already: types and shapes are fixed.
_SETTLED = frozenset({aten._assert_tensor_metadata.default, aten._assert_scalar.default})
# Operators that run a part of the model: (what a user calls it, what to do).
_CONTROL_FLOW = {
    "cond": ("If", "torch.cond chooses by the values of a tensor; the program is fixed"),
    "while_loop": ("Loop", "the number of rounds depends on the values of a tensor"),
    "scan": ("Scan", "loops are not unrolled: write them out in Python"),
    "wrap_with_autocast": ("autocast", "leave it out: --precision decides what is computed in"),
}
_UNDEFINED_CONTENT = frozenset({"aten::empty", "aten::empty_strided", "aten::empty_permuted"})
_REFUSED = Absent("")  # the result of a node that is on the list of refusals already


def lower(captured: Captured) -> Graph:
    """The captured program in native ops; UnsupportedOpError names everything that has none."""
    builder = Builder()
    refusals = Refusals()
    environment: dict[str, Any] = {}
    for slot in captured.inputs:
        environment[slot.placeholder] = _input(builder, slot)
    for placeholder, (name, tensor) in captured.constants.items():
        environment[placeholder] = builder.named(tensor.detach(), name)
    needed = _needed(captured)
    for node in captured.graph.nodes:
        if node.op in ("placeholder", "output") or node not in needed:
            continue
        try:
            environment[node.name] = _lower_node(builder, node, environment)
        except LoweringError as error:
            environment[node.name] = _stand_in(node, environment)
            refusals.add(error, module_path(node), _nearest_source(node))
    outputs: list[str] = []
    for output in captured.outputs:
        try:
            outputs.append(_output(builder, output, environment, outputs))
        except LoweringError as error:
            refusals.add(error, f"output {output.name!r}", "")
    refusals.raise_if_any()
    return _graph(captured, builder, environment, outputs)


def _graph(
    captured: Captured, builder: Builder, environment: dict[str, Any], outputs: list[str]
) -> Graph:
    inputs = tuple(environment[slot.placeholder].value for slot in captured.inputs)
    names = {value: value for value in builder.constants}
    host_dtypes = {}
    slots: tuple[InputSlot | OutputSlot, ...] = (*captured.inputs, *captured.outputs)
    for value, slot in zip((*inputs, *outputs), slots, strict=True):
        names[value] = slot.name
        host_dtypes[value] = host_dtype(slot.dtype)
    return Graph(
        name=captured.name,
        inputs=inputs,
        outputs=tuple(outputs),
        nodes=tuple(builder.nodes),
        types=builder.types,
        constants=builder.constants,
        host_dtypes=host_dtypes,
        names=names,
    )


def host_dtype(dtype: torch.dtype) -> str:
    """The numpy dtype a user feeds or gets; numpy has no bfloat16, float32 holds its values."""
    return "float32" if dtype == torch.bfloat16 else str(dtype).removeprefix("torch.")


def _input(builder: Builder, slot: InputSlot) -> Symbol:
    if 0 in slot.shape:
        raise CompilationError(f"input {slot.name!r} is empty: its shape is {list(slot.shape)}")
    try:
        type_ = TensorType(slot.shape, semantic_dtype(slot.dtype))
    except LoweringError as refusal:
        raise CompilationError(f"input {slot.name!r}: {refusal}") from None
    value = builder.unique(slot.name)
    builder.types[value] = type_
    return Symbol(value, type_)


def _output(
    builder: Builder, output: OutputSlot, environment: dict[str, Any], earlier: list[str]
) -> str:
    """A value of its own: an input, a constant, or what is an output already is copied."""
    source = environment[output.value]
    if isinstance(source, Absent):
        _refuse_absent(source)
        return ""
    made_here = {value for node in builder.nodes for value in node.outputs}
    if isinstance(source, Symbol) and source.value in made_here - set(earlier):
        return source.value
    shape = tuple(source.shape)
    site = Site(builder, output.name, "", "", ((shape, output.dtype),))
    return site.emit("Identity", source).value


def _needed(captured: Captured) -> set[AtenNode]:
    """The nodes that an output depends on; functionalising leaves others behind."""
    wanted = {output.value for output in captured.outputs}
    needed: set[AtenNode] = set()
    for node in reversed(list(captured.graph.nodes)):
        if node.name in wanted or any(user in needed for user in node.users):
            needed.add(node)
    needed -= {node for node in needed if node.op == "output"}
    return needed


def _lower_node(builder: Builder, node: AtenNode, environment: dict[str, Any]) -> Any:
    """What the node's results are: symbols, tensors known now, or absent."""
    if node.op == "get_attr":  # the body of a control-flow operator, which is refused itself
        return None
    arguments, keywords = pytree.tree_map_only(
        AtenNode, lambda argument: environment[argument.name], (node.args, dict(node.kwargs))
    )
    if node.target is operator.getitem:
        return arguments[0] if arguments[0] is _REFUSED else arguments[0][arguments[1]]
    if not isinstance(node.target, OpOverload):
        raise LoweringError(*_CONTROL_FLOW.get(str(node.target), (str(node.target), "")))
    leaves = pytree.tree_leaves((arguments, keywords))
    if any(leaf is _REFUSED for leaf in leaves):
        return _REFUSED
    for leaf in leaves:
        if isinstance(leaf, Absent):
            _refuse_absent(leaf)
    if not any(isinstance(leaf, Symbol) for leaf in leaves):
        return _evaluate(builder, node, node.target, arguments, keywords)
    return _lower_call(builder, node, node.target, arguments, keywords)


def _refuse_absent(absent: Absent) -> None:
    if absent is not _REFUSED:
        raise LoweringError(absent.op_name, absent.reason)


def _evaluate(
    builder: Builder,
    node: AtenNode,
    target: OpOverload,
    arguments: tuple[Any, ...],
    keywords: dict[str, Any],
) -> Any:
    """The value of a node that depends on no input."""
    if _is_random(target, arguments, keywords):
        raise LoweringError(
            plain_name(target), "it is random; a program gives the same result every time"
        )
    if target._schema.name in _UNDEFINED_CONTENT:
        value = node.meta["val"]
        return torch.zeros(tuple(value.shape), dtype=value.dtype)
    with torch.no_grad():
        result = target(*arguments, **keywords)
    if not isinstance(result, torch.Tensor):
        return result
    keeps_name = ATEN.get(target) is same
    return builder.named(result, builder.name_of(arguments[0]) if keeps_name else node.name)


def _is_random(target: OpOverload, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> bool:
    """Whether the op draws random numbers: dropout that is idle does not."""
    if torch.Tag.nondeterministic_seeded not in target.tags:
        return False
    names = [argument.name for argument in target._schema.arguments]
    given = dict(zip(names, _in_schema_order(target, arguments, keywords), strict=True))
    probability = given.get("p", given.get("dropout_p"))
    return probability != 0 and given.get("train", given.get("training", True)) is not False


def _lower_call(
    builder: Builder,
    node: AtenNode,
    target: OpOverload,
    arguments: tuple[Any, ...],
    keywords: dict[str, Any],
) -> Any:
    if target in _SETTLED:
        return None
    if target not in ATEN:
        raise LoweringError(plain_name(target))
    results = _results(node)
    if results and 0 in results[0][0] and isinstance(node.meta["val"], torch.Tensor):
        # Without elements it is known, whatever the input.
        return torch.empty(results[0][0], dtype=results[0][1])
    site = Site(builder, node.name, module_path(node), user_source(node), results)
    lowered = ATEN[target](site, *_in_schema_order(target, arguments, keywords))
    _check(node, results, lowered)
    return lowered


def _in_schema_order(
    target: OpOverload, arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> list[Any]:
    """Every argument of the schema, in its order, defaults filled in."""
    rest = target._schema.arguments[len(arguments) :]
    named = [keywords.get(argument.name, argument.default_value) for argument in rest]
    return [*arguments, *named]


def _results(node: AtenNode) -> tuple[tuple[tuple[int, ...], torch.dtype], ...]:
    """(shape, dtype) of each tensor that eager returns."""
    values = node.meta["val"]
    tensors = values if isinstance(values, (tuple, list)) else (values,)
    return tuple((tuple(t.shape), t.dtype) for t in tensors if isinstance(t, torch.Tensor))


def _check(node: AtenNode, results: Any, lowered: Any) -> None:
    """Eager's shapes and types must come out: a lowering that gets one wrong is our bug."""
    values = lowered if isinstance(lowered, tuple) else (lowered,)
    for value, (shape, dtype) in zip(values, results, strict=False):
        if isinstance(value, Absent):
            continue
        got = value.type.dtype if isinstance(value, Symbol) else semantic_dtype(value.dtype)
        if tuple(value.shape) != shape or got != semantic_dtype(dtype):
            raise AssertionError(
                f"{node.target} was lowered to {tuple(value.shape)} {got.value}, eager gives "
                f"{shape} {dtype}"
            )


def _stand_in(node: AtenNode, environment: dict[str, Any]) -> Any:
    """For the results of a refused node, so that what follows is looked at too: there will be no
    graph. They vary, or are known, as the node's operands are.
    """
    value = node.meta.get("val")
    operands = [environment[operand.name] for operand in node.all_input_nodes]
    varies = any(isinstance(leaf, Symbol) for leaf in pytree.tree_leaves(operands))

    def one(result: Any) -> Any:
        if not isinstance(result, torch.Tensor) or result.dtype not in DTYPES:
            return _REFUSED
        if not varies:
            return torch.zeros(tuple(result.shape), dtype=result.dtype)
        return Symbol(node.name, TensorType(tuple(result.shape), DTYPES[result.dtype]))

    return tuple(map(one, value)) if isinstance(value, (tuple, list)) else one(value)


def _nearest_source(node: AtenNode) -> str:
    """The user's line of the node or, for one that capture added, of what it reads."""
    source = user_source(node)
    if source or not node.all_input_nodes:
        return source
    return _nearest_source(node.all_input_nodes[0])
