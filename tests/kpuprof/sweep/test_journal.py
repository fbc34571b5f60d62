"""The results file: nothing lost, nothing twice, whatever the moment at which a sweep ends."""

import pytest

from formats.errors import FileError, UsageError
from kpuprof.sweep.journal import open_journal
from kpuprof.sweep.result import to_line
from tests.kpuprof.sweep.results import result

FIRST, SECOND = result("1"), result("2", None, **{"c.d": 25.6, "e.f": True})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "results.jsonl"


def kept(path):
    with open_journal(path) as journal:
        return list(journal.results.values())


def test_results_come_back_as_they_were(path):
    with open_journal(path) as journal:
        journal.append(FIRST)
        journal.append(SECOND)
    assert kept(path) == [FIRST, SECOND]


def test_a_result_is_in_the_file_as_soon_as_it_is_kept(path):
    with open_journal(path) as journal:
        journal.append(FIRST)
        assert path.read_bytes() == to_line(FIRST)


@pytest.mark.parametrize("lost", [1, 10, 50])
def test_half_a_line_is_cut_off_and_the_next_begins_where_it_began(path, lost):
    path.write_bytes(to_line(FIRST) + to_line(SECOND)[:-lost])
    with open_journal(path) as journal:
        assert list(journal.results.values()) == [FIRST]
        journal.append(SECOND)
    assert path.read_bytes() == to_line(FIRST) + to_line(SECOND)


@pytest.mark.parametrize(
    "line", [b"{}\n", b"[1]\n", b"model,cycles\n", b"\xff\n", b"\n", b'{"status":"ok"}\n']
)
def test_another_file_is_refused_and_left_alone(path, line):
    path.write_bytes(to_line(FIRST) + line)
    with pytest.raises(FileError, match="line 2"):
        kept(path)
    assert path.read_bytes() == to_line(FIRST) + line


def test_a_result_twice_is_refused(path):
    path.write_bytes(2 * to_line(FIRST))
    with pytest.raises(FileError, match="line 2: a result that is there already"):
        kept(path)


def test_two_sweeps_do_not_share_a_file(path):
    with open_journal(path), pytest.raises(UsageError, match="another sweep"):
        kept(path)


def test_a_folder_that_is_not_there_is_named(path):
    with pytest.raises(FileError, match="No such file"):
        kept(path.parent / "nowhere" / "results.jsonl")
