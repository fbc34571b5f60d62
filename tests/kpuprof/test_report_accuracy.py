"""`kpuprof report --accuracy`: the page says what the accuracy run said, of its program alone."""

import json
from dataclasses import replace

import pytest

from formats.console import run
from formats.container import save
from formats.errors import FileError, UsageError
from formats.schema import load_config
from kpuprof.accuracy_file import accuracy_by_digest, digest_of, load_accuracy
from kpuprof.cli import app
from kpuprof.report import report
from kpuprof.rows import op_rows
from kpuprof.sqnr import op_sqnr, sqnr_chart
from tests.kpuprof.accuracies import accuracy_of, named, text_of
from tests.kpuprof.profiles import quantised_profile, small_profile
from tests.kpuprof.test_report import HOSTILE, Page


@pytest.fixture
def written(tmp_path):
    """A function that writes an accuracy run into a file."""

    def write(found, name="accuracy.json"):
        (tmp_path / name).write_text(text_of(found))
        return str(tmp_path / name)

    return write


def page_with(profile, found):
    return Page(report({"run": profile}, {found.program_digest: found}))


def test_the_page_says_what_the_file_says(written):
    profile = small_profile()
    path = written(accuracy_of(profile))
    with open(path) as file:
        document = json.load(file)
    page = page_with(profile, load_accuracy(path))
    (shown,) = page.data["runs"]
    assert shown["accuracy"] == {
        key: {name: value[name] for name in ("ops", "stored_weights")}
        if key == "per_layer"
        else value
        for key, value in document.items()
        if key not in ("schema_version", "command", "limits")
    }
    assert shown["ops"]["sqnr_db"] == [op["sqnr_db"] for op in document["per_layer"]["ops"]]
    assert shown["ops"]["own_sqnr_db"] == [op["own_sqnr_db"] for op in document["per_layer"]["ops"]]
    for text in ("31.5\u202fdB", "28.2\u202fdB", "2.0\u202f%", "75.0\u202f%", "32.2\u202fdB"):
        assert text in page.text
    assert "12 samples of set" in page.text


def test_outputs_alone_leave_the_programs_own_figures_of_its_ops():
    profile = quantised_profile()
    page = page_with(profile, accuracy_of(profile, ops=()))
    assert page.data["runs"][0]["ops"]["sqnr_db"] == [41.5, None]
    assert "On the samples held out of calibration" in page.text
    assert "Against net in PyTorch" in page.text


def test_a_run_is_shown_for_its_program_and_no_other(written):
    first, second = small_profile(), quantised_profile()
    found = accuracy_by_digest([written(accuracy_of(second))], [first.program, second.program])
    data = Page(report({"a": first, "b": second}, found)).data["runs"]
    assert [each["accuracy"] is not None for each in data] == [False, True]


def test_a_program_keeps_its_accuracy_on_another_machine():
    program = small_profile().program
    moved = replace(program, target_config=load_config("swkpu-v2"), weights_blob=None)
    assert digest_of(moved) == digest_of(program)


@pytest.mark.parametrize(
    "change",
    [
        lambda program: replace(program, source_hash="another"),
        lambda program: replace(program, quantization=None),
        lambda program: replace(program, ops=program.ops[:1]),
        lambda program: replace(
            program, tensors=program.tensors | {"x": replace(program.tensors["x"], scale=0.25)}
        ),
    ],
    ids=["weights", "calibration", "ops", "scales"],
)
def test_a_program_that_computes_otherwise_has_another_digest(change):
    program = quantised_profile().program
    assert digest_of(change(program)) != digest_of(program)


def test_a_run_of_another_program_is_refused(written):
    path = written(accuracy_of(quantised_profile()))
    with pytest.raises(UsageError, match=r"accuracy.json: is of another program, small in int8"):
        accuracy_by_digest([path], [small_profile().program])


def test_two_runs_of_one_program_are_refused(written):
    found = accuracy_of(small_profile())
    paths = [written(found), written(found, "again.json")]
    with pytest.raises(UsageError, match=r"again.json: a second accuracy run of small"):
        accuracy_by_digest(paths, [small_profile().program])


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"command": "show"}', '{"command": "accuracy"}', "\udcff"]
)
def test_another_file_is_refused(content, tmp_path):
    path = tmp_path / "other.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(FileError, match=r"other.json: not what kpuprof accuracy -o writes"):
        load_accuracy(str(path))


def test_names_of_an_accuracy_run_are_text():
    page = page_with(small_profile(), named(accuracy_of(small_profile()), HOSTILE))
    assert not [tag for tag, _ in page.elements if tag == "img"]
    assert len(page.scripts) == 2


def test_the_drawing_has_a_place_for_every_figure():
    profile = small_profile()
    rows = op_rows(profile)
    chart = sqnr_chart(rows, op_sqnr(rows, accuracy_of(profile)))
    heights = {(dot.index, dot.is_own): dot.y for dot in chart.dots}
    # 30 to 50 dB over the places 236 to 26: 10.5 for each dB
    assert heights == {
        (0, True): pytest.approx(236 - 105 - 5.2, abs=0.1),
        (0, False): pytest.approx(236 - 105 - 5.2, abs=0.1),
        (1, True): pytest.approx(236 - 23.6, abs=0.1),
        (1, False): pytest.approx(236 - 15.8, abs=0.1),
    }


def test_ops_that_are_equal_to_the_bit_have_no_drawing():
    profile = small_profile()
    rows = op_rows(profile)
    equal = tuple(
        replace(op, sqnr_db=200.0, own_sqnr_db=None) for op in accuracy_of(profile).per_layer.ops
    )
    assert sqnr_chart(rows, op_sqnr(rows, accuracy_of(profile, equal))) is None


def test_the_command_takes_the_file(written, tmp_path, capsys):
    profile = small_profile()
    save(profile, tmp_path / "run.kprof")
    path = written(accuracy_of(profile))
    words = ["report", str(tmp_path / "run.kprof"), "--accuracy", path]
    assert run(app, "kpuprof", [*words, "-o", str(tmp_path / "page.html")]) == 0
    assert "Against net in PyTorch" in (tmp_path / "page.html").read_text()
    assert run(app, "kpuprof", [*words, "--png", str(tmp_path)]) == 2
    assert "--accuracy is shown in the page" in capsys.readouterr().err
    assert run(app, "kpuprof", [*words, "-o", path]) == 2
