"""Opens a page from disk in headless Chromium, as Debian packages it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright


@dataclass
class Opened:
    """An open page, every address that it asked for, and everything that the console or an error said."""

    page: Page
    requests: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; the test is skipped where there is none."""
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, file: Path, width: int, theme: str) -> Iterator[Opened]:
    """The page in `file`, `width` pixels wide, in the theme light or dark."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)  # type: ignore[arg-type]
    result = Opened(context.new_page())
    result.page.on("request", lambda request: result.requests.append(request.url))
    result.page.on("console", lambda message: result.messages.append(message.text))
    result.page.on("pageerror", lambda error: result.messages.append(str(error)))
    result.page.goto(file.as_uri())
    yield result
    context.close()
