"""Pushing a run's weights to the Hugging Face hub: only when a person asks for it, with a token that is not kept."""

from __future__ import annotations

import os
import re
import threading
from dataclasses import dataclass

from app.exports.weights import Entry
from ttrl_engine.errors import ConfigError
from worker.failures import first_line, redact

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_STATUS = {
    401: "The hub does not accept the token. Make a new one with the right to write.",
    403: "The token may not write there. Take one with the right to write to this account.",
    404: "The hub knows no such account.",
    409: "The hub says that this repository is being changed by somebody else. Try again.",
}


@dataclass(frozen=True)
class Push:
    """One upload: under way until it has a `url` or an `error`."""

    repo: str
    num_files: int
    url: str = ""
    error: str = ""

    @property
    def is_over(self) -> bool:
        """Nothing more happens."""
        return bool(self.url or self.error)


class Pushes:
    """The uploads of this web process, the last one of each run. They go on when the page is closed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[int, Push] = {}

    def last(self, run_id: int) -> Push | None:
        """How the last upload of a run stands."""
        with self._lock:
            return self._last.get(run_id)

    def start(self, run_id: int, files: list[Entry], repo: str, token: str, private: bool, allowed: bool) -> None:
        """Check what can be checked here, then upload in a thread. Raises ConfigError with the reason."""
        found = check_push(files, repo, token, allowed)
        with self._lock:
            before = self._last.get(run_id)
            if before is not None and not before.is_over:
                raise ConfigError(f"This run is being uploaded to {before.repo} already.")
            self._last[run_id] = Push(repo.strip(), len(files))

        def upload() -> None:
            try:
                ended = Push(repo.strip(), len(files), url=push(files, repo.strip(), found, private))
            except ConfigError as refusal:
                ended = Push(repo.strip(), len(files), error=str(refusal))
            with self._lock:
                self._last[run_id] = ended

        threading.Thread(target=upload, name=f"push run {run_id}", daemon=True).start()


def check_push(files: list[Entry], repo: str, token: str, allowed: bool) -> str:
    """The token to use: the given one, else that of the environment. Raises ConfigError; asks nobody."""
    if not allowed:
        raise ConfigError("The operator has switched the hub off (TTRL_STUDIO_HUB_ALLOWED). Nothing was sent.")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise ConfigError("The hub is switched off by HF_HUB_OFFLINE. Unset it and start again to push.")
    if not _NAME.fullmatch(repo.strip()):
        raise ConfigError("Name the repository as owner/name, such as my-account/run-7.")
    if not files:
        raise ConfigError("There are no weights to push yet.")
    from huggingface_hub import get_token

    found = token.strip() or get_token()
    if not found:
        raise ConfigError("The hub needs a token with the right to write: enter one, or set HF_TOKEN and start again.")
    return found


def push(files: list[Entry], repo: str, token: str, private: bool, endpoint: str | None = None) -> str:
    """Create the repository if needed and upload all files in one commit; returns its address.

    Raises ConfigError with the reason; the token is in no message.
    """
    import httpx2
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    api = HfApi(endpoint=endpoint, token=token)
    operations = [
        CommitOperationAdd(name, content.encode() if isinstance(content, str) else str(content))
        for name, content in files
    ]
    try:
        made = api.create_repo(repo, private=private, exist_ok=True)
        api.create_commit(repo, operations, commit_message="Upload weights from TTRL Studio")
    except OfflineModeIsEnabled:
        raise ConfigError("The hub is switched off by HF_HUB_OFFLINE. Nothing was sent.") from None
    except HfHubHTTPError as refusal:
        code = refusal.response.status_code
        raise ConfigError(_STATUS.get(code, f"The hub answered {code}: {_told(refusal, token)}")) from None
    except HFValidationError as refusal:
        raise ConfigError(f"The hub takes no such name: {_told(refusal, token)}") from None
    except (httpx2.HTTPError, OSError) as failure:
        raise ConfigError(
            f"The hub could not be reached ({type(failure).__name__}). Is this machine online? What was already sent "
            "stays there; push again to complete it."
        ) from None
    return str(made)


def _told(error: BaseException, token: str) -> str:
    return redact(first_line(error)).replace(token, "…")[:300]
