"""`mfalcon`, but that its engine sleeps before each batch once a file is there: not in its warm-up.

python -m tests.loadtests.slow_service FILE serve ...
"""

import sys
import time
from pathlib import Path
from typing import Any

from model.engine.engine import Engine
from service.cli import main

PAUSE_S = 0.3

if __name__ == "__main__":
    brake, encode = Path(sys.argv.pop(1)), Engine.encode

    def encode_late(*arguments: Any) -> Any:
        if brake.exists():
            time.sleep(PAUSE_S)
        return encode(*arguments)

    Engine.encode = encode_late  # type: ignore[method-assign,assignment]
    main()
