from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.e2e.studio import Studio, outward

expect.set_options(timeout=20_000)


@pytest.fixture(scope="session")
def browser_context_args(browser_context_args: dict[str, Any]) -> dict[str, Any]:
    return {**browser_context_args, "viewport": {"width": 1360, "height": 900}}


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """One Studio per file of tests: starting it takes seconds. Its network is closed, and none of it may ask for it."""
    with Studio(tmp_path_factory.mktemp("studio")) as running:
        yield running
    assert outward(running.data_dir) == []


@pytest.fixture
def context(context: BrowserContext) -> Iterator[BrowserContext]:
    """Every page of the tests; none may ask anything but the one server that it came from."""
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    yield context
    origins = {urlsplit(url).netloc for url in asked if not url.startswith(("data:", "blob:"))}
    assert len(origins) <= 1, origins
    assert all(origin.startswith("127.0.0.1:") for origin in origins), origins


@pytest.fixture
def sums_csv(tmp_path: Path) -> Path:
    """An upload with references: sums that the bundled model can read."""
    lines = [f"Compute {a} + {a + 7} - 5.,{2 * a + 2}" for a in range(11, 35)]
    file = tmp_path / "my sums.csv"
    file.write_text("\n".join(["question,answer", *lines]), encoding="utf-8")
    return file


@pytest.fixture
def upload(page: Page, studio: Studio) -> Any:
    """Uploads a file on the page and waits for the verdict."""

    def put(file: Path) -> Page:
        page.goto(f"{studio.url}/problem-sets")
        expect(page.locator("#set-list")).to_contain_text("All problem sets")
        page.locator("#set-file input[type=file]").set_input_files(file)
        page.locator("#upload-message .tt-note, #too-large .tt-note, #draft-report, #draft-preview .tt-note").locator(
            "visible=true"
        ).first.wait_for(timeout=60_000)
        return page

    return put
