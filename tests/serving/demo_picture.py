"""Makes serving/demo/demo.png, the picture of the demo, from a served model.

python -m tests.serving.demo_picture [RUN_ROOT]    default: runs, with a pushed model
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import expect

from tests.browser import chromium
from tests.conftest import ROOT
from tests.serving.demos import demo

FILE = ROOT / "serving" / "demo" / "demo.png"
DIGIT, ROW = 17, 17  # a seven that is taken for a two, after the row at which it is lost


def main(run_root: Path) -> None:
    with demo("--run-root", run_root.resolve()) as running, chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 1000}, reduced_motion="reduce")
        page.goto(running.url)
        page.locator(".digit").nth(DIGIT).click()
        expect(page.locator("#said")).to_contain_text("It says")
        page.get_by_role("slider").fill(str(ROW))
        page.screenshot(path=FILE, full_page=True)
    with Image.open(FILE) as picture:  # few colours: a palette loses nothing that is seen
        picture.convert("RGB").quantize(128).save(FILE, optimize=True)
    print(f"{FILE}: {FILE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "runs")
