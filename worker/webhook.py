"""Webhooks: where news of runs is sent, and the one function that sends. The address is a secret: whoever has it can
write there, so it is neither shown in full nor logged."""

from __future__ import annotations

import http.client
import json
import secrets
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, TypeAlias, get_args
from urllib.parse import urlsplit

from ttrl_engine.errors import ConfigError
from worker.store import Store
from worker.store.connection import now

WebhookKind: TypeAlias = Literal["slack", "discord", "json"]
EVENTS: Final = ("finished", "failed", "alarm", "stall")
TIMEOUT_S = 5.0
MAX_WEBHOOKS = 20
DEFAULT_SILENT_S = 900.0

_HOOKS, _SILENCE = "webhooks", "webhook_silence_s"
# Too early or too busy; any other refusal of the request itself would be repeated for ever.
_PASSING = (408, 425, 429)


@dataclass(frozen=True)
class Webhook:
    """One address and what it is told. `created_at` keeps it from being told what was before it."""

    id: str
    kind: WebhookKind
    url: str
    events: tuple[str, ...]
    created_at: float

    @property
    def shown(self) -> str:
        """The host, and nothing of what makes the address a secret."""
        return f"{urlsplit(self.url).hostname}/…"

    def __repr__(self) -> str:
        return f"Webhook({self.id}, {self.kind}, {self.shown})"


@dataclass(frozen=True)
class Answer:
    """How one attempt ended. `error` says what was wrong, without the address; `passing` that a later one may do."""

    ok: bool
    error: str = ""
    passing: bool = False
    retry_after_s: float = 0.0


def webhooks(store: Store) -> list[Webhook]:
    """Those that are configured."""
    return [Webhook(**{**each, "events": tuple(each["events"])}) for each in store.preference(_HOOKS, [])]


def silence_s(store: Store) -> float:
    """Seconds without any news of a running run after which it counts as stalled."""
    return float(store.preference(_SILENCE, DEFAULT_SILENT_S))


def keep_silence(store: Store, seconds: float) -> None:
    """Set what `silence_s` gives. Raises ConfigError outside one minute to one day."""
    if not 60 <= seconds <= 86_400:
        raise ConfigError("A run counts as stalled after 1 to 1,440 minutes without news.")
    store.keep_preference(_SILENCE, float(seconds))


def add_webhook(store: Store, kind: str, url: str, events: Sequence[str]) -> Webhook:
    """Check and keep one more. Raises ConfigError with the reason."""
    found = webhooks(store)
    if len(found) >= MAX_WEBHOOKS:
        raise ConfigError(f"There are {MAX_WEBHOOKS} webhooks already. Remove one first.")
    if kind not in get_args(WebhookKind):
        raise ConfigError(f"A webhook is for {', '.join(get_args(WebhookKind))}; {kind!r} is none of these.")
    chosen = tuple(name for name in EVENTS if name in events)
    if not chosen:
        raise ConfigError("Choose at least one thing that the webhook is told about.")
    url = url.strip()
    check_url(url)
    if any(each.url == url for each in found):
        raise ConfigError("This address is configured already. Remove it first to change what it is told.")
    hook = Webhook(secrets.token_hex(6), kind, url, chosen, now())  # type: ignore[arg-type]  # checked above
    store.keep_preference(_HOOKS, [asdict(each) for each in (*found, hook)])
    return hook


def remove_webhook(store: Store, webhook_id: str) -> None:
    """Forget one, and what waits for it."""
    kept = [each for each in webhooks(store) if each.id != webhook_id]
    store.keep_preference(_HOOKS, [asdict(each) for each in kept])
    store.drop_deliveries([each.id for each in kept])


def check_url(url: str) -> None:
    """Raises ConfigError where the address cannot be that of a webhook."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigError("This is no address: its host or port cannot be read.") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError("A webhook's address begins with https:// or http:// and names a host.")
    if parts.username is not None or parts.password is not None:
        raise ConfigError("Leave the user name and password out of the address: they would not be sent.")
    if not url.isascii() or len(url) > 2000 or any(letter.isspace() or not letter.isprintable() for letter in url):
        raise ConfigError("An address has up to 2,000 plain characters and no spaces.")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A webhook answers by itself; whatever sends us elsewhere is not what the person has configured."""

    def redirect_request(self, *_arguments: Any) -> None:
        """Never follow."""


def send(hook: Webhook, message: Mapping[str, Any], timeout_s: float = TIMEOUT_S) -> Answer:
    """Post the message in the form that the receiver takes; never raises and never reads what is answered."""
    body = json.dumps(_FORMS[hook.kind](message)).encode()
    headers = {"content-type": "application/json", "user-agent": "ttrl-studio"}
    try:
        check_url(hook.url)
        request = urllib.request.Request(hook.url, body, headers, method="POST")  # noqa: S310 -- http and https only
        opener = urllib.request.build_opener(_NoRedirect)
        with opener.open(request, timeout=timeout_s) as reply:
            reply.close()
        return Answer(True)
    except ConfigError as refusal:
        return Answer(False, str(refusal))
    except urllib.error.HTTPError as refusal:
        with refusal:
            passing = refusal.code in _PASSING or refusal.code >= 500
            wait = refusal.headers.get("retry-after", "") if refusal.code == 429 else ""
            return Answer(False, _status_words(refusal.code), passing, float(wait) if wait.isdecimal() else 0.0)
    except (OSError, http.client.HTTPException) as failure:
        return Answer(False, _failure_words(failure, timeout_s), passing=True)


def _status_words(code: int) -> str:
    reason = http.client.responses.get(code, "")
    if 300 <= code < 400:
        return f"The server answered {code} {reason} and points elsewhere. Enter the final address."
    if code in (401, 403, 404, 410):
        return f"The server answered {code} {reason}: the address is wrong or was withdrawn. Make a new one there."
    return f"The server answered {code} {reason}.".replace(" .", ".")


def _failure_words(failure: BaseException, timeout_s: float) -> str:
    """What went wrong, in words that hold nothing of the address."""
    cause = failure.reason if isinstance(failure, urllib.error.URLError) else failure
    if isinstance(cause, TimeoutError):
        return f"The server did not answer within {timeout_s:g} s."
    if isinstance(cause, ssl.SSLError):
        return "The server's certificate was not accepted, or it does not speak HTTPS."
    if isinstance(cause, OSError) and cause.strerror:
        return f"The server could not be reached: {cause.strerror}."
    return f"The server could not be reached ({type(cause).__name__})."


# --- the forms in which receivers take a message -----------------------------------------------------------------


def _slack(message: Mapping[str, Any]) -> dict[str, Any]:
    # Slack reads <…> as a link or a mention: https://docs.slack.dev/messaging/formatting-message-text
    escaped = str(message["text"]).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return {"text": escaped, "unfurl_links": False, "mrkdwn": False}


def _discord(message: Mapping[str, Any]) -> dict[str, Any]:
    # A run's name may hold "@everyone": nobody is to be called by it.
    return {"content": str(message["text"])[:2000], "allowed_mentions": {"parse": []}, "flags": 4}


def _json(message: Mapping[str, Any]) -> dict[str, Any]:
    return dict(message)


_FORMS: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "slack": _slack,
    "discord": _discord,
    "json": _json,
}
