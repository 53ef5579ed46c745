"""`mfalcon bench service` and `recompute`: services on loopback under the same load, in turns."""
