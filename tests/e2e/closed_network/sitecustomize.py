"""Python imports this file at its start when its folder is on PYTHONPATH: from then on the network is closed.

An audit hook sees every look-up and connection that any module asks for, and cannot be removed again. Only this machine
answers; anything else is written down in $CLOSED_NETWORK_LOG and fails as if no network were there.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import sys
from typing import Any

_ADDRESSED = {"socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1}
_NAMED = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")


def _is_here(host: object) -> bool:
    if host is None or host in ("", b"", "localhost", b"localhost"):
        return True
    try:
        return ipaddress.ip_address(host.decode() if isinstance(host, bytes) else str(host)).is_loopback
    except ValueError:
        return False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _ADDRESSED:
        address = arguments[_ADDRESSED[event]]
        # A path is a socket of this machine; None is one that has been connected already.
        host = address[0] if isinstance(address, tuple) else None
    elif event in _NAMED:
        host = arguments[0]
    else:
        return
    if _is_here(host):
        return
    with open(os.environ["CLOSED_NETWORK_LOG"], "a", encoding="utf-8") as log:  # noqa: PTH123 -- before pathlib is there
        log.write(f"{event} {host!r} by {' '.join(sys.orig_argv)[:200]!r}\n")
    raise OSError(errno.ENETUNREACH, f"The network is closed: {event} {host!r}")


sys.addaudithook(_hook)
