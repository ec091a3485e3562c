"""The monitor's page in headless Chromium."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

from serving.monitor.__main__ import RETRAIN, main
from tests.browser import chromium, opened
from tests.serving.monitored import UNSURE, answers, write_log, write_version

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("redact", [False, True], ids=["inputs", "redacted"])
def test_the_page_is_read_on_a_screen_and_a_phone(tmp_path: Path, redact: bool) -> None:
    page = tmp_path / "page.html"
    write_version(tmp_path / "letters", 1)
    write_log(tmp_path / "log", 1, answers(1_200, UNSURE)[0], prefix="<script>", redact=redact)
    assert main([str(tmp_path / "log"), "--model", str(tmp_path / "letters"), "-o", str(page)]) == RETRAIN
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    text = page.read_text()
    assert "<script" not in text and not re.search(r'(src|href)="(?!data:|#)', text)
    assert text.count("<img") == (0 if redact else 30)
    assert ("The log has no inputs that can be drawn" in text) == redact
    assert text.count("<svg") == 3 and "2026-05-04" in text and "Retrain:" in text
    with chromium() as browser:
        for width, theme in ((1280, "light"), (390, "dark")):
            with opened(browser, page, width, theme) as seen:
                assert [url for url in seen.requests if not url.startswith("data:")] == [page.as_uri()]
                assert not seen.messages
                assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
                found = Axe().run(seen.page)
                assert found.violations_count == 0, found.generate_report()
