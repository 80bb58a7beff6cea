"""Starting a run in several processes on this machine, by torchrun. Importing this module does not load torch."""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Sequence

from ttrl_engine.config import HardwareConfig


def is_rank() -> bool:
    """Whether torchrun has started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_first() -> bool:
    """Whether this process speaks for the run: the first rank, or one alone. Ask before the ranks are joined."""
    return not is_rank() or os.environ["RANK"] == "0"


def take_gpu(hardware: HardwareConfig) -> None:
    """Show this rank one GPU only, its own. Call it before torch is loaded: the driver reads once what it may show, and
    loading a library may wake it. Without ranks, or on a CPU, nothing happens; neither does it at a second call."""
    if is_rank() and hardware.device != "cpu":
        _take_gpu()


@functools.cache
def _take_gpu() -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = own_gpu(int(os.environ["LOCAL_RANK"]), os.environ.get("CUDA_VISIBLE_DEVICES"))


def own_gpu(local_rank: int, told: str | None) -> str:
    """Which of the GPUs that CUDA_VISIBLE_DEVICES names belongs to a rank; none where they do not suffice. Where it
    names none, which only the driver could count, it is the one of the rank's own number."""
    if told is None:
        return str(local_rank)
    named = [part.strip() for part in told.split(",") if part.strip() and part.strip() != "-1"]
    return named[local_rank] if local_rank < len(named) else ""


def launch(module: str, arguments: Sequence[str], num_ranks: int) -> int:
    """Run `python -m module arguments` in so many processes and return how they ended as one exit code.

    0 where all ended well; the number of a signal, negative, where one of them was killed; 128 more than it where this
    process was asked to end, after which the others had half a minute; else what the first failure returned. This
    process is torchrun's: signals that ask it to end go to all of them.
    """
    if sys.platform == "linux":
        # One machine: nothing of what the ranks exchange needs to leave it.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    # torchrun would set it too, and warn; every rank sets its threads itself.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args
    from torch.distributed.run import run as torchrun

    options = ["--nnodes", "1", "--nproc-per-node", str(num_ranks), "--max-restarts", "0"]
    try:
        torchrun(parse_args([*options, "-m", module, *arguments]))  # type: ignore[no-untyped-call]
    except SignalException as asked:
        return 128 + int(asked.sigval)
    except ChildFailedError as failed:
        codes = [int(each.exitcode) for each in failed.failures.values()]
        # torchrun ends the others by SIGTERM: that one says nothing.
        killed = [code for code in codes if code < 0 and code != -signal.SIGTERM]
        return killed[0] if killed else int(failed.get_first_failure()[1].exitcode)
    return 0


def signal_when_parent_ends(number: signal.Signals) -> None:
    """Get this signal when the parent ends, however it does. Linux only."""
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, number)
