"""`kpuprof report --png` and `--svg`: the plots as files, byte for byte the same every time."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
from PIL import Image

from formats.console import run
from formats.container import save
from kpuprof.cli import app
from kpuprof.images import images, write_images
from tests.kpuprof.profiles import renamed, simulated_profile, small_profile

ALL = ["memory", "power", "roofline", "timeline"]


@pytest.fixture
def path(tmp_path):
    save(simulated_profile(), tmp_path / "run.kprof")
    return tmp_path / "run.kprof"


def test_a_folder_gets_a_png_of_every_plot(path, tmp_path, capsys):
    folder = tmp_path / "new" / "plots"
    assert run(app, "kpuprof", ["report", str(path), "--png", str(folder)]) == 0
    assert capsys.readouterr() == ("", "")
    assert sorted(file.name for file in folder.iterdir()) == [f"{name}.png" for name in ALL]
    for file in folder.iterdir():
        with Image.open(file) as picture:
            assert picture.size == (1350, 675)
            assert len(set(picture.convert("L").tobytes())) > 50


def test_svg_files_are_well_formed_and_say_no_date(path, tmp_path):
    assert run(app, "kpuprof", ["report", str(path), "--svg", str(tmp_path / "svg")]) == 0
    for name in ALL:
        text = (tmp_path / "svg" / f"{name}.svg").read_text("utf-8")
        assert ElementTree.fromstring(text).tag.endswith("svg")
        assert "dc:date" not in text


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_another_process_with_other_settings_gives_the_same_bytes(path, tmp_path, suffix):
    (tmp_path / "matplotlibrc").write_text("font.size: 30\naxes.facecolor: red\n")
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "7",
        "TZ": "Asia/Tokyo",
        "MATPLOTLIBRC": str(tmp_path / "matplotlibrc"),
    }
    target = tmp_path / "other"
    words = ["-m", "kpuprof.cli", "report", str(path), f"--{suffix}", str(target)]
    subprocess.run([sys.executable, *words], env=environment, check=True)
    for name, data in images(simulated_profile(), suffix).items():
        assert (target / f"{name}.{suffix}").read_bytes() == data


def test_plots_without_data_are_left_out():
    assert sorted(images(small_profile(), "svg")) == ["memory", "roofline"]


def test_the_files_of_several_runs_are_named_by_run(tmp_path):
    profiles = {"base": small_profile(), "../new run": small_profile()}
    written = write_images(profiles, str(tmp_path), "svg")
    assert sorted(path.name for path in written) == [
        "1-base-memory.svg",
        "1-base-roofline.svg",
        "2-..-new-run-memory.svg",
        "2-..-new-run-roofline.svg",
    ]
    assert {path.parent for path in written} == {tmp_path}


def test_a_name_is_no_formula():
    assert images(renamed(simulated_profile(), r"$\frac{1}{0$ <b>", "x"), "svg")


def test_a_folder_that_cannot_be_made_is_said(path, capsys):
    assert run(app, "kpuprof", ["report", str(path), "--png", str(path / "plots")]) == 3
    assert "Not a directory" in capsys.readouterr().err


def test_a_file_is_no_folder_for_images(path, capsys):
    assert run(app, "kpuprof", ["report", str(path), "--png", str(path)]) == 3
    assert f"{path}: not a folder" in capsys.readouterr().err


def test_a_page_alone_does_not_import_matplotlib(path, tmp_path):
    code = (
        "import sys; from formats.console import run; from kpuprof.cli import app; "
        f"run(app, 'kpuprof', ['report', {str(path)!r}, '-o', {str(tmp_path / 'a.html')!r}]); "
        "sys.exit('matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
