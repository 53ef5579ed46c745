"""A real log played against a service: asked before each event, told of it after.

What comes out, beside latencies: how often the event's item was among the first that the service
gave, and how well its action was predicted.
"""
