"""One digit of MNIST as the pictures that people have: on a page, photographed, scanned, turned, transparent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

INK, PAPER = 45, 235


def large(digit: np.ndarray, factor: float) -> np.ndarray:
    """The digit enlarged, float [28 × factor, 28 × factor] in 0..1; 1 is ink."""
    side = round(28 * factor)
    scaled = np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC), np.float64) / 255
    return np.clip((scaled - 0.5) * min(factor, 4) / 2 + 0.5, 0, 1) if factor > 2 else scaled  # a pen has sharp edges


def place(ink: np.ndarray, height: int, width: int, top: int, left: int) -> np.ndarray:
    """The ink on an empty page, [height, width] in 0..1."""
    page = np.zeros((height, width))
    page[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return page


def print_on(page: np.ndarray, paper: np.ndarray | float = PAPER, ink: float = INK) -> np.ndarray:
    return paper * (1 - page) + ink * page


def crop(page: np.ndarray, level: float = 0.3) -> np.ndarray:
    rows, columns = np.nonzero((page > level).any(axis=1))[0], np.nonzero((page > level).any(axis=0))[0]
    return page[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def light(height: int, width: int, random: np.random.Generator) -> np.ndarray:
    """Paper in uneven light: a gradient from one side and a darker corner, 100 to 240."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    angle = random.uniform(0, 2 * np.pi)
    slope = np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5)
    corner = (x - random.integers(2)) ** 2 + (y - random.integers(2)) ** 2
    return 175 + 70 * slope - 15 * corner


def to_bytes(levels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.rint(np.clip(levels, 0, 255)).astype(np.uint8))


def on_page(digit: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return place(large(digit, 10), 400, 400, *random.integers(20, 100, 2))


def thinned(digit: np.ndarray, width: int) -> np.ndarray:
    """The middle of the strokes, drawn `width` pixels wide on 1,000 × 1,000."""
    ink = Image.fromarray((large(digit, 25) > 0.5).astype(np.uint8) * 255)
    skeleton = _skeleton(np.asarray(ink.resize((175, 175), Image.Resampling.BOX)) > 127)
    points = np.argwhere(skeleton) * 4 + 2
    page = np.zeros((1000, 1000), np.uint8)
    page[points[:, 0] + 150, points[:, 1] + 150] = 255
    joined = Image.fromarray(page).filter(ImageFilter.MaxFilter(7)).filter(ImageFilter.GaussianBlur(2))
    line = np.asarray(joined) > 110
    for _ in range(3 - width // 2 if width < 6 else 0):
        smaller = np.asarray(Image.fromarray(line.astype(np.uint8) * 255).filter(ImageFilter.MinFilter(3))) > 127
        line = smaller if smaller.sum() > 300 else line
    return line.astype(np.float64)


def _skeleton(mask: np.ndarray) -> np.ndarray:
    """Zhang and Suen, 1984: a fast parallel algorithm for thinning digital patterns."""
    mask = np.pad(mask, 1).astype(np.uint8)
    while True:
        changed = False
        for step in (0, 1):
            p = [
                np.roll(mask, shift, (0, 1))
                for shift in ((1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1))
            ]
            count = sum(p)
            turns = sum((p[i] == 0) & (p[(i + 1) % 8] == 1) for i in range(8))
            n, e, s, w = p[0], p[2], p[4], p[6]
            pair = (n * e * s == 0) & (e * s * w == 0) if step == 0 else (n * e * w == 0) & (n * s * w == 0)
            gone = (mask == 1) & (count >= 2) & (count <= 6) & (turns == 1) & pair
            changed |= bool(gone.any())
            mask[gone] = 0
        if not changed:
            return mask[1:-1, 1:-1] == 1


def ruled(height: int, width: int, every: int, both: bool, random: np.random.Generator) -> np.ndarray:
    paper = np.full((height, width), float(PAPER))
    paper[random.integers(every) :: every] = 165
    paper[1 + random.integers(every) :: every] = 165
    if both:
        paper[:, random.integers(every) :: every] = 165
    return paper


def grain(levels: np.ndarray, random: np.random.Generator, sigma: float = 12) -> np.ndarray:
    return levels + random.normal(0, sigma, levels.shape)


def _turned(digit: np.ndarray, path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = to_bytes(print_on(place(large(digit, 10), 400, 300, 60, 10)))
    picture.transpose(Image.Transpose.ROTATE_90).save(path.with_suffix(".jpg"), exif=exif, quality=90)


def _transparent(digit: np.ndarray, ink: int) -> Image.Image:
    page = place(large(digit, 10), 400, 400, 60, 60)
    return Image.merge("LA", (Image.new("L", (400, 400), ink), to_bytes(page * 255)))


def _photograph(digit: np.ndarray, random: np.random.Generator) -> Image.Image:
    page = place(large(digit, 30), 1500, 2000, *random.integers(100, 600, 2))
    levels = print_on(page, light(1500, 2000, random), 60)
    blurred = np.asarray(to_bytes(levels).filter(ImageFilter.GaussianBlur(2)), np.float64)
    return to_bytes(grain(blurred, random, 6))


Picture = Callable[[np.ndarray, np.random.Generator], Image.Image]
PICTURES: dict[str, Picture] = {
    "as it is": lambda d, r: Image.fromarray(d),
    "black on white": lambda d, r: Image.fromarray(255 - d),
    "small, in the corner of a page": lambda d, r: to_bytes(print_on(place(d / 255, 200, 150, 10, 8))),
    "on a page": lambda d, r: to_bytes(print_on(on_page(d, r))),
    "on a 4:3 page": lambda d, r: to_bytes(print_on(place(large(d, 12), 480, 640, *r.integers(5, 140, 2)))),
    "cropped to the ink": lambda d, r: to_bytes(crop(d / 255) * 255),
    "cropped to the ink, black on white": lambda d, r: to_bytes(print_on(crop(large(d, 10)))),
    "3-pixel strokes on 1,000 × 1,000": lambda d, r: to_bytes(print_on(thinned(d, 3))),
    "thick strokes": lambda d, r: to_bytes(
        print_on(np.asarray(to_bytes(on_page(d, r) * 255).filter(ImageFilter.MaxFilter(15)), np.float64) / 255)
    ),
    "grain": lambda d, r: to_bytes(grain(print_on(on_page(d, r)), r, 20)),
    "uneven light": lambda d, r: to_bytes(print_on(on_page(d, r), light(400, 400, r), 50)),
    "uneven light with grain": lambda d, r: to_bytes(grain(print_on(on_page(d, r), light(400, 400, r), 50), r)),
    "uneven light, 28 × 28": lambda d, r: to_bytes(print_on(d / 255, light(28, 28, r), 50)),
    "grain, 28 × 28": lambda d, r: to_bytes(grain(print_on(d / 255), r, 20)),
    "ruled paper": lambda d, r: to_bytes(print_on(on_page(d, r), ruled(400, 400, 40, False, r))),
    "squared paper": lambda d, r: to_bytes(print_on(on_page(d, r), ruled(400, 400, 25, True, r))),
    "a large photograph": _photograph,
    "transparent, black ink": lambda d, r: _transparent(d, 0),
    "transparent, white ink": lambda d, r: _transparent(d, 255),
    "1 bit": lambda d, r: to_bytes(print_on(on_page(d, r))).convert("1", dither=Image.Dither.NONE),
    "16 bits": lambda d, r: Image.fromarray((print_on(on_page(d, r)) * 257).astype(np.uint16)),
    "chalk on a blackboard": lambda d, r: to_bytes(grain(print_on(on_page(d, r), 40, 210), r, 8)),
}


def save(name: str, digit: np.ndarray, random: np.random.Generator, path: Path) -> Path:
    """Writes the digit, uint8 [28, 28], as a picture file under one condition; returns its path."""
    if name == "turned by EXIF":
        _turned(digit, path)
        return path.with_suffix(".jpg")
    path = path.with_suffix(".jpg" if "photograph" in name else ".png")
    PICTURES[name](digit, random).save(path)
    return path


CONDITIONS = [*PICTURES, "turned by EXIF"]
