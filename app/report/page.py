"""The report as one HTML file: inline style, inline SVG, no script, nothing fetched from anywhere."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from app.figures import Panel, panel_svg
from app.report import facts
from app.report.evidence import Evidence
from app.report.labels import label_words
from app.report.words import caveats, done_words, headline, luck_words, state_words

_STYLE = Path(__file__).with_name("style.css")
# Whatever a prompt or an answer holds, the file runs nothing and asks nobody for anything.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; base-uri 'none'"
_LOOKS = {"established": "established", "a loss is established": "loss"}


def report_html(evidence: Evidence) -> str:
    """The whole file. Everything a person or a model wrote is escaped."""
    run = evidence.run
    reproduce, command = facts.reproduce(evidence)
    parts = [
        f"<h1>{_text(run.name)}</h1>",
        f'<p class="quiet">Evidence report of run {run.id}, made by TTRL Studio. {_text(state_words(evidence))}</p>',
        f'<div class="result">{_paragraphs(headline(evidence))}</div>',
        _section("What was done", _paragraphs(done_words(evidence))),
        _section("What came of it", _gains(evidence)),
        _section("Gain against luck and lot", _gain_figures(evidence)),
        _section("Were the labels right", _labels(evidence)),
        _section("What this does not prove", _caveats(evidence)),
        _section("Curves", _figures(evidence.panels)),
        _section("Alarms", _alarms(evidence)),
        _section("Best and worst problems", _movers(evidence)),
        _section("What it was computed with", _list(facts.facts(evidence))),
        _section("Changed from the defaults", _list(facts.changed(evidence)) or "<p>Nothing.</p>"),
        _section(
            "The same run again",
            f"<p>{_text(reproduce)}</p><pre>{_text(command)}</pre><h3>Complete config</h3>"
            f"<pre>{_text(run.config.to_yaml())}</pre>",
        ),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'
        f"<title>{_text(run.name)}: evidence report</title>"
        f"<style>{_STYLE.read_text(encoding='utf-8')}</style></head><body><main>{''.join(parts)}</main></body></html>\n"
    )


def _gains(evidence: Evidence) -> str:
    rows = facts.gain_rows(evidence)
    if not rows:
        return "<p>Unknown: nothing with reference answers was evaluated.</p>"
    verdicts = facts.GAIN_COLUMNS.index("Verdict")
    cells = [
        [
            f'<td class="{_LOOKS.get(cell, "open")}">{_text(cell)}</td>' if i == verdicts else _cell(cell)
            for i, cell in enumerate(row)
        ]
        for row in rows
    ]
    caption = (
        "n problems × k answers to each; rates and gains in percent and points with 95 % intervals over the problems; "
        "“established” where the interval of the gain leaves out 0."
    )
    return _table(facts.GAIN_COLUMNS, cells, caption)


def _gain_figures(evidence: Evidence) -> str:
    return f"<p>{_text(luck_words(evidence))}</p>{_figures(evidence.gain_panels)}"


def _labels(evidence: Evidence) -> str:
    words = _paragraphs(label_words(evidence.run, evidence.labels))
    return words + _figures(evidence.label_panels)


def _caveats(evidence: Evidence) -> str:
    return "".join(f"<h3>{_text(title)}</h3><p>{_text(text)}</p>" for title, text in caveats(evidence))


def _alarms(evidence: Evidence) -> str:
    rows = facts.alarm_rows(evidence)
    if not rows:
        return "<p>No safeguard fired.</p>"
    return _table(facts.ALARM_COLUMNS, [[_cell(cell) for cell in row] for row in rows], "Safeguards that fired.")


def _movers(evidence: Evidence) -> str:
    parts = [f"<p>{_text(facts.movers_lead(evidence))}</p>"]
    movers = evidence.movers
    if movers is None:
        return parts[0]
    for found, best in ((movers.best, True), (movers.worst, False)):
        title = facts.movers_title(evidence, best)
        parts.append(f"<h3>{_text(title)}</h3>")
        if not found:
            parts.append(f"<p>No problem went {'up' if best else 'down'}.</p>")
            continue
        cells = [[_cell(cell, long=i == 2) for i, cell in enumerate(facts.mover_row(mover))] for mover in found]
        parts.append(_table(facts.MOVER_COLUMNS, cells, "Base and adapted majority answers as the model wrote them."))
    return "".join(parts)


def _figures(panels: Sequence[Panel]) -> str:
    return f'<div class="charts">{"".join(_figure(panel) for panel in panels)}</div>' if panels else ""


def _figure(panel: Panel) -> str:
    return f"<figure>{panel_svg(panel)}<figcaption>{_text(panel.caption)}</figcaption></figure>"


def _section(title: str, body: str) -> str:
    return f"<section><h2>{_text(title)}</h2>{body}</section>"


def _paragraphs(lines: Iterable[str]) -> str:
    return "".join(f"<p>{_text(line)}</p>" for line in lines)


def _list(pairs: Sequence[tuple[str, str]]) -> str:
    if not pairs:
        return ""
    return f"<dl>{''.join(f'<dt>{_text(name)}</dt><dd>{_text(value)}</dd>' for name, value in pairs)}</dl>"


def _table(columns: Sequence[str], cells: Sequence[Sequence[str]], caption: str) -> str:
    heads = "".join(f'<th scope="col">{_text(name)}</th>' for name in columns)
    rows = "".join(f"<tr>{''.join(row)}</tr>" for row in cells)
    # Wide tables scroll by themselves, also for those who use the keyboard.
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="{_text(caption)}"><table>'
        f"<caption>{_text(caption)}</caption><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _cell(text: str, *, long: bool = False) -> str:
    return f"<td{' class=long' if long else ''}>{_text(text)}</td>"


def _text(text: str) -> str:
    return html.escape(text, quote=True)
