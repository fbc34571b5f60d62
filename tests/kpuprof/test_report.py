"""`kpuprof report`: the page says what the profile says, and no name in it does harm."""

import json
import re
from dataclasses import asdict, replace
from html.parser import HTMLParser
from itertools import accumulate, pairwise

import numpy as np
import pytest

from formats.console import run
from formats.container import save
from formats.errors import FileError
from formats.profile import COMMAND_KINDS, SimulationMode
from kpuprof.activity import UNITS
from kpuprof.cli import app
from kpuprof.commands.report import run_names
from kpuprof.report import report, script_json
from kpuprof.rows import op_rows
from kpuprof.summary import summarise
from tests.kpuprof.profiles import quantised_profile, renamed, simulated_profile, small_profile

HOSTILE = "</script><img src=x onerror=alert(1)>&\u2028'\""


class Page(HTMLParser):
    """The elements of a page, its text, and what its scripts hold."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.lasttag == "script" and self.scripts[-1] == "":
            self.scripts[-1] = data
        else:
            self.text += data

    @property
    def data(self):
        return json.loads(self.scripts[0])


def page_of(*profiles) -> Page:
    return Page(report({f"run {number}": each for number, each in enumerate(profiles)}))


def test_every_figure_of_the_page_is_that_of_the_profile():
    profile = simulated_profile()
    (found,) = page_of(profile).data["runs"]
    rows = op_rows(profile)
    assert found["summary"] == asdict(summarise(profile, rows))
    assert found["ops"]["fused"] == [["bn1"], []]
    for name in ("id", "cycles", "share", "energy_uj", "dram_bytes", "roofline_cycles", "macs"):
        assert found["ops"][name] == [getattr(row, name) for row in rows]
    for name in ("start_cycle", "end_cycle", "l2_live_bytes"):
        assert found["ops"][name] == profile.events[f"op.{name}"].tolist()
    assert list(accumulate(found["power"]["starts"])) == [0, 10, 200]
    assert found["power"]["watts"] == [0.5, 7.5, 5.7]
    assert found["energy_uj"] == {"multiply-accumulate": 3.0, "DRAM": 1.0}
    assert found["memory"]["peak_bytes"] == 1024


def test_the_commands_of_the_page_are_those_of_the_profile():
    profile = simulated_profile()
    events = profile.events
    found = page_of(profile).data["runs"][0]["units"]
    assert [unit["unit"] for unit in found] == list(UNITS)
    for unit in found:
        kinds = [COMMAND_KINDS.index(kind) for kind in UNITS[unit["unit"]]]
        mine = np.isin(events["command.kind"], kinds)
        lengths = (events["command.end_cycle"] - events["command.start_cycle"])[mine]
        assert list(accumulate(unit["starts"])) == events["command.start_cycle"][mine].tolist()
        assert unit["lengths"] == lengths.tolist()
        assert unit["ops"] == events["command.op"][mine].tolist()
        assert unit["busy_cycles"] == lengths.sum()


def test_the_page_shows_headlines_ops_units_memory_and_power():
    text = page_of(simulated_profile()).text
    for shown in (
        "Speed of light",
        "76.7\u202f%",  # 230 cycles of roofline in 300
        "6.50\u202fW",
        "Arrays and lanes",
        "conv1",
        "TDP 5.00 W",
        "Above the TDP for 290 cycles",
        "fused: bn1",
        "multiply-accumulate",
    ):
        assert shown in text


def test_what_was_not_recorded_is_left_out_with_the_option_that_records_it():
    text = page_of(small_profile()).text
    assert "kpurun MODEL.kpu --mode cycle_accurate --profile RUN.kprof" in text
    assert "kpurun MODEL.kpu --mode power_trace --profile RUN.kprof" in text
    assert "kpuc MODEL --precision int8 --calibration SAMPLES" in text


def test_a_trace_that_was_cut_short_says_so():
    profile = simulated_profile()
    cut = replace(profile, options={"left_out": {"command": 1234, "power": 5}})
    text = page_of(cut).text
    assert "The last 1,234 commands are not in this profile" in text
    assert "The last 5 changes of power" in text


def test_the_quantisation_is_shown_with_the_sqnr_of_ops_and_outputs():
    page = page_of(quantised_profile())
    for shown in ("mse", "90 samples", "75.0\u202f%", "38.2\u202fdB", "41.5\u202fdB", "fc (fp16)"):
        assert shown in page.text
    assert page.data["runs"][0]["ops"]["sqnr_db"] == [41.5, None]


def test_a_name_cannot_leave_its_place_in_the_page():
    profile = renamed(simulated_profile(), HOSTILE, HOSTILE)
    page = Page(report({HOSTILE: profile, "other": simulated_profile()}))
    assert not [tag for tag, _ in page.elements if tag == "img"]
    assert len(page.scripts) == 2
    assert page.data["runs"][0]["ops"]["name"][0] == HOSTILE
    assert page.data["runs"][0]["summary"]["program"] == HOSTILE


def test_json_in_a_script_has_no_sign_that_html_reads():
    text = str(script_json({"name": HOSTILE}))
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"name": HOSTILE}


def test_the_page_loads_nothing_and_allows_only_its_own_script_and_style():
    page = page_of(simulated_profile())
    (policy,) = (
        attributes["content"]
        for tag, attributes in page.elements
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert re.fullmatch(
        r"default-src 'none'; style-src 'sha256-[\w+/=]+'; script-src 'sha256-[\w+/=]+'; "
        r"base-uri 'none'; form-action 'none'",
        policy,
    )
    for tag, attributes in page.elements:
        assert "src" not in attributes
        assert "style" not in attributes, "the policy would refuse it"
        assert attributes.get("href", "#").startswith("#"), tag
        assert not [name for name in attributes if name.startswith("on")]


def test_ids_are_given_once_and_every_link_leads_somewhere():
    page = page_of(simulated_profile(), quantised_profile())
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        if "href" in attributes:
            assert attributes["href"][1:] in ids
        for name in attributes.get("aria-labelledby", "").split():
            assert name in ids


def test_tables_and_drawings_are_named_for_a_screen_reader():
    page = page_of(simulated_profile(), quantised_profile())
    tags = [tag for tag, _ in page.elements]
    assert tags.count("caption") == tags.count("table")
    for tag, attributes in page.elements:
        if tag == "svg":
            named = {"aria-label", "aria-labelledby", "aria-hidden"} & attributes.keys()
            assert named, attributes
        if tag == "th":
            assert attributes["scope"] in ("col", "row")


@pytest.mark.parametrize("runs", [1, 2])
def test_headings_go_down_a_level_at_a_time_from_one_title(runs):
    page = page_of(*[simulated_profile()] * runs)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(lower <= upper + 1 for upper, lower in pairwise(levels))


def test_the_same_profiles_give_the_same_bytes():
    assert report({"a": simulated_profile()}) == report({"a": simulated_profile()})


def test_runs_are_compared_with_the_first():
    slower = simulated_profile()
    metrics = replace(slower.metrics, total_time_us=0.9, total_energy_uj=2.0)
    page = page_of(simulated_profile(), replace(slower, metrics=metrics))
    assert "2 runs compared" in page.text
    assert "+50.0\u202f% worse" in page.text
    assert "−50.0\u202f% better" in page.text
    assert len(page.data["runs"]) == 2


def test_a_command_of_no_op_is_refused():
    profile = simulated_profile()
    ops = profile.events["command.op"].copy()
    ops[0] = 7
    broken = replace(profile, events={**profile.events, "command.op": ops})
    with pytest.raises(FileError, match="a command is of no op or outside the run"):
        report({"run": broken})


@pytest.mark.parametrize("watts", [[0.5, -1.0, 2.0], [0.5, np.inf, 2.0], [0.5, np.nan, 2.0]])
def test_watts_that_cannot_be_are_refused(watts):
    profile = simulated_profile()
    broken = replace(profile, events={**profile.events, "power.watts": np.array(watts)})
    with pytest.raises(FileError, match="the power trace is not one of this run"):
        report({"run": broken})


def test_a_program_without_ops_has_a_report():
    profile = small_profile()
    program = replace(
        profile.program, ops=(), tensors={}, input_ids=(), output_ids=(), peak_sram_bytes=0
    )
    metrics = type(profile.metrics)()
    events = {name: column[:0] for name, column in profile.events.items()}
    empty = replace(profile, program=program, metrics=metrics, events=events)
    assert "No op of this program computes" in page_of(empty).text


def test_the_command_writes_the_page_and_nothing_else(tmp_path, capsys):
    save(simulated_profile(), tmp_path / "run.kprof")
    target = tmp_path / "report.html"
    assert run(app, "kpuprof", ["report", str(tmp_path / "run.kprof"), "-o", str(target)]) == 0
    assert capsys.readouterr() == ("", "")
    assert target.read_text("utf-8").startswith("<!doctype html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "run.kprof"]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["run.kprof"], "nothing to write: give -o report.html, --png DIR or --svg DIR"),
        (["-", "-", "-o", "x"], "only one of the files can come from stdin"),
    ],
)
def test_a_wrong_use_is_refused(words, error, capsys):
    assert run(app, "kpuprof", ["report", *words]) == 2
    assert error in capsys.readouterr().err


def test_a_profile_is_not_overwritten_by_its_report(tmp_path, capsys):
    path = tmp_path / "run.kprof"
    save(small_profile(), path)
    assert run(app, "kpuprof", ["report", str(path), "-o", str(path)]) == 2
    assert "would overwrite the input" in capsys.readouterr().err


def test_runs_of_one_name_are_numbered():
    assert run_names(["a/run.kprof", "b/run.kprof", "-"]) == ["run 1", "run 2", "stdin"]


def test_a_long_trace_is_thinned_and_its_totals_are_not():
    profile = simulated_profile()
    count = 30_000
    starts = np.arange(count) * 2
    columns = {
        "op": np.zeros(count, np.int64),
        "kind": np.where(np.arange(count) % 2, 2, 0),
        "operand": np.zeros(count, np.int64),
        "step": np.arange(count),
        "start_cycle": starts,
        "end_cycle": starts + 1,
        "bytes": np.ones(count, np.int64),
    }
    events = {**profile.events, **{f"command.{name}": it for name, it in columns.items()}}
    events |= {"command." + name: np.tile(it, 3) for name, it in columns.items()}
    total = 2 * count
    metrics = replace(profile.metrics, total_cycles=total, other_cycles=total - 280)
    long = replace(profile, mode=SimulationMode.CYCLE_ACCURATE, events=events, metrics=metrics)
    text = report({"run": long})
    (found,) = Page(text).data["runs"]
    assert sum(unit["commands"] for unit in found["units"]) == 3 * count
    assert sum(len(unit["starts"]) for unit in found["units"]) < count
