import pytest

from loadtests.catalogue import Catalogue
from loadtests.target import TargetError


def test_it_is_learned_over_http(service_url: str) -> None:
    catalogue = Catalogue.fetch(service_url)
    assert catalogue.actions == ("negative", "neutral", "positive")
    assert len(catalogue.item_ids) == 300
    assert (catalogue.max_events, catalogue.max_candidates) == (100, 120)


def test_the_window_is_the_configuration_s() -> None:
    model = {"config": {"window": {"keep": 3, "capacity": 5}}}
    info = {"sample_item_ids": ["1"], "actions": ["a"], "model": model}
    assert Catalogue.parse(info).window == (3, 5)


def test_limits_are_optional() -> None:
    catalogue = Catalogue.parse({"sample_item_ids": ["1"], "actions": ["a"], "limits": None})
    assert (catalogue.max_events, catalogue.max_candidates) == (None, None)
    assert (catalogue.window, catalogue.fingerprint) == (None, "")


@pytest.mark.parametrize(
    ("info", "named"),
    [
        ([], "JSON object"),
        ({"actions": ["a"]}, "sample_item_ids"),
        ({"actions": ["a"], "sample_item_ids": []}, "sample_item_ids"),
        ({"actions": ["a"], "sample_item_ids": [1]}, "sample_item_ids"),
        ({"actions": "a", "sample_item_ids": ["1"]}, "actions"),
    ],
)
def test_what_is_missing_is_named(info: object, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Catalogue.parse(info)


def test_no_service_is_an_error_that_names_the_address() -> None:
    with pytest.raises(TargetError, match="no service at http://127"):
        Catalogue.fetch("http://127.0.0.1:9")
