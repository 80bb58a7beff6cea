"""A few megabytes kept back, so that on a full disk it can still be written down that the disk is full."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

_BYTES = 8 * 2**20
_log = logging.getLogger(__name__)


class Reserve:
    """The file DATA/reserve."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "reserve"

    def keep(self) -> None:
        """Lay the reserve in, if there is room for it many times over."""
        try:
            if self._path.exists() or shutil.disk_usage(self._path.parent).free < 8 * _BYTES:
                return
            with self._path.open("xb") as file:
                # Real zeros, not a hole: a hole reserves nothing.
                file.write(bytes(_BYTES))
                os.fchmod(file.fileno(), 0o600)
        except OSError as error:
            _log.warning("No reserve could be laid in: %s", error)

    def release(self) -> None:
        """Give the space back."""
        self._path.unlink(missing_ok=True)
        _log.error("The disk of the data folder is full. Free some space.")
