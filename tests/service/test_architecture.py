"""The rules between the packages, as import contracts and as words that must not appear."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from model.errors import InputError

ROOT = Path(__file__).parents[2]
SOURCES = [
    path
    for package in ("service", "model", "cache", "loadtests")
    for path in (ROOT / package).rglob("*.py")
]
UNSAFE_MODULES = {
    "pickle",
    "cPickle",
    "_pickle",
    "cloudpickle",
    "dill",
    "joblib",
    "shelve",
    "marshal",
}
UNSAFE_CALLS = {
    *("torch.load", "torch.save", "numpy.load", "np.load", "eval", "exec", "print"),
    *("yaml.load", "yaml.full_load", "yaml.unsafe_load", "pandas.read_pickle", "pd.read_pickle"),
}
TORCH_FILES = ROOT / "model" / "importers" / "source.py"
"""Alone in reading torch files, and of those the tensors only."""
LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def test_the_import_contracts_are_kept() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LINT, "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kept, 0 broken" in done.stdout


def imported_modules(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def called_names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            yield ast.unparse(node.func)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_prints_and_nothing_unpickles(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = set(imported_modules(tree))
    assert not UNSAFE_MODULES & {module.split(".")[0] for module in imported}
    allowed = {"torch.load"} if path == TORCH_FILES else set()
    assert not (UNSAFE_CALLS - allowed) & (imported | set(called_names(tree)))


def test_torch_files_are_read_without_running_code() -> None:
    tree = ast.parse(TORCH_FILES.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    loads = [call for call in calls if ast.unparse(call.func) == "torch.load"]
    mentions = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    assert len(loads) == len([node for node in mentions if ast.unparse(node) == "torch.load"]) == 1
    keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in loads[0].keywords}
    assert keywords == {"map_location": "'cpu'", "weights_only": "True"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_the_tree_of_refusals_names_all_of_them() -> None:
    told = re.findall(r"-- (\w+) .*\((\S+)\)", InputError.__doc__ or "")
    found = [
        (node.name, ".".join(path.relative_to(ROOT).with_suffix("").parts))
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and "InputError" in map(ast.unparse, node.bases)
    ]
    assert sorted(told) == sorted(found)


def test_every_pitfall_has_its_test() -> None:
    """ARCHITECTURE.md names them; a test that is renamed is to be renamed there."""
    _, _, rest = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").partition("## Pitfalls of")
    table = rest.partition("\n## ")[0]
    numbers = [int(number) for number in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)]
    assert numbers == list(range(1, 27))
    for file, test in re.findall(r"`(test_\w+\.py)::(test_\w+)`", table):
        found = [
            path for path in (ROOT / "tests").rglob(file) if f"def {test}(" in path.read_text()
        ]
        assert found, f"{file}::{test} is named in ARCHITECTURE.md, and is not there"
