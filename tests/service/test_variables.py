"""A misspelt variable is told of; the tests' own and other programs' are not."""

from service.settings import Settings
from service.variables import unread


def test_variables_that_nobody_reads_are_told_with_the_nearest_setting() -> None:
    environment = {
        "MFALCON_STORE": "memory",
        "MFALCON_STOR_TIMEOUT_MS": "hush",
        "MFALCON_SERVICE_HOST": "hush",
        "MFALCON_TEST_REDIS_URL": "hush",
        "PATH": "hush",
    }
    told = unread(environment, Settings.model_fields)
    assert [line.partition(" ")[0] for line in told] == [
        "MFALCON_SERVICE_HOST",
        "MFALCON_STOR_TIMEOUT_MS",
    ]
    assert told[1].endswith("is set, and is no setting; did you mean MFALCON_STORE_TIMEOUT_MS?")
    assert "hush" not in "".join(told)
    assert unread({"MFALCON_QQQ": ""}, ["store"]) == ["MFALCON_QQQ is set, and is no setting"]
