"""Which pages exist, under which address, and which of them the navigation shows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Page:
    """One page. `module` is its file below `app.pages`; `nav` says whether the header links to it."""

    path: str
    title: str
    module: str
    icon: str
    nav: bool = True

    @property
    def url(self) -> str:
        """The address, starting with a slash."""
        return f"/{self.path}"


# The first page lives at "/" and must stay first: Gradio's main page has no path of its own.
PAGES: tuple[Page, ...] = (
    Page("", "Overview", "overview", "home"),
    Page("new", "New run", "new_run", "plus"),
    Page("queue", "Queue", "queue", "queue"),
    Page("runs", "Runs", "runs", "runs"),
    Page("compare", "Compare", "compare", "compare"),
    Page("problem-sets", "Problem sets", "problem_sets", "stack"),
    Page("settings", "Settings", "settings", "gear"),
    Page("run", "Run", "run", "chart", nav=False),
    Page("blind", "Blind comparison", "blind", "compare", nav=False),
)
