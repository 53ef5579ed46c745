"""`mfalcon`, but that its engine sleeps before each batch.

python -m tests.loadtests.slow_service SECONDS serve ...
"""

import sys
import time
from typing import Any

from model.engine.engine import Engine
from service.cli import main

if __name__ == "__main__":
    pause_s, encode = float(sys.argv.pop(1)), Engine.encode

    def encode_late(*arguments: Any) -> Any:
        time.sleep(pause_s)
        return encode(*arguments)

    Engine.encode = encode_late  # type: ignore[method-assign,assignment]
    main()
