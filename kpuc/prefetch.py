"""What is left of L2 is spent on being ahead: buffers of weights that are there earlier, or hold
more tiles, where an op would wait for the DRAM bus.

Greedy: of the moves that help the ops that wait longest, the best one, again and again.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from kpuc.draft import Draft, Outline, placed
from kpuc.staging import with_more_l2_copies

WAITING_OPS = 8  # that are looked at in a round
MOST_TRIES = 200
LEAST_GAIN = 0.0005  # of all cycles


def get_ahead(draft: Draft) -> Draft:
    """The draft after all moves that shorten it."""
    tries = MOST_TRIES
    while tries > 0:
        best = draft
        for outline in islice(_moves(draft), tries):
            tries -= 1
            tried = placed(outline)
            if tried is not None and tried.cycles < best.cycles:
                best = tried
        if best.cycles > draft.cycles * (1 - LEAST_GAIN):
            return best
        draft = best
    return draft


def _moves(draft: Draft) -> Iterator[Outline]:
    outline = draft.outline
    order = outline.scheduled.order
    by_waiting = sorted(range(len(order)), key=lambda at: -draft.stalls[at])
    for position in by_waiting[:WAITING_OPS]:
        node = order[position]
        keys = [key for key in outline.weight_buffers() if key[0] == node.id]
        for earlier in (1, 4):
            begins = dict(outline.begins)
            for key in keys:
                begins[key] = max(0, position - draft.ahead.get(key, 0) - earlier)
            if begins != outline.begins:
                yield replace(outline, begins=begins)
        more = with_more_l2_copies(outline.tiles[node.id], outline.work(node))
        if more is not None:
            yield replace(outline, tiles={**outline.tiles, node.id: more})
