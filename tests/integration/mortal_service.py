"""`mfalcon`, but that its engine dies of the next batch once a file is there, or hangs if it says
so.

python -m tests.integration.mortal_service FILE serve ...
"""

import sys
import threading
from pathlib import Path
from typing import Any

from model.engine.engine import Engine
from service.cli import main

if __name__ == "__main__":
    poison, encode = Path(sys.argv.pop(1)), Engine.encode

    def encode_or_die(*arguments: Any) -> Any:
        if poison.exists():
            if poison.read_text() == "hang":
                threading.Event().wait()
            raise SystemExit("as a C extension might")
        return encode(*arguments)

    Engine.encode = encode_or_die  # type: ignore[method-assign,assignment]
    main()
