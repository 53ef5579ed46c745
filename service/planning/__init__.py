"""`mfalcon plan`: how many replicas and how much Redis a described traffic needs.

Costs are measured (`measure.py`), a replica is simulated with the service's own batching rule
(`simulation.py`), and hit ratios are computed for any number of users (`popularity.py`).
"""
