"""`mfalcon verify`: the serving path against the oracle, tier by tier and cut by cut."""
