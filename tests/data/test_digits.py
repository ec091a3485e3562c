"""From a drawing or a photograph to what MNIST looks like."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.pictures import Reading, load, read
from data.readers import Images
from tests.benchmarks.conditions import CONDITIONS, large, light, print_on, ruled, save

SIZE = (28, 28)
GENERATOR = np.random.default_rng(2)


def blob(seed: int, height: int, width: int) -> np.ndarray:
    """Light ink on black: a smooth random shape, well within the picture."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    ink = np.zeros((height, width))
    for _ in range(5):
        at = generator.uniform(0.3, 0.7, 2) * (height, width)
        ink = np.maximum(ink, 400 * np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / (2 * (height / 18) ** 2)))
    return np.clip(ink, 0, 255).astype(np.uint8)


def normalize(levels: np.ndarray, size: tuple[int, int] = SIZE) -> np.ndarray:
    return read(levels.astype(np.float32), Reading(size, "digit"))[0]


@pytest.mark.parametrize("size", [(28, 28), (32, 32), (20, 40)], ids=str)
@pytest.mark.parametrize("picture", [(300, 300), (480, 200), (200, 300)], ids=str)
def test_the_ink_fills_the_box_and_its_centre_is_in_the_middle(picture: tuple[int, int], size: tuple[int, int]) -> None:
    for seed in range(4):
        light = blob(seed, *picture)
        found = normalize(light, size).astype(int)
        assert np.abs(found - normalize(255 - light, size)).mean() < 1  # dark on light is the same picture
        ink = np.nonzero(found)
        extent = [int(np.ptp(axis)) + 1 for axis in ink]
        assert all(length <= round(side * 20 / 28) for length, side in zip(extent, size, strict=True))
        assert any(abs(length - side * 20 / 28) <= 1.5 for length, side in zip(extent, size, strict=True))
        centre = [(found * axis).sum() / found.sum() for axis in np.mgrid[: size[0], : size[1]]]
        assert np.abs(np.subtract(centre, np.array(size) / 2)).max() <= 0.51


def test_a_digit_of_mnist_comes_out_as_it_went_in(digits: dict[str, Images]) -> None:
    for pixels in digits["test"].pixels:
        assert np.array_equal(normalize(pixels), pixels)
        assert np.array_equal(normalize(255 - pixels), pixels)


def test_a_digit_drawn_large_is_close_to_itself(digits: dict[str, Images]) -> None:
    differences = []
    for pixels in digits["test"].pixels[:60]:
        large = Image.fromarray(255 - pixels).resize((280, 280), Image.Resampling.BICUBIC)
        paper = Image.new("L", (500, 400), 255)
        paper.paste(large, (180, 30))
        found = normalize(np.asarray(paper))
        differences.append(np.abs(found.astype(int) - pixels).mean())
    assert np.mean(differences) < 9 and max(differences) < 25  # of 255 levels; the mean of a digit is 33


def test_grain_and_grey_paper_do_not_count_as_ink(digits: dict[str, Images]) -> None:
    generator, differences = np.random.default_rng(1), []
    for pixels in digits["test"].pixels[:40]:
        large = np.asarray(Image.fromarray(pixels).resize((280, 280), Image.Resampling.BICUBIC), np.float64)
        clean = normalize(large.astype(np.uint8))
        photograph = 190 - np.pad(large, 60) / 255 * 120 + generator.normal(0, 2.5, (400, 400))
        found = normalize(np.clip(photograph, 0, 255).astype(np.uint8))
        differences.append(np.abs(found.astype(int) - clean).mean())
    assert np.mean(differences) < 6 and max(differences) < 25  # most of it where the place differs by one pixel


BLANKS = {
    "black": np.zeros(SIZE),
    "white": np.full((300, 200), 255),
    "a pixel": np.full((1, 1), 9),
    "grain": GENERATOR.normal(128, 4, (200, 200)),
    "much grain": GENERATOR.normal(200, 20, (400, 400)),
    "uneven light": light(400, 400, GENERATOR),
    "ruled": ruled(400, 400, 40, False, GENERATOR),
    "squared": ruled(400, 400, 25, True, GENERATOR),
    "a gradient": np.tile(np.linspace(0, 255, 300), (200, 1)),
}


@pytest.mark.parametrize("name", BLANKS)
def test_a_picture_without_ink_has_a_note(name: str) -> None:
    pixels, note = read(np.rint(BLANKS[name]).astype(np.float32), Reading(SIZE, "digit"))
    assert note.startswith("blank") and not pixels.any()


def test_more_than_one_character_has_a_note(digits: dict[str, Images]) -> None:
    one, other = (large(pixels, 8) for pixels in digits["test"].pixels[:2])
    for page in (np.hstack([one, other]), np.vstack([one, other]), np.hstack([one, other, one])):
        for levels in (print_on(page), 255 * page):
            assert read(levels.astype(np.float32), Reading(SIZE, "digit"))[1] == "more than one character"


@pytest.mark.parametrize("condition", [name for name in CONDITIONS if "grain" not in name])
def test_a_digit_as_people_have_it_is_the_digit(condition: str, digits: dict[str, Images], tmp_path: Path) -> None:
    """The benchmark `pictures` says what a model reads; here no picture may be far from its digit."""
    likeness = []
    for index in (0, 1, 3, 4):
        pixels = digits["test"].pixels[index]
        path = save(condition, pixels, np.random.default_rng(index), tmp_path / str(index))
        found, note = read(load(path), Reading(SIZE, "digit"))
        assert note == ""
        moved = (np.roll(found, (down, right), (0, 1)) for down in (-1, 0, 1) for right in (-1, 0, 1))
        likeness.append(max(np.corrcoef(image.ravel(), pixels.ravel())[0, 1] for image in moved))
    assert min(likeness) > (0.4 if "stroke" in condition else 0.85)


def test_the_smallest_pictures_are_pictures() -> None:
    dot = np.zeros((3, 3), np.uint8)
    dot[1, 1] = 255
    assert normalize(dot).sum() > 0 and normalize(dot, (1, 1)).shape == (1, 1)
    line = np.zeros((400, 400), np.uint8)
    line[5:395, 200] = 255  # thinner than a pixel of the result
    assert normalize(line).max() == 255 and (normalize(line).any(axis=1)).sum() == 20
