"""What becomes of answers while Redis, the network, the disk or the service itself fails.

Owns real servers, the faults done to them under load, and the verdicts. Never reaches into the
service: it is started, asked over HTTP, signalled and killed, and its Redis is meddled with.
"""
