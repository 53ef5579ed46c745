"""`mfalcon bench engine`: the engine's passes against the arithmetic and against full forwards."""
