"""`mfalcon bench rectools`: another library's model of the same weights, in the same run."""
