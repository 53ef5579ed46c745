"""A report of recorded runs: one HTML page that stands alone, and its pictures as PNG.

Owns what is drawn of a run and how it looks. Never sends anything and never judges (slo does).
"""
