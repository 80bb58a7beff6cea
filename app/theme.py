"""How everything looks: our design tokens as a Gradio theme, and the head that every page starts with."""

from __future__ import annotations

import hashlib
import html
from functools import lru_cache
from pathlib import Path

import gradio as gr

from app.icons import icon, logo
from app.routes import PAGES

STATIC = Path(__file__).parent / "static"
STYLES = ("tokens.css", "studio.css", "gradio.css", "chart.css", "pages.css")
SCRIPTS = ("studio.js", "chart_scale.js", "chart.js", "chart_board.js", "triage.js", "notify.js")

_FONT = [
    "system-ui",
    "-apple-system",
    "Segoe UI",
    "Roboto",
    "Helvetica Neue",
    "Noto Sans",
    "Liberation Sans",
    "Arial",
    "sans-serif",
]
_MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Liberation Mono", "monospace"]

# Gradio's variable -> our token. Each is set for the light and the dark scheme alike: the token itself changes.
_VARIABLES: dict[str, str] = {
    "body_background_fill": "bg",
    "body_text_color": "text",
    "body_text_color_subdued": "text-3",
    "background_fill_primary": "surface",
    "background_fill_secondary": "sunken",
    "border_color_primary": "border",
    "border_color_accent": "accent",
    "color_accent_soft": "accent-soft",
    "link_text_color": "accent",
    "link_text_color_hover": "accent",
    "link_text_color_visited": "accent",
    "link_text_color_active": "accent",
    "block_background_fill": "surface",
    "block_border_color": "border",
    "block_label_background_fill": "surface",
    "block_label_text_color": "text-2",
    "block_title_text_color": "text",
    "block_info_text_color": "text-3",
    "panel_background_fill": "surface",
    "panel_border_color": "border",
    "input_background_fill": "surface",
    "input_border_color": "border-strong",
    "input_border_color_focus": "accent",
    "input_placeholder_color": "text-3",
    "checkbox_background_color": "surface",
    "checkbox_background_color_selected": "accent-fill",
    "checkbox_border_color": "border-strong",
    "checkbox_border_color_selected": "accent-fill",
    "checkbox_label_background_fill": "surface",
    "checkbox_label_background_fill_selected": "accent-soft",
    "checkbox_label_text_color": "text",
    "checkbox_label_text_color_selected": "text",
    "checkbox_label_border_color": "border",
    "button_primary_background_fill": "accent-fill",
    "button_primary_background_fill_hover": "accent-hover",
    "button_primary_text_color": "on-accent",
    "button_secondary_background_fill": "surface",
    "button_secondary_background_fill_hover": "hover",
    "button_secondary_text_color": "text",
    "slider_color": "accent-fill",
    "table_even_background_fill": "surface",
    "table_odd_background_fill": "surface",
    "table_border_color": "border",
    "table_row_focus": "accent-soft",
    "table_text_color": "text",
    "code_background_fill": "sunken",
    "error_background_fill": "bad-soft",
    "error_border_color": "bad-line",
    "error_text_color": "bad",
    "accordion_text_color": "text",
    "stat_background_fill": "accent-soft",
}


# Gradio ships without types, so its classes are Any to a strict checker.
def gradio_theme() -> gr.themes.Base:
    """Gradio's base theme with every colour taken from our tokens, and system fonts only."""
    theme = gr.themes.Base(
        font=_FONT,
        font_mono=_MONO,
        radius_size=gr.themes.sizes.radius_md,
        spacing_size=gr.themes.sizes.spacing_md,
        text_size=gr.themes.sizes.text_md,
    )
    values: dict[str, str] = {}
    for name, token in _VARIABLES.items():
        values[name] = f"var(--tt-{token})"
        if hasattr(theme, f"{name}_dark"):
            values[f"{name}_dark"] = f"var(--tt-{token})"
    return theme.set(
        **values,
        block_border_width="1px",
        block_radius="10px",
        block_shadow="none",
        block_shadow_dark="none",
        input_shadow="none",
        input_shadow_focus="0 0 0 3px var(--tt-accent-soft)",
        block_label_text_weight="550",
        block_title_text_weight="550",
        button_large_radius="8px",
        button_small_radius="8px",
    )


@lru_cache(maxsize=1)
def static_version() -> str:
    """Eight hex digits over all our static files: part of their address, so that browsers may keep them."""
    digest = hashlib.sha256()
    for path in sorted(STATIC.iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


@lru_cache(maxsize=1)
def head() -> str:
    """Our scripts. They run before the first paint, to choose the colour scheme."""
    scripts = "".join(f'<script src="/studio/{name}?v={static_version()}"></script>' for name in SCRIPTS)
    return f'<meta name="color-scheme" content="light dark">{scripts}'


@lru_cache(maxsize=1)
def styles() -> str:
    """Our style sheets, for the start of the body: Gradio adds its own to the head while it loads, and of two rules
    of the same weight the later in the document wins."""
    return "".join(f'<link rel="stylesheet" href="/studio/{name}?v={static_version()}">' for name in STYLES)


def header(path: str) -> str:
    """The bar at the top: name, pages, colour scheme. `path` is the current page's, without its slash."""
    active = {"run": "runs", "blind": "compare"}.get(path, path)
    links = "".join(
        (
            f'<a href="{page.url}"{" aria-current=page" if page.path == active else ""}>'
            f"{icon(page.icon)}<span>{page.title}</span></a>"
        )
        for page in PAGES
        if page.nav
    )
    return (
        f'{styles()}<a class="tt-skip" href="#tt-main">Skip to content</a>'
        '<header class="tt-header"><div class="tt-header-in">'
        f'<a class="tt-brand" href="/">{logo()}<span>TTRL Studio</span></a>'
        f'<nav class="tt-nav" id="tt-nav" aria-label="Pages">{links}</nav>'
        '<div class="tt-header-end">'
        '<button type="button" class="tt-iconbtn tt-theme" aria-label="Dark colours" title="Light or dark colours">'
        f'<span class="tt-when-light">{icon("moon", size=18)}</span><span class="tt-when-dark">'
        f"{icon('sun', size=18)}</span></button>"
        '<button type="button" class="tt-iconbtn tt-menu-btn" aria-label="Menu" '
        'aria-controls="tt-nav" aria-expanded="false">'
        f'{icon("menu", size=20)}</button></div></div></header><div id="tt-main" tabindex="-1"></div>'
    )


def page_frame(path: str) -> tuple[str, str, str] | None:
    """(title, head, header) of one of our pages by its address, or None."""
    wanted = path.strip("/")
    for page in PAGES:
        if page.path == wanted:
            return html.escape(f"{page.title} · TTRL Studio"), head(), header(page.path)
    return None
