"""The report in headless Chromium: it renders, sorts and filters, and logs no error."""

from dataclasses import replace

import pytest

from kpuprof.report import report
from tests.kpuprof.accuracies import accuracy_of, named
from tests.kpuprof.browser import browser, open_html  # noqa: F401  # fixtures
from tests.kpuprof.profiles import quantised_profile, renamed, simulated_profile, small_profile

HOSTILE = "</script><script>window.stolen = 1</script><img src=x onerror='window.stolen = 1'>"

pytestmark = pytest.mark.browser


@pytest.fixture
def open_page(open_html):  # noqa: F811
    """A function that opens a report of runs."""

    def open_it(*profiles, accuracy=None, **how):
        labelled = {f"run {i}": each for i, each in enumerate(profiles)}
        return open_html(report(labelled, accuracy or {}), **how)

    return open_it


def names(page):
    return page.locator("table.ops tbody tr:visible th").all_inner_texts()


def test_a_header_sorts_the_ops_and_says_so(open_page):
    page = open_page(simulated_profile())
    cycles = page.locator("table.ops th", has=page.get_by_role("button", name="Cycles"))
    cycles.get_by_role("button").click()
    assert names(page) == ["conv1", "fc"]
    assert cycles.get_attribute("aria-sort") == "descending"
    cycles.get_by_role("button").press("Enter")
    assert names(page) == ["fc", "conv1"]
    assert cycles.get_attribute("aria-sort") == "ascending"
    assert page.locator("table.ops th[aria-sort=ascending]").count() == 1


@pytest.mark.parametrize(
    ("words", "found"),
    [("conv", ["conv1"]), ("BN1", ["conv1"]), ("relu fp16", ["conv1", "fc"]), ("fc conv", [])],
)
def test_the_search_finds_names_types_and_fused_ops(open_page, words, found):
    page = open_page(simulated_profile())
    page.get_by_label("Search").fill(words)
    assert names(page) == found
    assert page.locator("output.count").inner_text().startswith(f"{len(found)} of 2 ops")


def test_a_filter_keeps_the_ops_that_dram_binds(open_page):
    page = open_page(simulated_profile())
    page.get_by_role("combobox", name="Bound by").select_option("DRAM")
    assert names(page) == ["fc"]
    assert page.locator("output.count").inner_text() == "1 of 2 ops · 100 cycles (33.3\u202f%)"


def test_a_box_of_the_graph_leads_to_its_row_even_if_that_is_filtered_out(open_page):
    page = open_page(simulated_profile())
    page.get_by_label("Search").fill("fc")
    page.locator("svg.graph a").first.click()
    assert names(page) == ["conv1", "fc"]
    assert page.locator("tr:target th").inner_text() == "conv1"


def test_the_timeline_is_drawn_zooms_with_keys_and_explains_what_is_pointed_at(open_page):
    page = open_page(simulated_profile())
    canvas = page.locator("canvas")
    drawn = page.evaluate(
        "() => { const c = document.querySelector('canvas');"
        " return new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size }"
    )
    assert drawn > 10
    canvas.press("+")
    assert page.locator("output.window").inner_text().endswith("150 cycles")
    canvas.press("0")
    assert page.locator("output.window").inner_text().endswith("300 cycles")
    canvas.hover(position={"x": 300, "y": 38})
    assert "conv1" in page.locator(".tip").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_is_wider_than_the_window(open_page, scheme, width):
    profile = simulated_profile()
    slower = replace(profile, metrics=replace(profile.metrics, total_time_us=0.9))
    page = open_page(profile, slower, quantised_profile(), scheme=scheme, width=width)
    for wanted in ("run 0", "run 2"):
        page.locator(".switch").get_by_role("button", name=wanted).click()
        assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_that_wcag_asks_for(open_page, scheme):
    page = open_page(simulated_profile(), scheme=scheme)
    luminance = """(name) => {
      const probe = document.createElement('canvas').getContext('2d');
      probe.fillStyle = getComputedStyle(document.documentElement).getPropertyValue('--' + name);
      probe.fillRect(0, 0, 1, 1);
      const parts = [...probe.getImageData(0, 0, 1, 1).data].slice(0, 3).map((byte) => byte / 255)
        .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
      return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
    }"""
    light = {
        name: page.evaluate(luminance, name)
        for name in ("card", "page", "sunk", "ink", "mute", "accent", "good", "bad")
    }
    for text in ("ink", "mute", "accent", "good", "bad"):
        for ground in ("card", "page", "sunk"):
            high, low = sorted((light[text], light[ground]), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground)


def test_one_run_at_a_time_is_shown_in_detail(open_page):
    page = open_page(simulated_profile(), quantised_profile())
    assert page.locator("article:visible").count() == 1
    page.get_by_role("button", name="run 1", exact=True).last.click()
    assert page.locator("article:visible").get_attribute("id") == "run1"
    assert page.locator("article:visible canvas").evaluate("each => each.width") > 300


def test_runs_are_sorted_by_their_difference(open_page):
    page = open_page(simulated_profile(), simulated_profile())
    page.get_by_role("button", name="Difference, cycles").click()
    assert page.locator("table[data-sortable] th[aria-sort=descending]").count() == 1


def test_a_hostile_name_runs_nothing(open_page):
    page = open_page(renamed(simulated_profile(), HOSTILE, HOSTILE))
    page.locator("canvas").hover(position={"x": 300, "y": 38})
    assert page.evaluate("window.stolen") is None
    assert page.locator("h1").inner_text() == HOSTILE


def test_a_profile_without_traces_renders_too(open_page):
    page = open_page(small_profile())
    assert names(page) == ["conv1", "fc"]
    assert page.get_by_text("Power over time is not in this profile").is_visible()


def test_an_accuracy_run_is_drawn_and_its_figures_sort_the_ops(open_page):
    profile = simulated_profile()
    found = accuracy_of(profile)
    page = open_page(profile, accuracy={found.program_digest: found})
    page.get_by_role("button", name="Own SQNR").click()
    assert names(page) == ["conv1", "fc"]  # 40.5 dB, 32.25 dB
    page.get_by_role("button", name="Own SQNR").click()
    assert names(page) == ["fc", "conv1"]
    assert page.get_by_role("img", name="SQNR along the program").is_visible()
    page.get_by_role("region", name="Ops that lose most precision").get_by_text("fc").click()
    assert page.locator("tr:target th").inner_text() == "fc"


def test_a_hostile_accuracy_run_runs_nothing(open_page):
    profile = simulated_profile()
    found = named(accuracy_of(profile), HOSTILE)
    page = open_page(profile, accuracy={found.program_digest: found})
    assert page.evaluate("window.stolen") is None
    assert page.get_by_text(HOSTILE).count() > 0
