"""The page and the image of a sweep."""

import re
from base64 import b64encode
from hashlib import sha256
from html import unescape

import pytest

from kpuprof.sweep.charts import pareto_charts
from kpuprof.sweep.image import image
from kpuprof.sweep.page import page
from kpuprof.sweep.table import Row
from tests.kpuprof.sweep.results import result

HOSTILE = "</script><script>alert(1)</script>"
ROWS = [
    Row("net", result("1", (1.0, 4.0, 100.0)), True),
    Row("net", result("2", (2.0, 2.0, 50.0)), True),
    Row("net", result("3", (3.0, 4.0, 100.0)), False),
    Row("net", result("4", None), False),
]


def written(rows=ROWS):
    return page(rows, ["a.b"], "swkpu-v1")


def test_the_page_loads_nothing_and_allows_its_own_style_and_script_alone():
    html = written()
    (policy,) = map(unescape, re.findall(r'Content-Security-Policy" content="([^"]*)"', html))
    assert policy.startswith("default-src 'none'; ")
    for tag in ("style", "script"):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = b64encode(sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not re.findall(r"(?:src|href)=\"(?!#)", html)


def test_every_result_is_a_dot_and_the_front_is_above():
    computed = [row for row in ROWS if row.result.figures]
    charts = pareto_charts(computed, computed[:2])
    assert [chart.name for chart in charts] == [
        "Latency and energy",
        "Latency and area proxy",
        "Energy and area proxy",
    ]
    assert all((len(chart.front), len(chart.others)) == (2, 1) for chart in charts)
    fast, cheap = charts[0].front
    assert fast.x < cheap.x
    assert fast.y < cheap.y  # up is more energy


def test_the_table_lists_the_front_and_why_machines_were_refused():
    html = written()
    assert html.count('<tr id="m0front') == 2
    assert "SRAM memory exceeded" in html


def test_a_name_cannot_leave_its_place():
    row = Row(HOSTILE, result("1", (1.0, 1.0, 1.0), precision=HOSTILE), True)
    assert HOSTILE not in page([row], ["precision"], HOSTILE)


@pytest.mark.parametrize("rows", [[], [Row("net", result("1", None), False)]])
def test_a_sweep_without_figures_has_a_page_and_an_image(rows):
    assert "</html>" in written(rows)
    assert image(rows).startswith(b"\x89PNG")


def test_the_same_results_give_the_same_bytes():
    assert written() == written()
    assert image(ROWS) == image(ROWS)
