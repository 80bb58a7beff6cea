"""What every answer of the web process passes through: refusing cross-site writes, safe headers, the page frame.

Pure ASGI on purpose: Starlette's BaseHTTPMiddleware would buffer the event streams that live updates travel on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Gradio compiles component templates in the browser, hence 'unsafe-eval'; everything else stays on this origin.
CONTENT_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "frame-ancestors 'none'; base-uri 'self'; form-action 'self'; object-src 'none'"
)
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-security-policy", CONTENT_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
)


class Guard:
    """Refuses writes that another site's page sends, drops CORS permissions, adds security headers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if _is_cross_site_write(scope["method"], Headers(scope=scope)):
            refusal = PlainTextResponse("This request came from another site and was refused.", 403)
            await refusal(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [(k, v) for k, v in message["headers"] if not k.lower().startswith(b"access-control-")]
                message = {**message, "headers": [*kept, *_SECURITY_HEADERS]}
            await send(message)

        await self.app(scope, receive, send_guarded)


def _is_cross_site_write(method: str, headers: Headers) -> bool:
    if method in _SAFE_METHODS:
        return False
    origin = headers.get("origin")
    foreign = bool(origin) and urlsplit(origin or "").netloc != headers.get("host")
    return foreign or headers.get("sec-fetch-site") == "cross-site"


class PageFrame:
    """Puts head and header into the HTML of our pages, so that both are painted before any script has loaded.

    `frame(path)` gives (title, head, header) for a page's path, or None where the path is not a page. Only answers
    of those paths with an HTML body are held back and rewritten; every other answer streams through untouched.
    """

    def __init__(self, app: ASGIApp, frame: Callable[[str], tuple[str, str, str] | None]) -> None:
        self.app = app
        self.frame = frame

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        parts = self.frame(scope["path"]) if scope["type"] == "http" and scope["method"] == "GET" else None
        if parts is None:
            await self.app(scope, receive, send)
            return
        held: list[Message] = []
        body = bytearray()

        async def collect(message: Message) -> None:
            if message["type"] == "http.response.start":
                held.append(message)
                return
            body.extend(message.get("body", b""))
            if message.get("more_body", False):
                return
            start = held[0]
            kind = Headers(raw=start["headers"]).get("content-type", "")
            content = framed(bytes(body), parts) if kind.startswith("text/html") else bytes(body)
            headers = [(k, v) for k, v in start["headers"] if k.lower() not in (b"content-length", b"cache-control")]
            headers += [(b"content-length", str(len(content)).encode()), (b"cache-control", b"no-store")]
            await send({**start, "headers": headers})
            await send({"type": "http.response.body", "body": content})

        # Without compression from below, the body is the page itself.
        plain = {**scope, "headers": [(k, v) for k, v in scope["headers"] if k.lower() != b"accept-encoding"]}
        await self.app(plain, receive, collect)


_SOCIAL_META = re.compile(rb'\s*<meta\s+(?:property|name)="(?:og|twitter):[^>]*>')


def framed(page: bytes, parts: tuple[str, str, str]) -> bytes:
    """The page with our title, head and header. The head goes first, before any data, the header before the app."""
    title, head, header = parts
    top, _, rest = page.partition(b"<head>")
    if not rest or b"<gradio-app" not in rest:
        return page
    before, _, after = rest.rpartition(b"<gradio-app")
    before = _SOCIAL_META.sub(b"", before)
    return b"".join(
        (
            top,
            b"<head><title>",
            title.encode(),
            b"</title>",
            head.encode(),
            before,
            header.encode(),
            b"<gradio-app",
            after,
        )
    )
