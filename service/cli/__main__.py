"""`python -m service.cli`, as torchrun starts it."""

from service.cli.main import main

main()
