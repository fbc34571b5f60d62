"""What the page of a report says, in its data and in its tables, is what the files say, read here
without any code of ours."""

import json
from html.parser import HTMLParser
from itertools import accumulate

import pytest

from formats.console import run
from formats.container import save
from kpuprof.cli import app
from tests.kpuprof.profiles import quantised_profile
from tests.kpuprof.simulated import played
from tests.kpuprof.stored import ops_in_order, says, stored, stored_columns

KINDS = {"DRAM bus": (0, 1), "Block mover": (2, 3), "Arrays and lanes": (4,)}
BOUNDS = ("none", "compute", "vector", "dram", "sram", "dispatch")


class Tables(HTMLParser):
    """Cells of every table by its caption, and the JSON that the page carries."""

    def __init__(self, html):
        super().__init__()
        self.tables, self.data = {}, None
        self._rows, self._cell, self._caption, self._script = [], None, None, ""
        self._is_data = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag == "table":
            self._rows, self._caption = [], ""
        if tag == "tr":
            self._rows.append([])
        if tag in ("td", "th"):
            self._cell = ""
        if tag == "caption":
            self._cell = ""
        self._is_data = tag == "script" and dict(attrs).get("id") == "data"

    def handle_data(self, text):
        if self._is_data:
            self.data, self._is_data = json.loads(text), False
        elif self._cell is not None:
            self._cell += text

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._rows[-1].append(self._cell.strip())
            self._cell = None
        if tag == "caption":
            self._caption, self._cell = self._cell, None
        if tag == "table":
            self.tables[self._caption] = self._rows

    def table(self, caption):
        """Rows by heading of the table whose caption begins so."""
        (rows,) = (rows for each, rows in self.tables.items() if each.startswith(caption))
        headings, *others = [row for row in rows if row[0] != "Program"]
        return [dict(zip(headings, row, strict=True)) for row in others]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run.kprof"
    save(played(), path)
    return str(path)


@pytest.fixture(scope="module")
def document(file):
    return stored(file)


def page_of(folder, *paths):
    assert run(app, "kpuprof", ["report", *map(str, paths), "-o", str(folder / "page.html")]) == 0
    return Tables((folder / "page.html").read_text("utf-8"))


@pytest.fixture(scope="module")
def page(file, tmp_path_factory):
    return page_of(tmp_path_factory.mktemp("page"), file)


@pytest.fixture(scope="module")
def shown(page):
    (found,) = page.data["runs"]
    return found


def test_the_headline_figures_of_the_data(shown, document):
    metrics, program = document["metrics"], document["program"]
    summary = shown["summary"]
    same = "total_cycles total_time_us compute_cycles memory_stall_cycles other_cycles".split()
    same += "compute_utilization memory_bandwidth_utilization total_energy_uj".split()
    assert {name: summary[name] for name in same} == {name: metrics[name] for name in same}
    assert summary["average_power_watts"] == metrics["average_power_watts"]
    assert summary["dram_read_bytes"] == metrics["dram_reads_bytes"]
    assert summary["dram_write_bytes"] == metrics["dram_writes_bytes"]
    assert summary["sram_read_bytes"] == metrics["sram_reads_bytes"]
    assert summary["sram_write_bytes"] == metrics["sram_writes_bytes"]
    assert summary["peak_l2_bytes"] == program["peak_sram_bytes"]
    assert summary["weight_bytes"] == program["weight_bytes"]
    assert summary["tdp_watts"] == program["target_config"]["compute"]["tdp_watts"]
    table = metrics["op_metrics"].values()
    assert summary["macs"] == sum(row["macs"] for row in table)
    assert summary["roofline_cycles"] == sum(row["roofline_cycles"] for row in table)


def test_every_op_of_the_data(shown, document, file):
    columns, total = stored_columns(file), document["metrics"]["total_cycles"]
    ops = shown["ops"]
    for index, (op, row) in enumerate(ops_in_order(document)):
        found = {name: values[index] for name, values in ops.items()}
        assert found["id"] == op["id"]
        for name in "cycles compute_cycles memory_stall_cycles other_cycles macs lane_ops".split():
            assert found[name] == row[name], name
        for name in ("time_us", "utilization", "roofline_cycles"):
            assert found[name] == row[name], name
        assert found["energy_uj"] == row["energy_pj"] / 1e6
        assert found["share"] == row["cycles"] / total
        assert found["bound_by"] == BOUNDS[int(row["bound_by"])]
        for level in ("dram", "l2", "l1"):
            moved = row[f"{level}_read_bytes"] + row[f"{level}_write_bytes"]
            assert found[f"{level}_bytes"] == moved
        for name in ("start_cycle", "end_cycle", "l2_live_bytes"):
            assert found[name] == columns[f"op.{name}"][index]


def test_every_command_of_the_data(shown, document, file):
    columns = stored_columns(file)
    names = ("start_cycle", "end_cycle", "op", "kind")
    commands = [*zip(*(columns[f"command.{name}"] for name in names), strict=True)]
    assert [unit["unit"] for unit in shown["units"]] == [*KINDS]
    for unit in shown["units"]:
        own = sorted(each for each in commands if each[3] in KINDS[unit["unit"]])
        starts = accumulate(unit["starts"])
        ends = map(sum, zip(accumulate(unit["starts"]), unit["lengths"], strict=True))
        assert sorted(zip(starts, ends, unit["ops"], unit["kinds"], strict=True)) == own
        assert unit["commands"] == len(own)
    computing = {cycle for start, end, *_ in own for cycle in range(start, end)}
    assert shown["units"][-1]["busy_cycles"] == len(computing)


def test_power_energy_and_memory_of_the_data(shown, document, file):
    columns, metrics = stored_columns(file), document["metrics"]
    assert [*accumulate(shown["power"]["starts"])] == columns["power.start_cycle"]
    assert shown["power"]["watts"] == columns["power.watts"]
    assert shown["power"]["end"] == metrics["total_cycles"]
    parts = {name for row in metrics["op_metrics"].values() for name in row}
    parts = {name for name in parts if name.endswith("_pj")} - {"energy_pj"}
    spent = [
        sum(row.get(part, 0) for row in metrics["op_metrics"].values()) / 1e6 for part in parts
    ]
    assert sorted(shown["energy_uj"].values()) == pytest.approx(sorted(filter(None, spent)))
    assert sum(shown["energy_uj"].values()) == pytest.approx(metrics["total_energy_uj"])
    assert shown["memory"]["peak_bytes"] == max(columns["op.l2_live_bytes"])
    blocks = shown["memory"]["blocks"]
    sizes = dict(zip(blocks["name"], blocks["size_bytes"], strict=True))
    buffers = [
        each["size_bytes"]
        for each in document["program"]["buffers"]
        if each["memory_type"] == "sram_l2"
    ]
    assert sum(kind == "buffer" for kind in blocks["kind"]) == len(buffers)
    assert len(sizes) > len(buffers) > 0


def test_the_speed_of_light_of_the_data(shown, document):
    metrics, memory = document["metrics"], document["program"]["target_config"]["memory"]
    compute, dram, l2 = shown["speed_of_light"]
    moved = metrics["dram_reads_bytes"] + metrics["dram_writes_bytes"]
    assert compute["share"] == metrics["compute_utilization"]
    assert dram["share"] == metrics["memory_bandwidth_utilization"]
    assert dram["peak"] == pytest.approx(memory["dram_bandwidth_gbps"])
    assert dram["achieved"] == pytest.approx(moved / metrics["total_time_us"] / 1e3)
    macs = sum(row["macs"] for row in metrics["op_metrics"].values())
    assert compute["achieved"] == pytest.approx(2 * macs / metrics["total_time_us"] / 1e6)
    assert 0 < l2["share"] < 1


def test_the_table_of_ops(page, document):
    total = document["metrics"]["total_cycles"]
    rows = page.table("Every op in scheduled order")
    assert len(rows) == len(document["program"]["ops"])
    for row, (op, figures) in zip(rows, ops_in_order(document), strict=True):
        assert row["Op"] == (op["name"] or op["id"])
        expected = {
            "Cycles": figures["cycles"],
            "Share": figures["cycles"] / total,
            "Time": figures["time_us"],
            "Utilisation": figures["utilization"],
            "DRAM": figures["dram_read_bytes"] + figures["dram_write_bytes"],
            "L2": figures["l2_read_bytes"] + figures["l2_write_bytes"],
            "Energy": figures["energy_pj"] / 1e6,
            "MACs": figures["macs"],
        }
        for heading, value in expected.items():
            assert says(row[heading], value), (row["Op"], heading, row[heading], value)


def test_the_table_of_units(page, shown, document):
    for row, unit in zip(page.table("How long every unit works"), shown["units"], strict=True):
        assert says(row["Busy cycles"], unit["busy_cycles"])
        assert says(row["Busy"], unit["busy_cycles"] / document["metrics"]["total_cycles"])
        assert says(row["Commands"], len(unit["starts"]))


def test_the_quantisation_of_the_page(tmp_path):
    path = tmp_path / "quantised.kprof"
    save(quantised_profile(), path)
    quantization = stored(path)["program"]["quantization"]
    page = page_of(tmp_path, path)
    shown = page.data["runs"][0]["quantization"]
    outputs = {each["name"]: each for each in shown["outputs"]}
    assert {name: each["sqnr_db"] for name, each in outputs.items()} == quantization["sqnr_db"]
    assert shown["gains_db"] == quantization["gains_db"]
    assert shown["integer_mac_share"] == quantization["mac_share"]
    (output,) = page.table("On the samples held out")
    assert says(output["SQNR"], quantization["sqnr_db"]["scores"])
    share, _ = output["Largest difference"].split(" of ")
    assert says(share, quantization["max_difference"]["scores"])


def test_the_comparison_of_two_runs(tmp_path, file, document):
    other = tmp_path / "other.kprof"
    save(quantised_profile(), other)
    both = (document, stored(other))
    page = page_of(tmp_path, file, other)
    figures = {
        "Latency": "total_time_us",
        "Cycles": "total_cycles",
        "… computing": "compute_cycles",
        "… waiting for memory": "memory_stall_cycles",
        "Compute utilisation": "compute_utilization",
        "DRAM bandwidth used": "memory_bandwidth_utilization",
        "Energy": "total_energy_uj",
        "Average power": "average_power_watts",
        "DRAM read": "dram_reads_bytes",
        "DRAM written": "dram_writes_bytes",
    }
    table = {row["Figure"]: row for row in page.table("Headline figures of every run")}
    for label, name in figures.items():
        first, second = (each["metrics"][name] for each in both)
        assert says(table[label]["run"], first), label
        assert says(table[label]["other"], second), label
        if first:
            change = table[label]["change"].split("\u202f%")[0]
            assert says(f"{change} %", second / first - 1), label
    cycles = {
        (op["name"] or op["id"]): row["cycles"] for each in both for op, row in ops_in_order(each)
    }
    ((_, first, second),) = (
        row for rows in page.tables.values() for row in rows if row[0] == "Program"
    )
    assert first.endswith("· power trace")
    assert second.endswith("· functional")
    ops = page.table("Cycles of every op in every run")
    assert {row["Op"] for row in ops} == set(cycles)
    for row in ops:
        mine, missing = (row["other"], "run") if row["run"] == "–" else (row["run"], "other")
        assert says(mine, cycles[row["Op"]])
        assert row[missing] == "–"
        change = cycles[row["Op"]] * (1 if missing == "run" else -1)
        assert says(row["Difference, cycles"], change)
