"""An interval as a small picture, its numbers beside it: the mean as a dot, 0 as a line, and what luck alone does."""

from __future__ import annotations

_WIDTH, _HEIGHT = 150, 20


def interval_picture(
    value: float, low: float, high: float, reach: float, *, luck: float | None = None, noise: float | None = None
) -> str:
    """An SVG over [-reach, reach]. `luck` is a dashed tick; `noise` is half of a grey band around 0. Hidden from those
    who listen: the numbers are in the text."""

    def x(share: float) -> float:
        return _WIDTH / 2 + max(-1.0, min(1.0, share / reach)) * (_WIDTH / 2 - 6)

    band = tick = ""
    if noise is not None:
        wide = x(noise) - x(-noise)
        band = f'<rect x="{x(-noise):.1f}" y="2" width="{wide:.1f}" height="16" fill="currentColor" opacity=".18"/>'
    if luck is not None:
        tick = f'<path d="M{x(luck):.1f} 4V16" stroke-width="1.5" stroke-dasharray="2 2" opacity=".7"/>'
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" aria-hidden="true" '
        f'focusable="false" fill="none"><g stroke="none">{band}</g><g stroke="currentColor">'
        f'<path d="M{_WIDTH / 2:g} 1V19" opacity=".35"/>{tick}'
        f'<path d="M{x(low):.1f} 10H{x(high):.1f}" stroke-width="2"/></g>'
        f'<circle cx="{x(value):.1f}" cy="10" r="3.5" fill="currentColor"/></svg>'
    )
