"""`python -m ttrl_engine CONFIG.yaml FOLDER`: run TTRL without the Studio, one JSON line per event.

A config that asks for several GPUs gets a process for each, by torchrun. `torchrun … -m ttrl_engine` works as well.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

from ttrl_engine.config import load_config
from ttrl_engine.errors import StudioError
from ttrl_engine.events import Event, Progressed
from ttrl_engine.launch import is_rank, launch, signal_when_parent_ends, take_gpu
from ttrl_engine.problems import load_problem_set
from ttrl_engine.threads import wait_politely


def main() -> int:
    """0 when the run ended in good order, 2 with a message where it could not."""
    parser = argparse.ArgumentParser(prog="python -m ttrl_engine", description=__doc__)
    parser.add_argument("config", type=Path, help="YAML file of a run; `ttrl-studio config` prints one")
    parser.add_argument(
        "folder", type=Path, help="where checkpoints, rollouts and the policy go; resumes what is there"
    )
    arguments = parser.parse_args()
    stopping = False

    def stop(_signum: int, _frame: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)

    def emit(event: Event) -> None:
        if not isinstance(event, Progressed):
            print(json.dumps(event.as_dict()), flush=True)

    try:
        config = load_config(arguments.config)
        if is_rank():
            signal_when_parent_ends(signal.SIGKILL)
        elif config.hardware.gpus > 1:
            # torchrun has handlers of its own; a signal that comes before them ends this process.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            wait_politely()
            code = launch("ttrl_engine", [str(arguments.config), str(arguments.folder)], config.hardware.gpus)
            if code < 0:
                print(f"A process of this run was ended by signal {-code}. Start it again to go on.", file=sys.stderr)
            return code if code >= 0 else 128 - code
        problem_set = load_problem_set(config.data.problems)
        benchmarks = {name: load_problem_set(name) for name in config.data.benchmarks}
        wait_politely()
        take_gpu(config.hardware)
        from ttrl_engine.trainer import run  # loads torch, which a wrong argument should not wait for

        run(config, arguments.folder, problem_set, benchmarks, emit, lambda: stopping)
    except StudioError as failure:
        print(failure, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
