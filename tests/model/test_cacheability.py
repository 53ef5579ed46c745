"""Every formulation is exact across requests, and the reasons name what makes it so."""

import pytest

from model.cacheability import classify
from model.config import Window
from tests.model.builders import FORMULATIONS, tiny_config


@pytest.mark.parametrize("name", list(FORMULATIONS))
def test_every_formulation_is_exact_across_requests(name: str) -> None:
    assert classify(tiny_config(**FORMULATIONS[name])).exactness == "exact across requests"


def test_reasons_name_the_values_of_the_configuration() -> None:
    window = Window(capacity=31, keep=17)
    reasons = "\n".join(classify(tiny_config(max_distance=23, window=window)).reasons)
    for part in ("max_distance 23", "window 31/17", "divisor count", "next event's time"):
        assert part in reasons
    strict = "\n".join(classify(tiny_config(window=Window(capacity=31, keep=31))).reasons)
    assert "window 31, strict" in strict
    constant = "\n".join(classify(tiny_config(divisor=99.0)).reasons)
    assert "divisor 99.0: a constant" in constant
    assert "divisor count" not in constant
