"""Starting a run in several processes on this machine, by torchrun. Importing this module does not load torch."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence


def is_rank() -> bool:
    """Whether torchrun has started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_first() -> bool:
    """Whether this process speaks for the run: the first rank, or one alone. Ask before the ranks are joined."""
    return not is_rank() or os.environ["RANK"] == "0"


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
