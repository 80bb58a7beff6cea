"""The report as a PDF: text flowed over A4 pages, vector figures, all by matplotlib."""

from __future__ import annotations

import datetime
import io
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

from app.figures import Panel, drawing
from app.report import facts
from app.report.evidence import Evidence
from app.report.labels import label_words
from app.report.words import caveats, done_words, headline, luck_words, state_words

# A4 in points; text sizes and places below are in points from the top left.
WIDTH, HEIGHT, MARGIN = 595.0, 842.0, 48.0
_LEADING = 1.4
# Mean width of a letter over the size of the font: DejaVu Sans, and DejaVu Sans Mono.
_LETTER, _MONO_LETTER = 0.56, 0.603
_PANELS_PER_PAGE = 6


@dataclass
class _Flow:
    """Lines written from the top down; a new page where one is full."""

    pages: PdfPages
    figure: Figure | None = None
    at: float = MARGIN
    num_pages: int = field(default=0)

    def line(self, text: str, size: float, *, bold: bool = False, mono: bool = False, left: float = 0.0) -> None:
        """One line that fits."""
        if self.figure is None or self.at + size * _LEADING > HEIGHT - MARGIN:
            self.turn()
        assert self.figure is not None
        self.figure.text(
            (MARGIN + left) / WIDTH,
            1 - (self.at + size) / HEIGHT,
            text,
            fontsize=size,
            fontweight="bold" if bold else "normal",
            family="monospace" if mono else "sans-serif",
            color="#141a24",
        )
        self.at += size * _LEADING

    def text(self, text: str, size: float = 9.0, *, bold: bool = False, mono: bool = False, left: float = 0.0) -> None:
        """A paragraph, wrapped."""
        letters = int((WIDTH - 2 * MARGIN - left) / (size * (_MONO_LETTER if mono else _LETTER)))
        for row in text.split("\n"):
            shown = "".join(letter if letter.isprintable() else " " for letter in row)
            for piece in textwrap.wrap(shown, letters, drop_whitespace=not mono, replace_whitespace=False) or [""]:
                self.line(piece, size, bold=bold, mono=mono, left=left)

    def heading(self, text: str) -> None:
        """A heading stays with what follows it."""
        if self.figure is None or self.at > HEIGHT - MARGIN - 90:
            self.turn()
        self.space(12)
        self.text(text, 13, bold=True)
        self.space(3)

    def space(self, points: float) -> None:
        """An empty stretch."""
        self.at += points

    def turn(self) -> None:
        """End the page and begin another."""
        self.end()
        self.figure, self.at = Figure(figsize=(WIDTH / 72, HEIGHT / 72)), MARGIN

    def end(self) -> None:
        """Write out the page at hand."""
        if self.figure is not None:
            self.num_pages += 1
            self.figure.text(0.5, 24 / HEIGHT, str(self.num_pages), fontsize=8, ha="center", color="#5a6577")
            self.pages.savefig(self.figure)  # type: ignore[no-untyped-call]  # matplotlib's own
            self.figure = None

    def panels(self, panels: Sequence[Panel]) -> None:
        """Figures on pages of their own, six to a page, each with its sentence below."""
        self.end()
        for start in range(0, len(panels), _PANELS_PER_PAGE):
            shown = panels[start : start + _PANELS_PER_PAGE]
            self.figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72))
            for index, panel in enumerate(shown):
                column, row = index % 2, index // 2
                left, top = 0.1 + 0.47 * column, 0.95 - 0.31 * row
                axes = self.figure.add_axes((left, top - 0.18, 0.38, 0.17))
                panel.draw(axes)
                axes.set_title(axes.get_title(loc="left"), fontsize=8.5, loc="left")
                caption = "\n".join(textwrap.wrap(panel.caption, 58)[:5])
                self.figure.text(left - 0.04, top - 0.215, caption, fontsize=6.5, va="top", color="#414b5c")
            self.end()


def report_pdf(evidence: Evidence) -> bytes:
    """The whole file."""
    out = io.BytesIO()
    run = evidence.run
    made = datetime.datetime.fromtimestamp(evidence.made_at, datetime.UTC)
    about = {"Title": f"Evidence report of run {run.id}", "Creator": "TTRL Studio", "CreationDate": made}
    with drawing(), warnings.catch_warnings(), PdfPages(out, metadata=about) as pages:
        # A letter that the font does not have is drawn as a box: the HTML has it.
        warnings.filterwarnings("ignore", message=".*Glyph.*missing from font", category=UserWarning)
        flow = _Flow(pages)
        _summary(flow, evidence)
        _results(flow, evidence)
        flow.panels([*evidence.gain_panels, *evidence.label_panels, *evidence.panels])
        _problems(flow, evidence)
        _origin(flow, evidence)
        flow.end()
    return out.getvalue()


def _summary(flow: _Flow, evidence: Evidence) -> None:
    flow.text(evidence.run.name, 18, bold=True)
    flow.text(f"Evidence report of run {evidence.run.id}, made by TTRL Studio. {state_words(evidence)}", 9)
    flow.space(8)
    for line in headline(evidence):
        flow.text(line, 10.5, bold=True)
    flow.heading("What was done")
    for line in done_words(evidence):
        flow.text(line)
        flow.space(3)


def _results(flow: _Flow, evidence: Evidence) -> None:
    flow.heading("What came of it")
    rows = facts.gain_rows(evidence)
    if not rows:
        flow.text("Unknown: nothing with reference answers was evaluated.")
    for row in rows:
        named = dict(zip(facts.GAIN_COLUMNS, row, strict=True))
        flow.text(f"{named.pop('Split')}: {named.pop('Verdict')}", 9.5, bold=True)
        for name, value in named.items():
            flow.text(f"{name}: {value}", 8.5, left=12)
        flow.space(3)
    flow.heading("Gain against luck and lot")
    flow.text(luck_words(evidence))
    flow.heading("Were the labels right")
    for line in label_words(evidence.run, evidence.labels):
        flow.text(line)
        flow.space(3)
    flow.heading("What this does not prove")
    for title, text in caveats(evidence):
        flow.text(title, 9, bold=True)
        flow.text(text, 8.5)
        flow.space(3)
    flow.heading("Alarms")
    alarms = facts.alarm_rows(evidence)
    if not alarms:
        flow.text("No safeguard fired.")
    for step, alarm, message, action in alarms:
        flow.text(f"Step {step}, {alarm} ({action}): {message}", 8.5)


def _problems(flow: _Flow, evidence: Evidence) -> None:
    flow.heading("Best and worst problems")
    flow.text(facts.movers_lead(evidence))
    movers = evidence.movers
    for found, best in ((movers.best, True), (movers.worst, False)) if movers else ():
        flow.space(6)
        flow.text(facts.movers_title(evidence, best), 10, bold=True)
        if not found:
            flow.text(f"No problem went {'up' if best else 'down'}.")
        for mover in found:
            named = dict(zip(facts.MOVER_COLUMNS, facts.mover_row(mover), strict=True))
            flow.text(f"{named['Problem']} ({named['Split']}): {named['Change']}", 8.5, bold=True)
            flow.text(named["Asked"], 8, left=12)
            answers = ", ".join(f"{name.lower()}: {named[name]}" for name in facts.MOVER_COLUMNS[-3:])
            flow.text(answers, 8, left=12)


def _origin(flow: _Flow, evidence: Evidence) -> None:
    flow.heading("What it was computed with")
    for name, value in facts.facts(evidence):
        flow.text(f"{name}: {value}", 8.5)
    flow.heading("Changed from the defaults")
    for name, value in facts.changed(evidence) or [("nothing", "")]:
        flow.text(f"{name} {value}", 8.5)
    flow.heading("The same run again")
    text, command = facts.reproduce(evidence)
    flow.text(text)
    flow.text(command, 8, mono=True, left=12)
    flow.heading("Complete config")
    flow.text(evidence.run.config.to_yaml(), 7, mono=True)
