"""The page of a sweep in headless Chromium: it renders, sorts, and logs no error."""

import pytest

from kpuprof.sweep.page import page
from kpuprof.sweep.table import Row
from tests.kpuprof.browser import browser, open_html  # noqa: F401  # fixtures
from tests.kpuprof.sweep.results import result

HOSTILE = "</script><script>window.stolen = 1</script><img src=x onerror='window.stolen = 1'>"
# Latency in µs, energy in µJ, area proxy; the three of the front, one that is beaten, one refused.
ROWS = [
    Row("net", result("1", (1.0, 40.0, 100.0), **{"memory.sram_l2_bytes": 4096}), True),
    Row("net", result("2", (20.0, 3.0, 1000.0), **{"memory.sram_l2_bytes": 1024}), True),
    Row("net", result("3", (300.0, 20.0, 5.0), **{"memory.sram_l2_bytes": 512}), True),
    Row("net", result("4", (400.0, 40.0, 2000.0), **{"memory.sram_l2_bytes": 64}), False),
    Row("net", result("5", None, **{"memory.sram_l2_bytes": 1}), False),
]

pytestmark = pytest.mark.browser


@pytest.fixture
def open_sweep(open_html):  # noqa: F811
    """A function that opens the page of results."""

    def open_it(rows=ROWS, machine="swkpu-v1", **how):
        return open_html(page(rows, ["memory.sram_l2_bytes"], machine), **how)

    return open_it


def column(opened, place):
    return opened.locator(f"table[data-sortable] tbody td:nth-child({place})").all_inner_texts()


def test_the_front_is_listed_from_the_fastest(open_sweep):
    assert column(open_sweep(), 1) == ["1.00\u202fµs", "20.0\u202fµs", "300\u202fµs"]


@pytest.mark.parametrize(
    ("button", "place", "largest_first"),
    [
        ("energy", 2, ["40.0\u202fµJ", "20.0\u202fµJ", "3.00\u202fµJ"]),
        ("area proxy", 3, ["1.00\u202fk", "100", "5"]),
        ("sram_l2_bytes", 5, ["4.0\u202fKiB", "1.0\u202fKiB", "512\u202fB"]),
    ],
)
def test_a_header_sorts_by_value_and_says_so(open_sweep, button, place, largest_first):
    opened = open_sweep()
    header = opened.locator("th", has=opened.get_by_role("button", name=button))
    header.get_by_role("button").click()
    assert column(opened, place) == largest_first
    assert header.get_attribute("aria-sort") == "descending"
    header.get_by_role("button").press("Enter")
    assert column(opened, place) == largest_first[::-1]
    assert header.get_attribute("aria-sort") == "ascending"
    assert opened.locator("th[aria-sort=ascending], th[aria-sort=descending]").count() == 1


def test_every_result_is_a_dot_and_one_of_the_front_leads_to_its_row(open_sweep):
    opened = open_sweep()
    plot = opened.get_by_role("img", name="Latency and energy")
    assert plot.locator("circle").count() == 4
    plot.locator("a").nth(1).click()
    assert "20.0\u202fµs" in opened.locator("tr:target").inner_text()


def test_it_says_why_machines_were_refused(open_sweep):
    refused = open_sweep().get_by_role("region", name="Refused")
    assert refused.locator("tbody td").all_inner_texts() == ["1", "SRAM memory exceeded"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_is_wider_than_the_window(open_sweep, scheme, width):
    opened = open_sweep(scheme=scheme, width=width)
    assert opened.evaluate("document.documentElement.scrollWidth") == width


def test_a_hostile_name_runs_nothing(open_sweep):
    row = Row(HOSTILE, result("1", (1.0, 1.0, 1.0), **{"memory.sram_l2_bytes": 1}), True)
    opened = open_sweep([row], HOSTILE)
    assert opened.evaluate("window.stolen") is None
    assert opened.locator("h1").inner_text() == HOSTILE


def test_a_sweep_without_results_renders_too(open_sweep):
    assert open_sweep([]).locator("h1").inner_text() == "No results"
