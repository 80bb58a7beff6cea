"""Small line icons as inline SVG: no font, no request, the colour of the text around them."""

from __future__ import annotations

# Paths on a 20 x 20 grid, stroke 1.6, drawn for this product.
_PATHS: dict[str, str] = {
    "home": "M3.5 9 10 3.5 16.5 9v7.5h-4.5v-4.5h-4v4.5H3.5z",
    "plus": "M10 4v12M4 10h12",
    "queue": "M4 5h12M4 10h12M4 15h7",
    "runs": "M3.5 16.5h13M5.5 13.5v-3M10 13.5v-8M14.5 13.5v-5",
    "compare": "M4 4h4.5v12H4zM11.5 4H16v12h-4.5z",
    "stack": "M10 3.5 17 7l-7 3.5L3 7zM3 10.2l7 3.5 7-3.5M3 13.4l7 3.5 7-3.5",
    "gear": "M10 7.2a2.8 2.8 0 1 1 0 5.6 2.8 2.8 0 0 1 0-5.6zM10 2.8v2M10 15.2v2M2.8 10h2M15.2 10h2M4.9 "
    "4.9l1.4 1.4M13.7 13.7l1.4 1.4"
    "M15.1 4.9l-1.4 1.4M6.3 13.7l-1.4 1.4",
    "chart": "M3.5 14.5 8 9.5l3 3 5.5-7",
    "sun": "M10 6.8a3.2 3.2 0 1 1 0 6.4 3.2 3.2 0 0 1 0-6.4zM10 2v2M10 16v2M2 10h2M16 10h2M4.3 4.3l1.4 "
    "1.4M14.3 14.3l1.4 1.4M15.7 4.3l-1.4 1.4"
    "M5.7 14.3l-1.4 1.4",
    "moon": "M16 11.6A6.6 6.6 0 0 1 8.4 4 6.6 6.6 0 1 0 16 11.6z",
    "menu": "M3.5 6h13M3.5 10h13M3.5 14h13",
    "close": "M5 5l10 10M15 5 5 15",
    "check": "M4.5 10.5 8.5 14.5 15.5 6",
    "cross": "M6 6l8 8M14 6l-8 8",
    "dash": "M5 10h10",
    "dot": "M10 7.5a2.5 2.5 0 1 1 0 5 2.5 2.5 0 0 1 0-5z",
    "clock": "M10 3a7 7 0 1 1 0 14 7 7 0 0 1 0-14zM10 6v4.3l2.8 1.7",
    "play": "M6.5 4.5v11l9-5.5z",
    "pause": "M7 5v10M13 5v10",
    "stop": "M5.5 5.5h9v9h-9z",
    "spinner": "M10 3a7 7 0 1 1-7 7",
    "warning": "M10 3.5 17.5 16.5h-15zM10 8.5v3.5M10 14.2v.1",
    "info": "M10 3a7 7 0 1 1 0 14 7 7 0 0 1 0-14zM10 9.2v4.3M10 6.6v.1",
    "error": "M10 3a7 7 0 1 1 0 14 7 7 0 0 1 0-14zM7.5 7.5l5 5M12.5 7.5l-5 5",
    "question": "M10 3a7 7 0 1 1 0 14 7 7 0 0 1 0-14zM7.9 8a2.1 2.1 0 1 1 3.1 1.9c-.7.4-1 .8-1 1.5M10 13.8v.1",
    "download": "M10 3.5v8.5M6.5 8.8 10 12.3l3.5-3.5M4 16h12",
    "copy": "M7.5 7.5h8v8h-8zM12.5 7.5v-3h-8v8h3",
    "link": (
        "M8.5 11.5a3 3 0 0 0 4.2 0l2.3-2.3a3 3 0 0 0-4.2-4.2L9.9 5.9M11.5 8.5a3 3 0 0 0-4.2 0L5 "
        "10.8A3 3 0 0 0 9.2 15l.9-.9"
    ),
    "arrow": "M4 10h12M11.5 5.5 16 10l-4.5 4.5",
    "lock": "M5.5 9.5h9v7h-9zM7.3 9.5V7a2.7 2.7 0 0 1 5.4 0v2.5",
    "flag": "M5 17V3.8M5 4.2c3-1.6 5.5 1.6 9.5 0v7c-4 1.6-6.5-1.6-9.5 0",
    "archive": "M3.5 5h13v3h-13zM5 8v8h10V8M8.3 11h3.4",
    "file": "M5.5 3.5h6l3 3v10h-9zM11.5 3.5v3h3",
}


def icon(name: str, *, title: str | None = None, size: int = 16) -> str:
    """The icon as an SVG string. Without a title it is hidden from screen readers (the word beside it speaks)."""
    role = f'role="img" aria-label="{title}"' if title else 'aria-hidden="true" focusable="false"'
    return (
        f'<svg class="tt-icon tt-icon-{name}" {role} width="{size}" height="{size}" viewBox="0 0 20 20" fill="none" '
        f'stroke="currentColor" stroke-width="1.6" stroke-linecap="round" stroke-linejoin="round">'
        f'<path d="{_PATHS[name]}"/></svg>'
    )


def logo(size: int = 26) -> str:
    """Our mark: three columns of votes, and the one that wins."""
    return (
        f'<svg class="tt-logo" aria-hidden="true" focusable="false" width="{size}" height="{size}" viewBox="0 0 28 28">'
        '<rect width="28" height="28" rx="7" fill="var(--tt-accent-fill)"/>'
        '<g fill="#fff"><rect x="6" y="16.5" width="4" height="5.5" rx="1.4" opacity=".62"/>'
        '<rect x="12" y="10.5" width="4" height="11.5" rx="1.4"/>'
        '<rect x="18" y="18.5" width="4" height="3.5" rx="1.4" opacity=".62"/>'
        '<path d="M11.1 6.3l2 2 3.9-3.9" fill="none" stroke="#fff" stroke-width="1.9" '
        'stroke-linecap="round" stroke-linejoin="round"/>'
        "</g></svg>"
    )
