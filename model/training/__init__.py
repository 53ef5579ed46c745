"""Training: data sets, batches, losses, evaluation, and the loop. Needs the `train` extra."""
