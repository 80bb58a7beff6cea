"""`python -m worker --data-dir DIR`: the worker of a data folder."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

from ttrl_engine.errors import StudioError
from worker.service import serve
from worker.settings import Settings


def main() -> int:
    """0 after a clean stop, 2 with a message where it could not start."""
    parser = argparse.ArgumentParser(prog="python -m worker", description=__doc__)
    parser.add_argument("--data-dir", type=Path, help="folder of everything stored; also TTRL_STUDIO_DATA_DIR")
    parser.add_argument("--slots", type=int, help="jobs at the same time; also TTRL_STUDIO_SLOTS")
    arguments = parser.parse_args()
    given: dict[str, Any] = {name: value for name, value in vars(arguments).items() if value is not None}
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("huey").setLevel(logging.WARNING)
    try:
        serve(Settings(**given))
    except StudioError as failure:
        print(failure, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
