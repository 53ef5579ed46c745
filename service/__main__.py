"""`python -m service` is `mfalcon`."""

from service.cli import main

main()
