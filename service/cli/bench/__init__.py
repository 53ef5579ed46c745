"""The commands of `mfalcon bench`: one module each."""
