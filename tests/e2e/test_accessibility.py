"""Every page, by everybody: no serious fault of accessibility, every control by keyboard, nothing wider than a phone.

Each view is looked at in light colours on a wide screen and in dark ones 390 px wide. It is at rest, so a walk with Tab
from the top must meet every control, in the order of the document, and each must show that it has the focus.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.app.conftest import Studio, serving
from tests.app.scripted import furnish
from worker.store import open_store

pytestmark = pytest.mark.e2e

# address -> the views on it: the tab that is opened, if any, and what is there once the view is drawn
VIEWS: dict[str, list[tuple[str, str]]] = {
    "/": [("", ".tt-page-head h1")],
    "/new?clone={finished}": [("", "#run-summary .tt-card, #run-summary .tt-kv, #run-summary dl")],
    "/queue": [("", "#queue table")],
    "/runs?ids={finished},{weak}": [("", "#runs-overlay .tt-key")],
    "/compare": [("", ".tt-page-head h1")],
    "/compare?run={finished}": [("", "#scores table")],
    "/problem-sets": [("", "#set-list table")],
    "/problem-sets?id={set}": [("", "#problem-count :text('Problems 1')")],
    "/settings": [("", ".tt-page-head h1")],
    "/run?id=9999": [("", ".tt-page-head h1")],
    "/run?id={failed}": [("", "#run-charts svg path")],
    "/run?id={unlabelled}&tab=spot": [("", "#spot-head button"), ("Charts", "#run-charts svg path")],
    "/run?id={finished}&problem=p003": [("", "#run-answers table")],
    "/run?id={finished}": [
        ("", "#run-charts svg path"),
        ("Gain", "#run-gain table"),
        ("Problems", "#run-map svg path"),
        ("Label changes", "#run-flips table"),
        ("Log", "#run-log pre"),
        ("Config", "#run-config table, #run-config dl, #run-config pre"),
        ("History", "[role=tabpanel] table:visible"),
        ("Files", "a[href$='report.html']:visible"),
        ("Share", "[role=tabpanel] button:visible"),
    ],
}

# Every stop that Tab should make, in the order of the document, and how each looks without the focus. From then on each
# element that gets the focus is noted, with whether it looks different.
WATCH = """(within) => {
  const root = document.querySelector(within);
  const still = document.createElement('style');
  still.textContent = '*, *::before, *::after { transition: none !important; animation: none !important; }';
  document.head.append(still);
  const look = (element) => {
    const parts = [];
    for (let e = element, level = 0; e && level < 4; e = e.parentElement, level += 1) {
      for (const pseudo of [null, '::before', '::after']) {
        const s = getComputedStyle(e, pseudo);
        parts.push(s.outlineStyle + s.outlineWidth + s.outlineColor, s.boxShadow, s.borderColor, s.backgroundColor);
      }
    }
    return parts.join('|');
  };
  const words = (e) => (e.tagName + (e.id ? '#' + e.id : '') + ' ' +
    (e.getAttribute('aria-label') || e.innerText || e.name || e.className || '')).replace(/\\s+/g, ' ').slice(0, 80);
  const native = 'a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex], [contenteditable]';
  const shown = [...root.querySelectorAll(native)].filter((e) =>
    !e.disabled && !e.closest('[inert]') && e.checkVisibility({ visibilityProperty: true }));
  const firsts = new Map();
  for (const e of shown) if (e.type === 'radio' && (e.checked || !firsts.has(e.name))) firsts.set(e.name, e);
  const stops = shown.filter((e) => e.tabIndex >= 0 && (e.type !== 'radio' || firsts.get(e.name) === e));
  const before = new Map(stops.map((e) => [e, look(e)]));
  window.watching?.abort();
  window.watching = new AbortController();
  window.walked = { stops: stops.map(words), met: [], unseen: [], missed: shown.filter((e) => e.tabIndex < 0 &&
    !e.closest('[aria-hidden=true]') && e.matches('a, button, input, select, textarea')).map(words) };
  document.addEventListener('focusin', (event) => {
    const place = stops.indexOf(event.target);
    if (place < 0) return;
    window.walked.met.push(place);
    if (look(event.target) === before.get(event.target)) window.walked.unseen.push(words(event.target));
  }, { signal: window.watching.signal });
  root.tabIndex = -1;
  root.focus();
  root.removeAttribute('tabindex');
  return stops.length;
}"""
# The browser itself stops at the body and at what scrolls.
MOST_EXTRA = 5
# From the last control of a dialog, Tab goes to the browser itself, hence to no element of the page.
WITHIN = "(dialog) => dialog.contains(document.activeElement) || document.activeElement === document.body"
FITS = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """Runs of every kind, at rest: nothing draws a page anew while it is walked over."""
    folder = tmp_path_factory.mktemp("accessible")
    store = open_store(folder)
    runs = furnish(store)
    with serving(folder) as url:
        yield Studio(url, store, runs)


def opened(page: Page, furnished: Studio, address: str) -> None:
    """The page is there."""
    run = furnished.store.run(furnished.runs["finished"])
    assert run is not None
    page.goto(furnished.url + address.format(**furnished.runs, set=run.set_id))
    expect(page.locator("main h1").first).to_be_visible()


def faults(page: Page, within: str = "body") -> list[tuple[str, str]]:
    """What axe finds serious or critical."""
    found = Axe().run(page, context=within, options={"resultTypes": ["violations"]}).response["violations"]
    return [(each["id"], each["nodes"][0]["html"][:300]) for each in found if each["impact"] in ("serious", "critical")]


def walk(page: Page, within: str) -> dict[str, list[Any]]:
    """Tab from the top to the last control."""
    for _ in range(page.evaluate(WATCH, within)):
        page.keyboard.press("Tab")
    for _ in range(MOST_EXTRA):
        if page.evaluate("window.walked.met.at(-1) === window.walked.stops.length - 1"):
            break
        page.keyboard.press("Tab")
    walked: dict[str, list[Any]] = page.evaluate("window.walked")
    return walked


@pytest.mark.parametrize("address", VIEWS)
def test_a_page_is_for_everybody(page: Page, furnished: Studio, address: str):
    opened(page, furnished, address)
    for tab, drawn in VIEWS[address]:
        # Around the tabs it is the same page as before.
        within = "#run-tabs" if tab else "body"
        page.set_viewport_size({"width": 1360, "height": 900})
        page.emulate_media(color_scheme="light")
        if tab:
            page.get_by_role("tab", name=tab, exact=True).click()
        page.locator(drawn).first.wait_for()
        walked = walk(page, within)
        assert [walked["stops"][place] for place in walked["met"]] == walked["stops"], f"{tab}: not met by Tab in order"
        assert walked["unseen"] == [], f"{tab}: a control does not show that it has the focus"
        assert walked["missed"] == [], f"{tab}: a control cannot be reached with Tab"
        assert faults(page, within) == [], tab
        page.emulate_media(color_scheme="dark")
        page.set_viewport_size({"width": 390, "height": 844})
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        assert page.evaluate(FITS), f"{tab}: the page is wider than a phone"
        assert faults(page, within) == [], f"{tab}, on a dark phone"


def test_what_enter_opens_escape_closes_and_the_focus_comes_back(page: Page, furnished: Studio):
    page.goto(f"{furnished.url}/run?id={furnished.runs['queued']}")
    cancel = page.locator("#run-head").get_by_role("button", name="Cancel")
    dialog = page.get_by_role("dialog")
    cancel.focus()
    page.keyboard.press("Enter")
    expect(dialog).to_be_visible()
    for _ in range(4):
        page.keyboard.press("Tab")
        assert dialog.evaluate(WITHIN), "Tab leaves a dialog that is open"
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(cancel).to_be_focused()
    assert furnished.store.run(furnished.runs["queued"]).state == "queued"  # type: ignore[union-attr]


def test_a_phone_reaches_every_page_through_the_menu(page: Page, furnished: Studio):
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(furnished.url)
    menu, pages = page.get_by_role("button", name="Menu"), page.get_by_role("navigation").get_by_role("link")
    menu.focus()
    page.keyboard.press("Enter")
    expect(pages).to_have_count(7)
    page.keyboard.press("Escape")
    expect(pages).to_have_count(0)
    expect(menu).to_be_focused()
    page.keyboard.press("Enter")
    pages.filter(has_text="Queue").press("Enter")
    page.wait_for_url("**/queue")
