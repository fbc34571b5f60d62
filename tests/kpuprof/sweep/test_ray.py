"""A sweep on a real Ray cluster of two workers, on this computer."""

import csv
import os
from pathlib import Path

import pytest

from formats.console import run
from kpuprof.cli import app

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address():
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'kpu-toolchain[ray]'")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        yield cluster.address
        cluster.shutdown()


def table(folder, name, *words):
    paths = [str(folder / "space.toml"), "--model", str(folder / "net.kpu")]
    out = folder / f"{name}.csv"
    assert run(app, "kpuprof", ["sweep", *paths, "-o", str(out), *words]) == 0
    with out.open() as file:
        return list(csv.DictReader(file))


def test_a_cluster_gives_the_same_table(folder, address):
    alone = table(folder, "alone", "--workers", "1")
    assert table(folder, "cluster", "--engine", "ray", "--address", address) == alone
    assert len(alone) == 8


def test_an_address_where_no_cluster_is_is_named(folder, address, capsys):
    words = [str(folder / "space.toml"), "--model", str(folder / "net.kpu"), "-o", "-"]
    code = run(app, "kpuprof", ["sweep", *words, "--engine", "ray", "--address", "localhost:1"])
    assert code == 2
    assert "--address localhost:1" in capsys.readouterr().err
