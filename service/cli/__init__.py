"""The command line.

`mfalcon serve | train | ablate | import | evaluate | info | verify | warm | plan | bench | cache`.

Never computes; prints and exits.

Commands import what they need when they run, so that `--help` does not wait for torch.
"""

from service.cli.main import main

__all__ = ["main"]
