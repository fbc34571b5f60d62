"""In-place writes: which are made functional at once, and what torch must know for the others.

After convolution, normalisation or addition nobody else can see what an activation writes in place,
so the write is plainly a new value. torch functionalises any graph, but it traces it again to do
so, which is most of the time that capture takes.
"""

import torch
from torch._ops import OpOverload
from torch.fx import Graph, Node

aten = torch.ops.aten

_FUNCTIONAL: dict[OpOverload, OpOverload] = {
    aten.relu_.default: aten.relu.default,
    aten.relu6_.default: aten.relu6.default,
    aten.silu_.default: aten.silu.default,
    aten.hardswish_.default: aten.hardswish.default,
    aten.hardsigmoid_.default: aten.hardsigmoid.default,
    aten.hardtanh_.default: aten.hardtanh.default,
    aten.leaky_relu_.default: aten.leaky_relu.default,
}

_DROPOUTS: frozenset[OpOverload] = frozenset(
    {
        aten.dropout.default,
        aten.feature_dropout.default,
        aten.alpha_dropout.default,
        aten.feature_alpha_dropout.default,
        aten.dropout_.default,
        aten.feature_dropout_.default,
        aten.alpha_dropout_.default,
        aten.feature_alpha_dropout_.default,
    }
)

# The schema of a composite op does not say whether it may return its operand (dropout in eval mode
# does) or a view of it. These return new tensors, and only read their operands.
_FRESH_COMPOSITES: frozenset[OpOverload] = frozenset(
    {
        aten.conv1d.default,
        aten.conv2d.default,
        aten.conv3d.default,
        aten.conv1d.padding,
        aten.conv2d.padding,
        aten.conv3d.padding,
        aten.linear.default,
        aten.matmul.default,
        aten.batch_norm.default,
        aten.scaled_dot_product_attention.default,
        aten.softmax.int,
        aten.relu6.default,
        aten.prelu.default,
        aten.max_pool1d.default,
        aten.max_pool2d.default,
        aten.max_pool3d.default,
        aten.avg_pool1d.default,
        aten.adaptive_avg_pool1d.default,
        aten.adaptive_avg_pool2d.default,
        aten.adaptive_avg_pool3d.default,
        aten.upsample_nearest1d.vec,
        aten.upsample_nearest2d.vec,
        aten.upsample_nearest3d.vec,
        aten.upsample_linear1d.vec,
        aten.upsample_bilinear2d.vec,
        aten.upsample_trilinear3d.vec,
    }
)


def make_activations_functional(graph: Graph) -> None:
    """Rewrite, in `graph`, every in-place activation whose operand nothing else shares."""
    position = {node: index for index, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        if node.target not in _FUNCTIONAL:
            continue
        operand = node.args[0]
        assert isinstance(operand, Node)
        readers = list(operand.users)
        earlier = [user for user in readers if position[user] < position[node]]
        if not all(_makes_new_tensor(other) for other in (operand, *earlier)):
            continue
        node.target = _FUNCTIONAL[node.target]
        for user in readers:  # after the write the operand's name means the new value
            if position[user] > position[node]:
                user.replace_input_with(operand, node)


def bypass_idle_dropout(graph: Graph) -> None:
    """Dropout that does nothing returns its operand, so a write to one is a write to the other.
    torch's functionalisation takes it for a copy.
    """
    for node in graph.nodes:
        if node.target in _DROPOUTS and not (node.args[2] and node.args[1]):
            node.target = aten.alias.default
            node.args = (node.args[0],)


def writes_in_place(graph: Graph) -> bool:
    """Whether any op of the graph overwrites an operand."""
    return any(
        isinstance(node.target, OpOverload) and node.target._schema.is_mutable
        for node in graph.nodes
    )


def may_share_memory(target: OpOverload) -> bool:
    """Whether a composite op may return its operand, or a view of it, without saying so."""
    return target._can_decompose() and target not in _FRESH_COMPOSITES


def _makes_new_tensor(node: Node) -> bool:
    """Whether the results share no memory with the operands, whatever these are."""
    target = node.target
    if not isinstance(target, OpOverload) or may_share_memory(target):
        return False
    shares = any(result.alias_info is not None for result in target._schema.returns)
    return not shares and not target._schema.is_mutable
