"""A library is used for the sources it was made of, and for no others."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from model.kernels.native import build, records


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the sources, where libraries are built and looked for."""
    for source in (*build.HERE.glob("*.h"), *build.HERE.glob("*.cpp")):
        (tmp_path / source.name).write_bytes(source.read_bytes())
    monkeypatch.setattr(build, "HERE", tmp_path)
    monkeypatch.setattr(build, "SOURCE", tmp_path / "stack.cpp")
    records.load.cache_clear()
    yield tmp_path
    records.load.cache_clear()


@pytest.mark.usefixtures("sources")
def test_what_is_not_built_is_not_loaded() -> None:
    assert records.load("generic") is None


def test_a_library_of_other_sources_is_not_loaded(sources: Path) -> None:
    if not build.build("generic"):
        pytest.skip("no C++ compiler")
    assert records.load("generic") is not None
    records.load.cache_clear()
    with (sources / "layer.h").open("a") as layer:
        layer.write("// changed\n")
    assert records.load("generic") is None


@pytest.mark.usefixtures("sources")
def test_without_a_compiler_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert not build.build("generic")
    assert "no compiled stack: no-such-compiler: " in capfd.readouterr().err
    assert not list(build.HERE.glob("*.so"))
