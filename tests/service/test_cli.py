"""The command line: exit codes, what is named when something is wrong, JSON for programs."""

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from service.cli.main import app, main
from service.settings import Settings
from service.verification.run import Finding

NO_HANG_S = 60.0
MACHINE = {"machine", "python", "torch", "commit"}


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of `mfalcon`, in this process, on a wide terminal."""
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.setattr(sys, "argv", ["mfalcon", *arguments])
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # this process is the tests'
    with pytest.raises(SystemExit) as raised:
        main()
    assert isinstance(raised.value.code, int)
    return raised.value.code


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--port", "70000"], "MFALCON_PORT"),
        (["--port", "http"], "--port"),
        (["--store", "ftp://somewhere"], "MFALCON_STORE"),
        (["--max-queue", "0"], "MFALCON_MAX_QUEUE"),
        (["--device", "tpu"], "--device"),
        (["--log-format", "xml"], "--log-format"),
        (["--no-such-flag"], "--no-such-flag"),
        (["--config", "none.toml"], "none.toml"),
        (["--checkpoint", "/nowhere"], "/nowhere"),
        (["--checkpoint", "/nowhere/[v1]"], "/nowhere/[v1]"),
        (["--checkpoint", "/nowhere/[/v1]"], "/nowhere/[/v1]"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_serve_exits_2_and_names_what_is_wrong(
    arguments: list[str],
    named: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_main(monkeypatch, "serve", *arguments) == 2
    captured = capsys.readouterr()
    assert named in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_serve_exits_2_where_another_program_listens(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        arguments = ["--checkpoint", str(folder), "--port", port, "--store", "memory"]
        assert run_main(monkeypatch, "serve", *arguments) == 2
    err = capsys.readouterr().err
    assert f"127.0.0.1:{port}: another program listens there" in err
    assert "Traceback" not in err


def test_serve_has_a_flag_for_every_setting() -> None:
    text = CliRunner().invoke(app, ["serve", "--help"], env={"COLUMNS": "500"}).stdout
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')} " in text
        assert str(field.default) in text


def test_what_a_command_started_ends_with_it(folder: Path) -> None:
    arguments = ["bench", "overload", "--checkpoint", str(folder), "--seconds", "20"]
    command = subprocess.Popen(
        [sys.executable, "-m", "service", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    begun: list[psutil.Process] = []
    give_up_s = time.monotonic() + NO_HANG_S
    while not begun and time.monotonic() < give_up_s:
        time.sleep(0.05)
        begun = psutil.Process(command.pid).children(recursive=True)
    command.terminate()
    assert command.wait(NO_HANG_S) == 128 + signal.SIGTERM
    assert begun
    assert psutil.wait_procs(begun, NO_HANG_S)[1] == []


def test_verify_names_a_damaged_checkpoint(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes()[:100])
    assert run_main(monkeypatch, "verify", str(tmp_path)) == 2
    assert str(tmp_path / "config.json") in capsys.readouterr().err


@pytest.mark.parametrize(("difference", "code"), [(1e-5, 0), (1.1e-5, 1)])
def test_verify_exits_1_where_an_answer_is_not_the_oracles(
    difference: float, code: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(*_: object) -> list[Finding]:
        return [Finding("one", 3, 1e-9), Finding("two", 4, difference)]

    monkeypatch.setattr("service.verification.run.verify", find)
    command = ["verify", str(folder), "--store", "redis://localhost", "--output"]
    done = CliRunner().invoke(app, [*command, "json"])
    assert done.exit_code == code
    result = json.loads(done.stdout)
    assert result["passed"] == (code == 0)
    assert result["max_abs_diff"] == difference
    assert [case["case"] for case in result["cases"]] == ["one", "two"]
    assert set(result) > MACHINE

    table = CliRunner().invoke(app, [*command, "table"])
    assert table.exit_code == code
    assert ("NOT equal" in table.stdout) == (code == 1)


def test_verify_judges_a_dtype_by_its_own_bound(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for difference in (0.009, 0.011):
        rounded = Finding("rounded", 3, difference, 0.01, "largest logit")
        findings = [Finding("exact", 3, 1e-9), rounded]
        monkeypatch.setattr("service.verification.run.verify", lambda *_, f=findings: f)
        command = ["verify", str(folder), "--store", "redis://localhost", "--output", "json"]
        done = CliRunner().invoke(app, command)
        result = json.loads(done.stdout)
        assert result["passed"] == (difference < 0.01) == (done.exit_code == 0)
        assert result["max_abs_diff"] == 1e-9
