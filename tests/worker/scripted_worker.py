"""A real worker process whose jobs follow a script: `python scripted_worker.py --data-dir DIR`."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from worker.service import serve  # noqa: E402 (the path comes first)
from worker.settings import Settings  # noqa: E402 (the path comes first)

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", type=Path, required=True)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO)
    serve(
        Settings(
            data_dir=parser.parse_args().data_dir, grace_s=2.0, heartbeat_s=0.2, reconcile_s=0.3, min_free_bytes=0
        ),
        child=(sys.executable, str(ROOT / "tests" / "worker" / "scripted_child.py")),
    )
