"""The import arrows are the architecture: formats <- kpurun <- kpuc, formats <- kpuprof."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "formats": {"formats"},
    "kpurun": {"formats", "kpurun"},
    "kpuc": {"formats", "kpurun", "kpuc"},
    "kpuprof": {"formats", "kpuprof"},
}
# What of kpuprof may import kpuc and kpurun, inside of functions and for types.
MAY_COMPUTE = {
    "kpuprof/accuracy_run.py",
    "kpuprof/accuracy_sums.py",
    "kpuprof/advice.py",
    "kpuprof/sweep/evaluate.py",
    "kpuprof/sweep/models.py",
    "kpuprof/trials.py",
}
MOST_LINES_IN_A_FILE = 400


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported_modules(path: Path, in_functions: bool = True) -> set[str]:
    pending: list[ast.AST] = [ast.parse(path.read_text())]
    names = set()
    while pending:
        node = pending.pop()
        if in_functions or not _is_run_later(node):
            pending += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
    return names


def _is_run_later(node: ast.AST) -> bool:
    """A function's body, or what only the type checker reads."""
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_package_imports_only_what_its_arrow_allows(package):
    """kpuprof computes nothing unless a command is asked to try other machines, or to compare
    with a reference: then its functions import compiler and simulator."""
    forbidden = set(MAY_IMPORT) - MAY_IMPORT[package] | {"samples", "tests"}
    wrong = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources(package)
        for name in imported_modules(path, path.relative_to(ROOT).as_posix() not in MAY_COMPUTE)
        if name.split(".")[0] in forbidden
    }
    assert not wrong


def test_formats_and_kpuprof_never_name_torch():
    wrong = [
        str(path.relative_to(ROOT))
        for package in ("formats", "kpuprof")
        for path in sources(package)
        if any(name.split(".")[0] == "torch" for name in imported_modules(path))
    ]
    assert not wrong


@pytest.mark.parametrize("module", ["formats", "kpuprof.cli", "kpuc.cli", "kpurun.cli", "kpuc"])
def test_a_command_starts_without_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_no_file_outgrows_one_subject(package):
    long = {
        str(path.relative_to(ROOT)): lines
        for path in sources(package)
        if (lines := len(path.read_text().splitlines())) > MOST_LINES_IN_A_FILE
    }
    assert not long


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_every_module_says_why_it_exists(package):
    silent = [
        str(path.relative_to(ROOT))
        for path in sources(package)
        if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent
