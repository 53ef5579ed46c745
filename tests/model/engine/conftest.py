"""Owns the engines that the engine's tests share; no test changes one."""

import pytest

from model.engine.engine import Engine
from tests.model.builders import FORMULATIONS, make_network, tiny_config


@pytest.fixture(scope="session", params=list(FORMULATIONS))
def every_engine(request: pytest.FixtureRequest) -> Engine:
    """One engine for each formulation."""
    return Engine(make_network(tiny_config(**FORMULATIONS[request.param])))


@pytest.fixture(scope="session")
def engine() -> Engine:
    """One formulation, for what does not differ between them."""
    return Engine(make_network(tiny_config(bias_heads="per_head")))
