"""The table, the kept lines and the page of a sweep say the same, read here without any code of
ours."""

import csv
import json
import re
from html import unescape

import pytest

from formats.console import run
from kpuprof.cli import app
from tests.kpuprof.stored import says


@pytest.fixture
def swept(folder):
    """The folder, after a sweep of its eight machines."""
    words = [str(folder / "space.toml"), "--model", str(folder / "net.kpu"), "--workers", "1"]
    outputs = ["-o", str(folder / "out.csv"), "--html", str(folder / "out.html")]
    assert run(app, "kpuprof", ["sweep", *words, *outputs]) == 0
    return folder


@pytest.fixture
def table(swept):
    with (swept / "out.csv").open() as file:
        return list(csv.DictReader(file))


def test_every_line_is_a_row_with_the_same_figures(swept, table):
    kept = [json.loads(line) for line in (swept / "out.jsonl").read_text().splitlines()]
    assert len(kept) == len(table) == 8
    machines = {tuple(map(str, each["fields"].values())): each for each in kept}
    assert len(machines) == 8
    for row in table:
        fields = [row[name] for name in kept[0]["fields"]]
        line = machines[tuple(fields)]
        assert (row["status"], row["message"]) == (line["status"], line["message"])
        figures = line["figures"] or dict.fromkeys(kept[-1]["figures"], None)
        for name, value in figures.items():
            assert row[name] == ("" if value is None else str(value)), name


def test_the_front_of_the_page_is_that_of_the_table(swept, table):
    html = (swept / "out.html").read_text()
    found = [
        dict(zip(("time_us", "energy_uj", "area_proxy"), map(float, row[:3]), strict=True))
        for row in (
            re.findall(r'data-value="([^"]*)"', line)
            for line in re.findall(r'<tr id="m0front\d+">.*?</tr>', html, re.DOTALL)
        )
    ]
    best = [row for row in table if row["is_pareto"] == "true"]
    expected = [{name: float(row[name]) for name in found[0]} for row in best]
    order = lambda row: tuple(row.values())  # noqa: E731
    assert sorted(found, key=order) == sorted(expected, key=order)
    unbeaten = [
        row
        for row in table
        if row["status"] == "ok"
        and not any(
            all(float(other[name]) <= float(row[name]) for name in found[0])
            and any(float(other[name]) < float(row[name]) for name in found[0])
            for other in table
            if other["status"] == "ok"
        )
    ]
    assert len(unbeaten) == len(best)


def test_the_texts_of_the_page_are_its_figures(swept):
    html = (swept / "out.html").read_text()
    cells = re.findall(r'<td class="num" data-value="([^"]*)">([^<]*)</td>', html)
    assert len(cells) >= 10
    for value, text in cells:
        assert says(unescape(text), float(value)), (value, text)
