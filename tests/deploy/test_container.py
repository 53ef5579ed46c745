"""What the Dockerfile does can be done, without an engine for containers: its build's commands are
run in a clean folder; what they install serves, read-only, is found healthy, and ends when told."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.dockerfile import FINAL, ROOT, environment, instructions, of

PREFIX = "/opt/mfalcon"
NO_INDEX = ("No matching distribution found for hatchling", "Could not find a version")
START_S = 60.0


def copied(stage: str) -> list[str]:
    """Sources of a stage's COPY lines, of those from the build's folder."""
    lines = [each.text.split() for each in of(stage, "COPY")]
    return [source for words in lines if "--from" not in words[0] for source in words[:-1]]


@pytest.fixture(scope="module")
def built() -> Iterator[Path]:
    """The environment that the build stage makes, of the files that it copies.

    Torch and whatever else mfalcon depends on are those of this environment.
    """
    with tempfile.TemporaryDirectory(prefix="mfalcon-image-") as made:
        folder, prefix = Path(made, "build"), Path(made, "opt")
        for source in copied("build"):
            target = folder / source
            target.parent.mkdir(exist_ok=True, parents=True)
            if (ROOT / source).is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "*.so")
                shutil.copytree(ROOT / source, target, ignore=ignored)
            else:
                shutil.copy(ROOT / source, target)
        apt, venv, torch, install = (each.text for each in of("build", "RUN"))
        assert apt.startswith("apt-get update && apt-get install")
        assert venv == f"python -m venv {PREFIX}"
        assert torch.endswith("torch")
        assert install.startswith(f"{PREFIX}/bin/pip install")
        run(venv.replace("python", sys.executable, 1).replace(PREFIX, str(prefix)), folder)
        install = install.replace(PREFIX, str(prefix)).replace("install", "install --no-deps", 1)
        done = run(install, folder, check=False)
        if any(words in done.stderr for words in NO_INDEX):
            pytest.skip("no package index to install hatchling from, which builds the package")
        assert done.returncode == 0, done.stderr
        (packages,) = prefix.glob("lib/python*/site-packages")
        (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
        yield prefix


def run(command: str, folder: Path, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    env |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    return subprocess.run(
        command, shell=True, cwd=folder, env=env, text=True, capture_output=True, check=check
    )


def image_environment(built: Path) -> dict[str, str]:
    values = environment()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    return values | {
        "PATH": f"{built}/bin:/usr/bin:/bin",
        "MFALCON_PORT": port,
        "MFALCON_HOST": "127.0.0.1",
        "MFALCON_CHECKPOINT": str(ROOT / "checkpoints" / "demo"),
        "OMP_NUM_THREADS": "1",
    }


def entry() -> list[str]:
    (entrypoint,), (command,) = of(FINAL, "ENTRYPOINT"), of(FINAL, "CMD")
    assert entrypoint.text.startswith("[")
    assert command.text.startswith("[")
    return entrypoint.words() + command.words()


def is_healthy(env: dict[str, str]) -> bool:
    (check,) = of(FINAL, "HEALTHCHECK")
    done = subprocess.run(check.words(), env=env, capture_output=True, timeout=30)
    return done.returncode == 0


def read_only() -> list[str]:
    """What to put before a command that may write to $TMPDIR alone; empty: impossible here."""
    command = 'mount -o remount,ro,bind / && mount -t tmpfs none "$TMPDIR" && exec "$@"'
    words = ["unshare", "--mount", "sh", "-c", command, "sh"]
    with tempfile.TemporaryDirectory() as folder:
        env = os.environ | {"TMPDIR": folder}
        with contextlib.suppress(FileNotFoundError):
            inner = ["sh", "-c", '! touch /mfalcon-was-here && touch "$TMPDIR/x"']
            if subprocess.run([*words, *inner], env=env, capture_output=True).returncode == 0:
                return words
    return []


def test_it_serves_and_is_healthy_until_it_is_stopped(built: Path, tmp_path: Path) -> None:
    serve(built, tmp_path, before=[])


def test_it_serves_where_nothing_can_be_written(built: Path, tmp_path: Path) -> None:
    before = read_only()
    if not before:
        pytest.skip("mounts need a right that this process has not")
    serve(built, tmp_path, before=before)


def serve(built: Path, tmp_path: Path, *, before: list[str]) -> None:
    env = image_environment(built) | {"TMPDIR": str(tmp_path)}
    program, *arguments = entry()
    command = [*before, str(built / "bin" / program), *arguments]
    with subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.PIPE) as process:
        try:
            give_up_s = time.monotonic() + START_S
            while not is_healthy(env):
                assert process.poll() is None, process.stderr and process.stderr.read()
                assert time.monotonic() < give_up_s
                time.sleep(0.2)
            (stop,) = of(FINAL, "STOPSIGNAL")
            process.send_signal(signal.Signals[stop.text])
            # 0, or the signal, which is raised once more when everything is stopped.
            assert process.wait(60) in (0, -signal.SIGTERM)
        finally:
            process.kill()
    assert not is_healthy(env)


def test_the_package_is_whole_without_the_working_tree(built: Path, tmp_path: Path) -> None:
    code = "import service.app, model.kernels.native.stack, cache; print(service.__file__)"
    done = subprocess.run(
        [str(built / "bin" / "python"), "-c", code],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(built))
    (packages,) = built.glob("lib/python*/site-packages")
    for package in ("service", "model", "cache"):
        for file in (ROOT / package).rglob("*"):
            if file.is_file() and file.suffix not in (".pyc", ".so"):
                assert (packages / file.relative_to(ROOT)).is_file(), file


def test_nothing_copied_is_ignored_and_nothing_else_is_sent() -> None:
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    assert ignore[0] == "*"
    assert sent == {*copied("build"), *copied(FINAL)}
    assert all((ROOT / source).exists() for source in sent)


def test_it_runs_as_nobody_in_particular() -> None:
    (user,) = of(FINAL, "USER")
    (add,) = of(FINAL, "RUN")
    assert user.text != "0"
    assert add.text == f"useradd --uid {user.text} --no-create-home mfalcon"


def test_both_devices_have_their_stages() -> None:
    stages = {each.stage for each in instructions() if each.name == "FROM"}
    sources = {name for name in stages if name.startswith("source-")}
    assert sources == {"source-cpu", "source-cuda"}
    assert {name.replace("source", "base") for name in sources} <= stages


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not on PATH")
def test_hadolint_finds_nothing() -> None:
    done = subprocess.run(["hadolint", "Dockerfile"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
