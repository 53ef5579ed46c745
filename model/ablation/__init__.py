"""Ablations: a grid of training runs from one file, and what the validation event says of them."""
