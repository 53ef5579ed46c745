"""Load tests: returning users over HTTP, as a product backend would send them.

Owns the traffic, the Locust user that sends it and the figures read from the answers.
Never imports model, cache or service: what it knows, it asked the running service for.
"""
