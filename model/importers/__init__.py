"""Checkpoints of other implementations, read into this one's layout. Never runs their code."""
