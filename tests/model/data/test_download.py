"""Fetching from a real server on this host: either the whole right file, or nothing."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from model.data.download import fetch
from model.data.errors import DataError
from model.data.public import PUBLIC, PublicFile, cache_folder
from model.data.sources import open_data

CONTENT = b"user,item,timestamp\n" + b"".join(b"u%d,i%d,%d\n" % (n % 9, n, n) for n in range(9999))


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/absent.csv":
            self.send_error(404)
            return
        self.send_response(302 if self.path == "/moved.csv" else 200)
        if self.path == "/moved.csv":
            self.send_header("Location", "http://files.invalid/data.csv")
        if self.path != "/unsized.csv":
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:100] if self.path == "/short.csv" else CONTENT)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def published(address: str) -> PublicFile:
    return PublicFile(address, hashlib.sha256(CONTENT).hexdigest(), 1 << 20)


@pytest.mark.parametrize("name", ["data.csv", "unsized.csv"])
def test_a_set_is_fetched_once_and_then_kept(server: str, tmp_path: Path, name: str) -> None:
    public = {"set": published(server + name)}
    seen: list[tuple[int, int | None]] = []
    cache = tmp_path / "a" / "b"
    data = open_data("set", cache=cache, public=public, progress=lambda *size: seen.append(size))
    assert len(data.item) == 9999
    assert [path.name for path in cache.iterdir()] == [name]
    assert (cache / name).read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), None if name == "unsized.csv" else len(CONTENT))
    assert seen == sorted(seen)
    gone = {"set": published("http://127.0.0.1:1/" + name)}
    assert open_data("set", cache=cache, public=gone).digest() == data.digest()
    assert open_data("set", cache=cache, public=gone, download=False).digest() == data.digest()


def refused(file: PublicFile, cache: Path, reason: str, *, download: bool = True) -> None:
    with pytest.raises(DataError, match=reason) as error:
        open_data("set", cache=cache, public={"set": file}, download=download)
    message = str(error.value)
    for part in (file.address, str(cache / file.file_name), "--data PATH"):
        assert part in message
    assert not cache.exists() or not list(cache.iterdir())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("absent.csv", "404"),
        ("short.csv", "peer closed connection"),
        ("moved.csv", "http://files.invalid/data.csv is not https"),
    ],
)
def test_answers_that_are_not_the_file(server: str, tmp_path: Path, name: str, reason: str) -> None:
    refused(published(server + name), tmp_path, reason)


def test_another_content(server: str, tmp_path: Path) -> None:
    file = replace(published(server + "data.csv"), sha256="0" * 64)
    refused(file, tmp_path, f"its sha256 is [0-9a-f]{{64}} instead of {'0' * 64}")


@pytest.mark.parametrize("name", ["data.csv", "unsized.csv"])
def test_too_large_a_file(server: str, tmp_path: Path, name: str) -> None:
    file = replace(published(server + name), max_bytes=len(CONTENT) - 1)
    refused(file, tmp_path, f"it is larger than {len(CONTENT) - 1} bytes")
    fetch(replace(file, max_bytes=len(CONTENT)), tmp_path / name)


def test_nobody_answers(tmp_path: Path) -> None:
    refused(published("http://127.0.0.1:1/data.csv"), tmp_path, "refused")


def test_downloads_that_are_off(server: str, tmp_path: Path) -> None:
    refused(published(server + "data.csv"), tmp_path / "x", "downloads are off", download=False)
    assert not (tmp_path / "x").exists()


def test_a_file_without_a_checksum_is_not_fetched(server: str, tmp_path: Path) -> None:
    file = replace(published(server + "data.csv"), sha256=None)
    refused(file, tmp_path / "x", "publish no checksum")


def test_only_https(tmp_path: Path) -> None:
    refused(published("http://files.invalid/data.csv"), tmp_path, "is not https")


def test_a_cache_that_is_no_folder(server: str, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DataError, match="was not fetched"):
        open_data("set", cache=tmp_path / "cache", public={"set": published(server + "data.csv")})


def test_an_interrupted_download_leaves_nothing(server: str, tmp_path: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(published(server + "data.csv"), tmp_path / "data.csv", progress=interrupt)
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_in_the_cache_says_to_delete_it(tmp_path: Path) -> None:
    (tmp_path / "ml-1m.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(DataError, match=r"delete .*ml-1m\.zip to have ml-1m fetched anew"):
        open_data("ml-1m", cache=tmp_path)


def test_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "mfalcon" / "data"
    with pytest.raises(DataError, match=str(tmp_path / "mfalcon" / "data" / r"ml-20m\.zip")):
        open_data("ml-20m", download=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for unset in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", unset)
        assert cache_folder() == tmp_path / "home" / ".cache" / "mfalcon" / "data"


def test_public_sets_have_safe_addresses_and_whole_checksums() -> None:
    for file in PUBLIC.values():
        assert file.address.startswith("https://")
        assert file.sha256 is None or len(bytes.fromhex(file.sha256)) == 32
