"""What can be chosen for a run on this machine: problem sets of the store, and models in reach."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path

from app.services import Services
from ttrl_engine.bundled import PROBLEM_SETS
from ttrl_engine.errors import StudioError
from ttrl_engine.models import SHORTLIST, ModelCheck, ModelEntry, cached_folder, check_model, find_models, is_hub_name
from worker.rows import ProblemSetRow

Choice = tuple[str, str]
"""(what is shown, what the config holds)."""

_BUNDLED = "bundled:"
_CHECK_S = 60.0


class Choices:
    """Looks choices up; what is slow to find out is remembered for a minute."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self._bundled_stored = False
        self._checks: dict[tuple[str, str | None], tuple[float, ModelCheck]] = {}
        self._cached: dict[str, tuple[float, bool]] = {}

    def store_bundled(self) -> None:
        """Put the bundled sets into the store, once per process, so that they are listed like any other."""
        if self._bundled_stored:
            return
        desk = self.services.desk
        known = {found.source for found in self.services.store.problem_sets(archived=True)}
        for name in PROBLEM_SETS:
            if _BUNDLED + name not in known:
                try:
                    desk.problem_set(_BUNDLED + name)
                except StudioError:
                    # A damaged installation shows as a missing set, and in `doctor`; not as a dead page.
                    continue
        self._bundled_stored = True

    def problem_sets(self) -> list[ProblemSetRow]:
        """Every set that can be chosen: the bundled ones first, then the newest."""
        self.store_bundled()
        return sorted(self.services.store.problem_sets(), key=lambda found: not found.source.startswith(_BUNDLED))

    def find_set(self, ref: str) -> ProblemSetRow | None:
        """The stored set behind a config's `data.problems`; None for one that is not stored here."""
        self.store_bundled()
        store = self.services.store
        if ref.startswith("set:"):
            return store.problem_set(ref.removeprefix("set:"))
        for found in store.problem_sets(archived=True):
            if found.source == ref:
                return found
        return None

    def set_choices(self) -> list[Choice]:
        """Sets to learn from."""
        return [(set_label(found), set_ref(found)) for found in self.problem_sets()]

    def benchmark_choices(self) -> list[Choice]:
        """Sets that can measure: every problem has its reference answer."""
        complete = [found for found in self.problem_sets() if found.num_references == found.num_problems]
        return [(f"{set_title(found)} · {found.num_problems:,} problems", set_ref(found)) for found in complete]

    def model_choices(self) -> list[Choice]:
        """The bundled model, folders below the allowed roots, then the hub's short list."""
        bundled = [entry for entry in SHORTLIST if entry.source.startswith(_BUNDLED)]
        return [
            *((f"{entry.title} · {entry.size} · any CPU", entry.source) for entry in bundled),
            *((f"{folder.name} · folder {folder.parent}", str(folder)) for folder in self.folders()),
            *((self._hub_label(entry), entry.source) for entry in SHORTLIST if entry not in bundled),
        ]

    def _hub_label(self, entry: ModelEntry) -> str:
        place = "on this machine" if self.is_cached(entry.source) else "to be downloaded"
        return f"{entry.title} · {entry.size} · GPU with {entry.gpu_gib} GiB · {place}"

    def folders(self) -> list[Path]:
        """Model folders below the operator's allowed roots."""
        found: list[Path] = []
        for root in self.services.settings.model_roots:
            found += find_models(root)
        return found

    def is_cached(self, source: str) -> bool:
        """Whether a hub model lies complete in the local cache."""
        now = time.monotonic()
        known = self._cached.get(source)
        if known is None or now - known[0] > _CHECK_S:
            known = (now, cached_folder(source, None) is not None)
            self._cached[source] = known
        return known[1]

    def known_check(self, source: str, revision: str | None) -> ModelCheck | None:
        """A verdict that costs no network: a fresh one for what lies here, else the one remembered, else None."""
        known = self._checks.get((source, revision))
        if known is not None and time.monotonic() - known[0] < _CHECK_S:
            return known[1]
        if is_hub_name(source) and not self.is_cached(source):
            # What the hub said of a model does not grow old; that it could not be reached does.
            return known[1] if known is not None and known[1].ok else None
        return self.check(source, revision)

    def check(self, source: str, revision: str | None) -> ModelCheck:
        """Whether the model can be loaded, and if not, why. A hub name may ask the hub."""
        settings = self.services.settings
        verdict = check_model(source, settings.model_roots, settings.hub_allowed, revision)
        self._checks[(source, revision)] = (time.monotonic(), verdict)
        return verdict


def set_ref(found: ProblemSetRow) -> str:
    """How a config names a stored set."""
    return found.source if found.source.startswith(_BUNDLED) else f"set:{found.id}"


def set_title(found: ProblemSetRow) -> str:
    """What pages call a set: a bundled one by its plain name."""
    return (
        found.name.removeprefix(_BUNDLED).replace("-", " ").capitalize()
        if found.name.startswith(_BUNDLED)
        else found.name
    )


def set_label(found: ProblemSetRow) -> str:
    """A set in a list of choices: name, size, references."""
    if not found.num_references:
        references = "no reference answers"
    elif found.num_references == found.num_problems:
        references = "all with references"
    else:
        references = f"{found.num_references:,} references"
    bundled = " (bundled)" if found.source.startswith(_BUNDLED) else ""
    return f"{set_title(found)}{bundled} · {found.num_problems:,} problems · {references}"


def entry_of(source: str, shortlist: Sequence[ModelEntry] = SHORTLIST) -> ModelEntry | None:
    """The short list's entry for a source."""
    return next((entry for entry in shortlist if entry.source == source), None)


def download_bytes(entry: ModelEntry) -> int | None:
    """The size of the download as the short list gives it in words ("1.5 B, 3.1 GB"); None where it does not."""
    weights = re.search(r"([\d.]+) GB", entry.size)
    return round(float(weights[1]) * 1e9) if weights else None
