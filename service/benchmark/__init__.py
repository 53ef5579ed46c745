"""`mfalcon bench`: the cached pass against full forwards, interleaved in one run."""
