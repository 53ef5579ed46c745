"""`mfalcon` commands as processes: exit codes, and the one JSON object on standard output."""

import json
import shutil
from pathlib import Path

from tests.integration.process import mfalcon
from tests.redis_server import RedisServer


def test_serve_exits_2_and_names_a_truncated_file(folder: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    weights = damaged / "weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    done = mfalcon("serve", "--checkpoint", str(damaged), "--store", "memory")
    assert done.returncode == 2, done.stderr
    assert str(weights) in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_serve_exits_2_and_names_a_malformed_store(folder: Path) -> None:
    url = "redis://somebody:hush@localhost/cache"
    done = mfalcon("serve", "--checkpoint", str(folder), "--store", url)
    assert done.returncode == 2, done.stderr
    assert "MFALCON_STORE" in done.stderr
    assert "hush" not in done.stderr
    assert "Traceback" not in done.stderr


def test_verify_passes_on_a_right_checkpoint(folder: Path, redis_server: RedisServer) -> None:
    done = mfalcon(
        *("verify", str(folder), "--users", "7", "--candidates", "5"),
        *("--store", redis_server.url, "--output", "json"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["passed"] is True
    assert result["max_abs_diff"] <= result["tolerance"] == 1e-5
    assert result["users"] == 7
    names = [case["case"] for case in result["cases"]]
    assert "store redis" in names
    assert any("killed and restarted" in name for name in names)
    assert all(case["comparisons"] >= 7 for case in result["cases"])
    assert {"store redis, bfloat16", "store redis, int8"} < set(names)
    for case in result["cases"]:
        assert case["difference"] <= case["allowed"]
        assert (case["allowed"] == 1e-5) == (case["unit"] == "logits")
