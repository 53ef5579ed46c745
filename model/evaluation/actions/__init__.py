"""How well the next event's action is predicted, and by how much better than by simpler means."""
