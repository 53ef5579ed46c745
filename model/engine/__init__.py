"""Serving: user states, the oracle, M-FALCON candidate scoring, and the engine over many users."""
