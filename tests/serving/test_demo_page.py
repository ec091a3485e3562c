"""The demo's page in headless Chromium: drawing, watching, failing, by mouse, by keyboard, in two widths and themes."""

from __future__ import annotations

import base64
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from serving.client import Client
from serving.launch import ModelServer
from tests.browser import Opened, chromium
from tests.conftest import MNIST
from tests.serving.demos import Demo, demo, save_both_directions
from tests.serving.models import LABELS, save_digits
from tests.serving.rpc import Rpc, config_of, model_of

SEVEN = [[(0.3, 0.2), (0.7, 0.2), (0.45, 0.85)], [(0.35, 0.5), (0.68, 0.5)]]
"""The strokes of a seven, in parts of the drawing area."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def running(server: ModelServer) -> Iterator[Demo]:
    """The demo of a model with random weights."""
    with demo("--target", server.address) as running:
        yield running


@contextmanager
def opened(browser: Browser, url: str, width: int = 1280, **options: Any) -> Iterator[Opened]:
    """The page, with its test digits, as one without reduced motion sees it."""
    context = browser.new_context(viewport={"width": width, "height": 900}, **options)
    result = Opened(context.new_page())
    result.page.on("request", lambda request: result.requests.append(request.url))
    result.page.on("console", lambda message: result.messages.append(message.text))
    result.page.on("pageerror", lambda error: result.messages.append(str(error)))
    result.page.goto(url)
    expect(result.page.locator(".digit")).to_have_count(20)
    yield result
    assert all(address.startswith(url) for address in result.requests), result.requests
    # Chromium itself logs an answer with an error status, and that a test reads the canvas often.
    ours = [text for text in result.messages if not text.startswith(("Failed to load resource", "Canvas2D"))]
    assert not ours
    context.close()


def draw(page: Page, strokes: list[list[tuple[float, float]]]) -> None:
    """Draws with the mouse."""
    box = page.locator("#pad").bounding_box()
    assert box
    for stroke in strokes:
        for index, (x, y) in enumerate(stroke):
            page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=6 if index else 1)
            if index == 0:
                page.mouse.down()
        page.mouse.up()


def choose(page: Page, number: int) -> None:
    """Chooses a test digit and waits for what is said of it."""
    page.locator("#said").evaluate("element => { element.textContent = ''; }")
    page.locator(".digit").nth(number).click()
    expect(page.locator("#said")).to_contain_text("It says")


def shown(page: Page) -> np.ndarray:
    """The pixels of the picture that the page shows, uint8 [28, 28]."""
    code = """canvas => [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]
        .filter((_, index) => index % 4 === 0)"""
    return np.array(page.locator("#picture").evaluate(code), np.uint8).reshape(28, 28)


def bars(page: Page) -> np.ndarray:
    """The lengths that the bars tell to a screen reader, as probabilities."""
    meters = page.get_by_role("meter").all()
    return np.array([float(meter.get_attribute("aria-valuenow") or "nan") for meter in meters]) / 100


def drop(page: Page, name: str, kind: str, content: bytes) -> None:
    """Drops a file on the page."""
    code = """([name, kind, content]) => {
        const data = new DataTransfer();
        data.items.add(new File([Uint8Array.from(atob(content), (c) => c.charCodeAt(0))], name, {type: kind}));
        document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
    }"""
    page.evaluate(code, [name, kind, base64.b64encode(content).decode()])


def test_a_drawn_digit_is_read_row_by_row(browser: Browser, running: Demo, server: ModelServer) -> None:
    with opened(browser, running.url, reduced_motion="reduce") as result, Client(server.address) as client:
        page = result.page
        expect(page.locator("#served")).to_contain_text(f"Version 2 at {server.address}.")
        assert page.get_by_role("button", name="Read it").is_disabled() and page.get_by_role("slider").is_disabled()
        draw(page, SEVEN)
        expect(page.locator("#said")).to_contain_text("It says", timeout=10_000)  # by itself, after a pause
        pixels = shown(page)
        ink = np.nonzero(pixels)
        assert np.ptp(ink[0]) == 19 and np.ptp(ink[1]) < 19 and pixels.max() == 255
        expected, prediction = client.predict_rows(pixels[None])[0], client.predict(pixels[None])
        slider = page.get_by_role("slider", name="Rows that are read")
        slider.focus()
        for key, row in (("", 28), ("ArrowLeft", 27), ("ArrowLeft", 26), ("Home", 1), ("ArrowRight", 2), ("End", 28)):
            if key:
                page.keyboard.press(key)
            assert bars(page) == pytest.approx(expected[row - 1], abs=1e-5) and bars(page).sum() == pytest.approx(
                1, abs=1e-4
            )
            label = LABELS[expected[row - 1].argmax()]
            assert (slider.get_attribute("aria-valuetext") or "").startswith(f"after row {row} of 28: {label}, ")
            line = page.locator("#line").evaluate("line => parseFloat(line.style.top)")
            assert line == pytest.approx(row / 28 * 100, abs=1e-3)
        label = LABELS[prediction.class_ids[0]]
        assert page.locator("#saying strong").inner_text() == label and label in page.locator("#said").inner_text()
        assert re.fullmatch(r"Version 2 answered in [\d.]+ ms\.", page.locator("#facts").inner_text())
        leaders, inked = expected.argmax(axis=1), int(ink[0].min()) + 1  # before that there is nothing to read
        turns = [row + 1 for row in range(inked, 28) if leaders[row] != leaders[row - 1]]
        assert inked > 1 and turns
        times = "once" if len(turns) == 1 else f"{len(turns)} times"
        assert page.locator("#changed").inner_text() == f"It changed its mind {times}."
        assert page.locator("#strip .turn").count() == len(turns) + 1 == page.locator("#changes button").count() + 1
        page.locator("#changes button").first.click()
        assert page.locator("#when").inner_text() == f"After row {turns[0]} of 28"
        page.get_by_role("button", name="Undo").click()
        page.get_by_role("button", name="Read it").click()
        expect(page.locator("#when")).to_have_text("The answer")
        assert not np.array_equal(shown(page), pixels)
        page.get_by_role("button", name="Clear").click()
        assert page.get_by_role("button", name="Read it").is_disabled()
        assert not page.locator("#result").is_visible() and not page.locator("#turns").is_visible()
        assert page.get_by_role("slider").is_disabled() and not shown(page).any()
        assert page.locator("#source").inner_text() == "Nothing yet."


def test_a_drawing_is_read_where_it_is_seen_on_a_phone(browser: Browser, running: Demo) -> None:
    with opened(browser, running.url, 400, has_touch=True, is_mobile=True) as result:
        page = result.page
        draw(page, SEVEN)
        expect(page.get_by_role("button", name="Pause")).to_be_in_viewport(timeout=10_000)
        for part in ("#picture", "#saying"):
            expect(page.locator(part)).to_be_in_viewport(ratio=1)
        assert not page.locator("#keys").is_visible()  # a phone has no arrow keys
        assert "these 10 classes and nothing else" in page.locator("#classes").inner_text()
        page.get_by_role("button", name="Clear").click()  # in mid play
        expect(page.get_by_role("button", name="Play")).to_be_disabled()
        rows = [page.get_by_role("slider").input_value()]
        page.wait_for_timeout(400)
        assert not page.locator("#result").is_visible() and rows == [page.get_by_role("slider").input_value()]


@pytest.mark.parametrize("width", [1280, 400])
def test_marks_of_near_changes_do_not_collide(browser: Browser, running: Demo, width: int) -> None:
    code = """async () => {
        const {Reader} = await import("/page/reader.js");
        const rows = [...Array(28).keys()].map((row) => [0, 1, 2].map((one) => (one === row % 3 ? 0.8 : 0.1)));
        const reading = {labels: ["4", "a long name", "9"], by_row: rows, probabilities: rows[27], size: [28, 28],
            pixels: btoa("\\xff".repeat(784))};
        new Reader().show(reading, null);
        await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
        const strip = document.getElementById("strip").getBoundingClientRect();
        const boxes = [...document.querySelectorAll("#strip b:not([hidden])")].map((b) => b.getBoundingClientRect());
        return [strip, ...boxes].map(({left, top, right, bottom}) => [left, top, right, bottom]);
    }"""
    with opened(browser, running.url, width, reduced_motion="reduce") as result:
        strip, *boxes = np.array(result.page.evaluate(code))
        assert len(boxes) >= 14
        for index, box in enumerate(boxes):
            assert (box[:2] >= strip[:2]).all() and (box[2:] <= strip[2:] + 0.1).all(), box
            for other in boxes[:index]:
                assert max(box[0] - other[2], other[0] - box[2], box[1] - other[3], other[1] - box[3]) >= 0, (
                    box,
                    other,
                )


def test_it_plays_pauses_and_steps(browser: Browser, running: Demo) -> None:
    with opened(browser, running.url) as result:
        page = result.page
        page.locator(".digit").nth(3).focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Pause")).to_be_visible()
        code = """() => new Promise((resolve) => {
            const watch = setInterval(() => {
                const [row, play, turns] = ["row", "play", "turns"].map((id) => document.getElementById(id));
                if (Number(row.value) < 3) return;
                clearInterval(watch);
                const found = [row.value, play.textContent, getComputedStyle(turns).visibility];
                play.click();
                resolve(found);
            }, 20);
        })"""
        row, label, later = page.evaluate(code)
        assert int(row) < 28 and (label, later) == ("Pause", "hidden")  # what comes later is not shown yet
        page.wait_for_timeout(400)
        assert page.get_by_role("slider").input_value() == row
        page.get_by_role("button", name="One row on").click()
        page.keyboard.press("ArrowRight")
        assert page.get_by_role("slider").input_value() == str(int(row) + 2)
        page.get_by_role("slider").focus()
        page.keyboard.press("Space")
        expect(page.locator("#when")).to_have_text("The answer", timeout=10_000)
        assert page.get_by_role("button", name="Play").is_visible() and page.locator("#turns").is_visible()


def test_why_wrong(browser: Browser, running: Demo) -> None:
    beliefs = {
        "lost": ([[0.6, 0.4, 0], [0.3, 0.4, 0.3], [0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7]], 0),
        "never": ([[0.6, 0.4, 0], [0.6, 0.1, 0.3], [0.8, 0.1, 0.1]], 2),
        "right": ([[0.6, 0.4, 0], [0.1, 0.9, 0]], 1),
        "last": ([[0.6, 0.4, 0], [0.4, 0.6, 0]], 0),
    }
    with opened(browser, running.url, reduced_motion="reduce") as result:
        page = result.page
        code = """async ([rows, truth]) => {
            const story = await import("/page/story.js");
            const why = story.whyWrong(rows, ["a", "b", "c"], truth);
            const turns = story.changes(rows).map((one) => one.row);
            return why ? [why.text.replaceAll("\\u00a0", " "), why.row, turns] : [null, null, turns];
        }"""
        told = {name: page.evaluate(code, list(case)) for name, case in beliefs.items()}
        was = "The true class a was the likeliest"
        assert told == {
            "lost": [f"{was} until row 3; then it was lost to b, and in the end to c.", 3, [2, 3, 4, 5]],
            "never": ["The true class c was never the likeliest. It came closest after row 2, with 30 %.", 2, []],
            "right": [None, None, [2]],
            "last": [f"{was} until row 1; then it was lost to b.", 1, [2]],
        }
        ink = """([rows, truth, first]) => import("/page/story.js").then(({whyWrong, changes}) =>
            [whyWrong(rows, ["a", "b", "c"], truth, first).row, changes(rows, first).map((one) => one.row)])"""
        rows = [[0.9, 0.1, 0], [0.2, 0.8, 0], [0.3, 0.7, 0], [0.1, 0.2, 0.7]]
        assert page.evaluate(ink, [rows, 0, 2]) == [3, [4]]  # what it believed before the ink does not count
        assert page.evaluate(ink, [rows, 0, 1]) == [1, [2, 4]]
        percents = page.evaluate(
            "import('/page/story.js').then((s) => [1, 0.9999, 0.5, 0.0001, 0].map((p) => s.percent(p)))"
        )
        assert [text.replace("\u00a0", " ") for text in percents] == ["100 %", "> 99 %", "50 %", "< 1 %", "0 %"]
        wrong = [index for index, button in enumerate(page.locator(".digit").all()) if "→" in button.inner_text()]
        choose(page, wrong[0])
        truth = LABELS[wrong[0] % 10]
        assert page.get_by_role("meter", name=f"{truth}, the true class").count() == 1
        assert page.locator(".badge").inner_text() == "true class"
        widths = {round(meter.bounding_box()["width"]) for meter in page.get_by_role("meter").all()}  # type: ignore[index]
        choose(page, next(index for index in range(20) if index not in wrong))
        draw(page, SEVEN)
        expect(page.locator("#source")).to_contain_text("your drawing")
        widths |= {round(meter.bounding_box()["width"]) for meter in page.get_by_role("meter").all()}  # type: ignore[index]
        assert len(widths) == 1  # no bar shrinks when another has a badge
        choose(page, wrong[0])
        why = page.locator("#why")
        assert why.is_visible() and f"The true class {truth} was" in why.inner_text()
        why.get_by_role("button").click()
        row = re.findall(r"row (\d+)", why.locator("p").inner_text())[0]
        assert page.get_by_role("slider").input_value() == row and page.locator("#lost").is_visible()
        draw(page, SEVEN)
        expect(page.locator("#source")).to_contain_text("your drawing")
        assert not page.locator("#why").is_visible() and not page.locator("#lost").is_visible()


def test_files_are_dropped_pasted_and_opened(browser: Browser, running: Demo, server: ModelServer) -> None:
    seven = (MNIST / "seven.png").read_bytes()
    with opened(browser, running.url, reduced_motion="reduce") as result:
        page = result.page
        message = page.get_by_role("alert")
        drop(page, "<img src=x onerror=alert(1)>.png", "image/png", seven)
        expect(page.locator("#source")).to_contain_text("from <img src=x onerror=alert(1)>.png.")
        for name, kind, content, words in (
            ("notes.txt", "text/plain", b"no picture", "The picture is not a picture"),
            ("half.png", "image/png", seven[:150], "The picture cannot be read"),
            ("large.png", "image/png", b"\0" * (4 * 2**20 + 1), "large.png is larger than 4 MB"),
        ):
            drop(page, name, kind, content)
            expect(message).to_contain_text(words)
        page.set_input_files("#file", MNIST / "seven.png")
        expect(message).to_be_hidden()
        expect(page.locator("#source")).to_contain_text("from seven.png.")
        page.evaluate("document.body.append(Object.assign(document.createElement('i'), {id: 'mark'}))")
        code = """content => {
            const data = new DataTransfer();
            data.items.add(new File([Uint8Array.from(atob(content), (c) => c.charCodeAt(0))], "", {type: "image/png"}));
            document.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data}));
        }"""
        page.evaluate(code, base64.b64encode(seven).decode())
        expect(page.locator("#source")).to_contain_text("from the pasted image.")
        assert page.locator("#mark").count() == 1  # no file has led the page away


def test_a_model_of_both_directions_gives_its_answer_alone(
    browser: Browser, rpc: Rpc, changing_server: ModelServer, tmp_path: Path
) -> None:
    save_both_directions(tmp_path / "1", 28, 28)
    rpc.reload(config_of(model_of("both", tmp_path)))
    with (
        demo("--target", changing_server.address, "--model", "both") as running,
        opened(browser, running.url) as result,
    ):
        page = result.page
        choose(page, 1)
        assert "This model reads in both directions" in page.locator("#changed").inner_text()
        assert page.locator("#when").inner_text() == "The answer" and bars(page).sum() == pytest.approx(1, abs=1e-4)
        assert page.get_by_role("slider").is_disabled() and page.get_by_role("button", name="Play").is_disabled()
        choose(page, 17)  # a seven; this model has three classes
        assert page.locator(".badge").count() == 0


def test_the_stand_in_ends_in_mid_session(browser: Browser, tmp_path: Path) -> None:
    save_digits(tmp_path / "serving_models" / "mnist" / "1795910426", seed=1)
    with demo("--run-root", tmp_path) as running:
        children = [file.read_text() for file in Path(f"/proc/{running.process.pid}/task").glob("*/children")]
        (stand_in,) = map(int, " ".join(children).split())
        with opened(browser, running.url, reduced_motion="reduce", timezone_id="UTC") as result:
            page = result.page
            choose(page, 2)
            for place in ("#served", "#facts"):
                expect(page.locator(place)).to_contain_text("Version 1795910426 (29 Nov 2026, 00:00) a")
            os.kill(stand_in, signal.SIGKILL)
            page.locator(".digit").nth(4).click()
            alert = page.get_by_role("alert")
            expect(alert).to_contain_text("The model server does not answer.", timeout=15_000)
            assert not re.search("UNAVAILABLE|ipv[46]|TLS|backends", alert.inner_text()), alert.inner_text()
            page.get_by_role("slider").focus()
            page.keyboard.press("Home")
            assert page.locator("#when").inner_text() == "After row 1 of 28"  # the page is alive
        assert running.end(signal.SIGINT) == (130, "")


def test_the_demo_itself_ends_in_mid_session(browser: Browser, server: ModelServer) -> None:
    with demo("--target", server.address) as running, opened(browser, running.url) as result:
        running.end(signal.SIGTERM)
        result.page.locator(".digit").nth(4).click()
        expect(result.page.get_by_role("alert")).to_contain_text("The demo itself does not answer.")


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (400, "dark")])
def test_everyone_can_use_it(browser: Browser, running: Demo, width: int, theme: Any, tmp_path: Path) -> None:
    with opened(browser, running.url, width, color_scheme=theme, reduced_motion="reduce") as result:
        page = result.page
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == ("rgb(255, 255, 255)" if theme == "light" else "rgb(20, 23, 28)")
        check(page, width)
        choose(page, 14)
        page.wait_for_function("document.getElementById('sees').getBoundingClientRect().top < innerHeight / 2")
        assert page.get_by_role("slider").input_value() == "28"  # reduced motion: nothing plays
        drop(page, "notes.txt", "text/plain", b"no picture")
        expect(page.get_by_role("alert")).to_contain_text("The picture is not a picture")
        check(page, width)
        small = """[...document.querySelectorAll("button, input")].map((e) => e.getBoundingClientRect())
            .filter((box) => box.width && (box.width < 24 || box.height < 24)).length"""
        assert page.evaluate(small) == 0
        reached = []
        page.locator("h1").click()  # the focus goes on from here
        for _ in range(80):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
        order = [name for name in dict.fromkeys(reached) if name in {"file", "digit", "play", "back", "row", "forward"}]
        assert order == ["file", "digit", "play", "back", "row", "forward"], reached
        assert len(page.screenshot(path=tmp_path / "page.png", full_page=True)) > 20_000


def check(page: Page, width: int) -> None:
    """Fails if axe finds anything, or if the page is wider than the window."""
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") == width
