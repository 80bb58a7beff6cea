"""With the network off everything works, and nothing even tries to leave the machine.

Every Studio of these end-to-end tests runs with its network closed, and every page is watched: see `studio.Studio` and
the fixtures `studio` and `context` of conftest, which fail any test of this folder, the whole journey among them, whose
processes or pages asked for another machine. Here: that the closing closes.
"""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

from tests.e2e.studio import closed_network, outward

# A documentation address (RFC 5737) and a name that can never exist (RFC 2606).
ASKS = """
import socket
for ask in (
    lambda: socket.create_connection(("192.0.2.1", 80), timeout=5),
    lambda: socket.getaddrinfo("example.invalid", 443),
    lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53)),
):
    try:
        ask()
        print("answered")
    except OSError as error:
        print(error.errno)
with socket.create_server(("127.0.0.1", 0)) as here:
    socket.create_connection(here.getsockname(), timeout=5)
    print("here")
"""


def test_a_closed_network_refuses_and_writes_down_every_other_machine(tmp_path: Path):
    child = subprocess.run(
        [sys.executable, "-c", ASKS], env=closed_network(tmp_path), capture_output=True, text=True, check=True
    )
    assert child.stdout.split() == [*[str(errno.ENETUNREACH)] * 3, "here"]
    assert [line.split()[:2] for line in outward(tmp_path)] == [
        ["socket.getaddrinfo", "'192.0.2.1'"],
        ["socket.getaddrinfo", "'example.invalid'"],
        ["socket.sendto", "'192.0.2.1'"],
    ]
