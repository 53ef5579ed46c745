"""Settings: which source wins, what is refused and by which name, what is never printed."""

from pathlib import Path
from typing import Any

import pytest

from service.configuration import load_settings, mask_url, printable
from service.settings import Settings, SettingsError

FLAG, ENVIRONMENT, FILE, DEFAULT = 1111, 2222, 3333, 8000


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"MFALCON_{name.upper()}", raising=False)


def toml(folder: Path, text: str) -> Path:
    path = folder / "mfalcon.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("sources", "winner"),
    [
        ({"flag", "environment", "file"}, FLAG),
        ({"flag", "environment"}, FLAG),
        ({"flag", "file"}, FLAG),
        ({"environment", "file"}, ENVIRONMENT),
        ({"environment"}, ENVIRONMENT),
        ({"file"}, FILE),
        (set(), DEFAULT),
    ],
    ids=lambda value: "+".join(sorted(value)) if isinstance(value, set) else str(value),
)
def test_flag_over_environment_over_file_over_default(
    sources: set[str], winner: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "environment" in sources:
        monkeypatch.setenv("MFALCON_PORT", str(ENVIRONMENT))
    config = toml(tmp_path, f"port = {FILE}" if "file" in sources else "microbatch = 3")
    settings = load_settings({"port": FLAG} if "flag" in sources else {}, config)
    assert settings.port == winner


def test_sources_are_merged_setting_by_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MFALCON_MAX_QUEUE", "5")
    config = toml(tmp_path, 'host = "::1"\nmax_queue = 6')
    settings = load_settings({"store": "memory"}, config)
    assert (settings.store, settings.max_queue, settings.host) == ("memory", 5, "::1")
    assert settings.port == DEFAULT


WRONG: list[tuple[str, Any]] = [
    ("port", 70_000),
    ("port", -1),
    ("port", "http"),
    ("store", "ftp://somewhere"),
    ("store", ""),
    ("store_timeout_ms", 0),
    ("store_timeout_ms", "nan"),
    ("store_memory_bytes", 10),
    ("state_ttl_s", 0),
    ("history_url", "ftp://somewhere"),
    ("history_url", "http://"),
    ("history_url", "somewhere/histories"),
    ("history_url", "http://host:99999999"),
    ("history_timeout_ms", 0),
    ("device", "tpu"),
    ("threads", -1),
    ("microbatch", 0),
    ("microbatch", 1.5),
    ("retrieval_candidates", 0),
    ("max_queue", 0),
    ("max_budget_ms", 0),
    ("max_body_bytes", 1),
    ("receive_timeout_ms", 0),
    ("max_candidates", 0),
    ("max_events", 0),
    ("max_batch_users", 0),
    ("max_results", 0),
    ("log_format", "xml"),
]


def names_the_setting(name: str) -> str:
    return rf"{name} \(--{name.replace('_', '-')}, MFALCON_{name.upper()}\): \S"


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_flag_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=names_the_setting(name)):
        load_settings({name: value})


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_variable_is_refused_by_name(
    name: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"MFALCON_{name.upper()}", str(value))
    with pytest.raises(SettingsError, match=names_the_setting(name)):
        load_settings({})


@pytest.mark.parametrize("text", ["port = 70000", 'port = "http"', "port = [1]", "[port]\na = 1"])
def test_a_wrong_value_in_the_file_is_refused_by_name(text: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=names_the_setting("port")):
        load_settings({}, toml(tmp_path, text))


def test_all_wrong_settings_are_named_at_once() -> None:
    with pytest.raises(SettingsError, match=r"(?s)--port.*--max-queue"):
        load_settings({"port": -1, "max_queue": 0})


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="portt"):
        load_settings({"portt": 1})
    with pytest.raises(SettingsError, match="portt"):
        load_settings({}, toml(tmp_path, "portt = 1"))


@pytest.mark.parametrize("content", [b"port =", b"host = '\xff'", b"port = 1\nport = 2"])
def test_a_malformed_file_is_refused_by_its_path(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"--config: .*broken\.toml"):
        load_settings({}, path)


def test_a_missing_file_is_refused_by_its_path(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(SettingsError, match=r"--config: .* is not a file"):
            load_settings({}, path)


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("memory", "memory"),
        ("embedded", "embedded"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://somebody:hush@host:6379/0", "redis://***@host:6379/0"),
        (
            "redis+sentinel://:hush@a:1,b:2/main/0?sentinel_password=hush",
            "redis+sentinel://***@a:1,b:2/main/0?***",
        ),
        ("rediss+cluster://u:hush@a:1,b:2", "rediss+cluster://***@a:1,b:2"),
        ("rediss://:hush@host", "rediss://***@host"),
        ("redis://somebody@host", "redis://***@host"),
        ("redis://somebody:hu@sh@host", "redis://***@host"),
        ("unix://somebody:hush@/run/redis.sock", "unix://***@/run/redis.sock"),
    ],
)
def test_credentials_are_masked(url: str, masked: str) -> None:
    assert mask_url(url) == masked
    assert printable(load_settings({"store": url}))["store"] == masked


@pytest.mark.parametrize(
    "options", ["username=somebody&password=hush", "password=hu@sh&db=1", "password=a@hush"]
)
def test_credentials_among_the_options_are_masked(options: str) -> None:
    masked = mask_url(f"redis://host:6379/0?{options}")
    assert masked.startswith("redis://host:6379/0")
    for part in ("hush", "sh", "somebody"):
        assert part not in masked


@pytest.mark.parametrize(
    "refused",
    [{"store": "http://somebody:hush@host"}, {"history_url": "ftp://somebody:hush@host"}],
)
def test_a_refused_url_is_not_quoted(refused: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings(refused)
    assert "hush" not in str(raised.value)


def test_credentials_of_the_history_provider_are_masked() -> None:
    masked = printable(load_settings({"history_url": "https://u:hush@host/path?token=hush"}))
    assert masked["history_url"] == "https://***@host/path?***"


def test_effective_settings_hold_every_setting_and_every_one_is_described() -> None:
    assert list(printable(load_settings({}))) == list(Settings.model_fields)
    assert all(field.description for field in Settings.model_fields.values())
