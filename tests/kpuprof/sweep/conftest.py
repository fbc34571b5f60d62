"""A small program and a space of eight machines, two of which cannot hold it."""

import pytest

from formats.config import KPUConfig
from formats.container import save
from formats.precision import KPUPrecision
from kpuc.compiler import compile_graph
from kpuc.emit import Source
from tests.kpuc.test_emit import classifier

SPACE = """
[vary]
"memory.dram_bytes" = ["1KiB", "1GiB"]
"memory.dram_bandwidth_gbps" = [12.8, 25.6]
"compute.compute_tiles" = [8, 16]
"""


@pytest.fixture(scope="session")
def program():
    return compile_graph(classifier(), KPUConfig(), KPUPrecision.FP16, Source("net"))


@pytest.fixture
def folder(tmp_path, program):
    save(program, tmp_path / "net.kpu")
    (tmp_path / "space.toml").write_text(SPACE)
    return tmp_path
