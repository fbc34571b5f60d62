"""Accesses that several families share: elementwise, broadcast and fully named axes."""

from collections.abc import Sequence

from kpurun.ops.loopnest import Access, Axis, Dim, LoopNest, Role


def point_dims(shape: Sequence[int]) -> tuple[Dim, ...]:
    """One independent dimension D0, D1, … per axis."""
    return tuple(Dim(f"D{index}", size, Role.POINT) for index, size in enumerate(shape))


def identity_access(shape: Sequence[int]) -> Access:
    """Axis i follows dimension Di."""
    return Access(tuple(Axis(size, ((f"D{i}", 1),)) for i, size in enumerate(shape)))


def broadcast_access(shape: Sequence[int], output: Access) -> Access:
    """How an operand that broadcasts to `output` is touched: axes aligned from the right.

    An axis of size 1 that the output stretches is whole in every tile.
    """
    aligned = output.axes[len(output.axes) - len(shape) :]
    return Access(
        tuple(
            axis if size == axis.size else Axis(size)
            for size, axis in zip(shape, aligned, strict=True)
        )
    )


def shifts(nest: LoopNest) -> list[tuple[int, ...]] | None:
    """How far each read, then each write, is shifted against the points of the nest, per axis; None
    where an operand is anything but a box of them, in their order.

    What is moved along is then a box of one tensor on either side (Concat, Split, Slice).
    """
    names = [dim.name for dim in nest.dims]
    found = []
    for access in (*nest.reads, *nest.writes):
        terms = [axis.terms for axis in access.axes]
        if access.scattered or terms != [((name, 1),) for name in names]:
            return None
        found.append(tuple(axis.offset for axis in access.axes))
    return found
