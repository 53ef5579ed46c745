"""The subcommands of `python -m loadtests`, one a file."""
