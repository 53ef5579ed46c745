"""Owns the fixtures of the fuzz tests: those of the integration tests."""

from tests.integration.conftest import folder, serve

__all__ = ["folder", "serve"]
