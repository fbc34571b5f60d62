"""Every sample once, with its name: what programs are judged on, as against calibrated with."""

import numpy as np

from kpuc.quant.data import InputSpec, any_samples

PAIR = InputSpec("x", (2, 3))
ROWS = np.arange(15, dtype=np.float32).reshape(5, 3)


def labelled(source, spec=PAIR, limit=None):
    found = any_samples(source, [spec], "none")
    return (found if limit is None else found.first(limit)).labelled()


def test_the_last_batch_is_filled_up_but_only_samples_have_a_label():
    found = list(labelled(ROWS))
    assert [names for names, _ in found] == [
        ["calibration sample 0", "calibration sample 1"],
        ["calibration sample 2", "calibration sample 3"],
        ["calibration sample 4"],
    ]
    assert (np.concatenate([sample["x"] for _, sample in found]) == ROWS[[0, 1, 2, 3, 4, 4]]).all()


def test_the_count_is_that_of_the_samples_the_length_that_of_the_batches():
    found = labelled(ROWS)
    assert (found.count, len(found)) == (5, 3)


def test_what_was_given_whole_stays_whole_among_single_samples():
    found = list(labelled([ROWS[0], ROWS[1:3], ROWS[3], ROWS[4]]))
    assert [len(names) for names, _ in found] == [2, 2, 1]
    assert (found[0][1]["x"] == ROWS[1:3]).all()
    assert (found[1][1]["x"] == ROWS[[0, 3]]).all()


def test_the_first_samples_are_no_more_than_asked_for_unless_one_was_given_whole():
    assert labelled(ROWS, limit=3).count == 3
    assert labelled([ROWS[:2], ROWS[2:4]], limit=3).count == 4
    assert labelled(ROWS, limit=9).count == 5


def test_inputs_without_a_batch_are_labelled_one_by_one():
    spec = InputSpec("x", (2, 3), is_batched=False)
    found = list(labelled(np.stack([ROWS[:2], ROWS[2:4]]), spec))
    assert [names for names, _ in found] == [["calibration sample 0"], ["calibration sample 1"]]
    assert (found[1][1]["x"] == ROWS[2:4]).all()
