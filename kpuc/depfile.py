"""What a program was made from, as make wants to read it."""

import sys
from collections.abc import Sequence
from pathlib import Path

from kpuc.quant.arrays import image_paths


def depfile(output: str, prerequisites: Sequence[str]) -> str:
    """One rule without a recipe, and an empty one per prerequisite, so that make goes on when a
    file is gone (as `gcc -MP` does)."""
    named = [_escaped(name) for name in prerequisites]
    rules = [f"{_escaped(output)}: {' '.join(named)}", *(f"{name}:" for name in named)]
    return "\n".join(rules) + "\n"


def prerequisites(model: str, config: str, arch: str | None) -> list[str]:
    """Files among what was named, and the sources of the packages that a factory comes from."""
    files = [name for name in (model, config) if Path(name).is_file()]
    for factory in (model, arch):
        if factory is not None and ":" in factory and not Path(factory).is_file():
            files += _sources(factory.partition(":")[0].partition(".")[0])
    return list(dict.fromkeys(files))


def calibration_files(calibration: str | None, saved: str | None) -> list[str]:
    """The file of samples or of a saved calibration; of a folder its images, and the folders
    themselves, which are newer when an image has come or gone."""
    if calibration is not None and Path(calibration).is_dir():
        images = image_paths(Path(calibration))
        folders = dict.fromkeys(path.parent for path in images)
        return [str(path) for path in (*folders, *images)]
    return [name for name in (calibration, saved) if name is not None and Path(name).is_file()]


def _sources(package: str) -> list[str]:
    """Files of the package's modules that are loaded, relative to the working directory where they
    are inside it."""
    loaded = [
        module
        for name, module in sys.modules.items()
        if name == package or name.startswith(f"{package}.")
    ]
    files = [getattr(module, "__file__", None) for module in loaded]
    return sorted(_short(Path(file)) for file in files if file is not None)


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _escaped(name: str) -> str:
    """A file name as make reads it."""
    return name.replace("$", "$$").replace("#", "\\#").replace(" ", "\\ ")
