"""Brings any picture of a character to the convention of MNIST.

MNIST's digits are NIST's black and white scans, antialiased into a box of 20 × 20 pixels with their proportions. Their
centre of mass lies at row 14 and column 14 of 28 × 28 pixels, counted from 0, rounded to whole pixels. (Y. LeCun, C.
Cortes, C. Burges: The MNIST database of handwritten digits.) A digit of MNIST comes out as it went in.

A drawing or a photograph also needs a background, which may lie in uneven light, a side of it where the ink is, and
what is no ink: grain, the lines of the paper, specks. The lengths and shares below were found with
`python -m tests.benchmarks.pictures`.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

FIELD, BOX = 28, 20
FAINTEST = 24.0
"""Ink differs from the background by at least so many levels, of 255."""
BLANK = "blank: there is no ink"
SEVERAL = "more than one character"
_ENOUGH = 256  # pixels of the longer side: more tell nothing about a box of 20 × 20
_MANY = 4  # lines: no character has so many that run through the whole picture
_SMALL = 24  # pixels of the shorter side: too few to tell uneven light from ink
_THIN = 2.0  # pixels of the result: the finest pen of MNIST


def read(levels: np.ndarray, size: tuple[int, int] = (FIELD, FIELD)) -> tuple[np.ndarray, str]:
    """The picture as light ink on black, uint8 of `size`, and a note if something is odd about it; else "".

    The ink is scaled into 20/28 of the size. Its centre of mass lies in the middle. Without ink, all pixels are 0.

    Args:
        levels: grey levels in 0 … 255, float [height, width], dark on light or light on dark.
    """
    for ready in (levels, 255 - levels):
        if levels.shape == size and _is_normalized(ready):
            return np.rint(ready).astype(np.uint8), ""
    ink, grain = _ink(_shrunk(levels, _ENOUGH))
    if grain > 3:
        ink, grain = _ink(_shrunk(levels, _ENOUGH // 2))
    strength = _strength(ink, grain)
    if strength < FAINTEST:
        return np.zeros(size, np.uint8), BLANK
    ink = _without_lines(ink, strength)
    mask, note = _pieces(ink, max(0.4 * strength, 3.5 * grain))
    if not mask.any():
        return np.zeros(size, np.uint8), BLANK
    area = slice(*_extent(mask.any(axis=1))), slice(*_extent(mask.any(axis=0)))
    near = np.asarray(Image.fromarray(mask.astype(np.uint8)).filter(ImageFilter.MaxFilter(3))) > 0
    ink = np.where(near & (ink > 2 * grain), ink, 0)[area]
    return _placed(_scaled(ink, mask[area], strength, size), size), note


def _is_normalized(levels: np.ndarray) -> bool:
    """Whether a picture, light on black, lies as MNIST's digits lie: the box to a pixel, the centre to half of one."""
    if not levels.any() or (levels == 0).mean() < 0.4 or levels.max() < 250:
        return False
    for axis, length in enumerate(levels.shape):
        mass = levels.sum(axis=1 - axis)
        if abs(mass @ np.arange(length) / mass.sum() - length / 2) > 0.53:
            return False
    extents = [
        np.subtract(*_extent(levels.any(axis=1 - axis))[::-1]) / length for axis, length in enumerate(levels.shape)
    ]
    return BOX - 1 <= round(max(extents) * FIELD, 6) <= BOX


def _shrunk(levels: np.ndarray, side: int) -> np.ndarray:
    image = Image.fromarray(levels.astype(np.float32))
    if max(image.size) > side:
        scale = side / max(image.size)
        image = image.resize(
            (max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.BOX
        )
    return np.asarray(image)


def _border(picture: np.ndarray) -> np.ndarray:
    """The levels of a frame around the picture."""
    wide = 1 + min(picture.shape) // 32
    parts = picture[:wide], picture[-wide:], picture[:, :wide], picture[:, -wide:]
    return np.concatenate([part.ravel() for part in parts])


def _ink(levels: np.ndarray) -> tuple[np.ndarray, float]:
    """How far each pixel lies from the background, on the side of the ink; and the grain, a standard deviation."""
    border = _border(levels)
    counts = np.bincount(border.astype(int), minlength=256)
    common: np.ndarray | float = float(np.argmax(np.convolve(counts, np.ones(3), "same")))
    share = (np.abs(border - common) < 3).mean()
    if min(levels.shape) < 0.35 * max(levels.shape) and (found := _cropped_stroke(levels)) is not None:
        common = found
    elif share < 0.3 and min(levels.shape) >= _SMALL:
        common = _surface(levels)
    difference = levels - common
    flat = _border(difference) if np.ndim(common) == 0 else difference
    grain = float(np.quantile(np.abs(flat), 0.3)) / 0.385  # of a normal distribution, although most may be ink
    limit = 4 * grain + 8
    light, dark = (np.maximum(side - limit, 0).sum() for side in (difference, -difference))
    return np.maximum(difference if light > dark else -difference, 0), grain


def _cropped_stroke(levels: np.ndarray) -> float | None:
    """The background of a narrow picture whose middle is ink, such as that of a 1 without margins; else None."""
    height, width = levels.shape
    ends = np.quantile(levels, (0.02, 0.98))
    dark = levels < ends.mean()
    middle = dark[height // 3 : height - height // 3, width // 3 : width - width // 3].mean()
    outside = _border(dark).mean()  # is what the middle is not, more than the rest of the picture
    if middle > 0.8 and outside < dark.mean():
        return float(ends[1])
    return float(ends[0]) if middle < 0.2 and outside > dark.mean() else None


def _surface(levels: np.ndarray) -> np.ndarray:
    """The background in uneven light: a cubic polynomial, fitted first to the border, then to all that fits."""
    coarse = _shrunk(levels, 48)
    terms = _terms(*coarse.shape)
    inside = np.ones(coarse.shape, bool)
    inside[2:-2, 2:-2] = False
    used, values = inside.ravel(), coarse.ravel()
    weights = np.ones(values.shape)
    for step in range(12):
        scaled = terms[used] * weights[used, None]
        solution = np.linalg.lstsq(scaled, values[used] * weights[used], rcond=1e-6)[0]
        rest = np.abs(values - terms @ solution)
        spread = 1.4826 * np.median(rest[used]) + 1
        weights = 1 / np.maximum(1, rest / spread)
        if step > 5:
            used = rest < 4 * spread
    surface = Image.fromarray((terms @ solution).reshape(coarse.shape).astype(np.float32))
    return np.asarray(surface.resize((levels.shape[1], levels.shape[0]), Image.Resampling.BICUBIC))


def _terms(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].reshape(2, -1)
    return np.stack([x**i * y**j for i in range(4) for j in range(4 - i)], axis=1)


def _strength(ink: np.ndarray, grain: float) -> float:
    """The level of the strokes: what nine tenths of the ink do not reach; 0 if there is no ink."""
    found = ink[ink > max(5 * grain, FAINTEST)]
    return float(np.quantile(found, 0.9)) if len(found) else 0.0


def _without_lines(ink: np.ndarray, strength: float) -> np.ndarray:
    """The ink without the lines of the paper: they run from side to side, and are fainter than the strokes or many."""
    limits = np.zeros(ink.shape)
    for axis in (0, 1):
        line = np.median(ink, axis=1 - axis)
        wide = max(3, len(line) // 40)
        padded = np.pad(line, wide)
        before, after = (
            np.min([padded[wide + step : wide + step + len(line)] for step in steps], axis=0)
            for steps in (range(-wide, 0), range(1, wide + 1))
        )
        ends = [np.median(part, axis=1 - axis) for part in np.split(ink, [wide, -wide], axis=1 - axis)[::2]]
        found = (line > 4) & (np.maximum(before, after) < line / 3) & (np.minimum(*ends) > line / 2)
        if np.count_nonzero(np.diff(found.astype(int)) == 1) < _MANY or len(found) < 64:
            found &= line < 0.7 * strength
        limits += np.expand_dims(np.where(found, 1.5 * line, 0), 1 - axis)
    return np.where(ink < limits, 0, ink)


def _pieces(ink: np.ndarray, limit: float) -> tuple[np.ndarray, str]:
    """The pixels of the character, bool as `ink`, and a note if there is another one beside, above or below it."""
    labels, count = _label(ink > limit)
    if not count:
        return ink > limit, ""
    sizes = np.bincount(labels.ravel())[1:]
    kept, note, main = np.zeros(count + 1, bool), "", np.zeros((2, 2), int)
    for number in np.argsort(-sizes)[:16]:
        piece = labels == number + 1
        box = np.array([_extent(piece.any(axis=1)), _extent(piece.any(axis=0))])
        share = sizes[number] / sizes.max()
        if not kept.any():
            main = box
        gaps = np.maximum(box[:, 0], main[:, 0]) - np.minimum(box[:, 1], main[:, 1])
        kept[number + 1] = share > 0.02 and gaps.max() < 0.5 * np.diff(main).max()
        beside = share > 0.3 and gaps[1] >= 0 and -gaps[0] > 0.5 * np.diff(main[0])[0]
        below = share > 0.5 and gaps[0] > 0.1 * np.diff(main[0])[0] and -gaps[1] > 0.5 * np.diff(main[1])[0]
        note = SEVERAL if beside or below else note
    return kept[labels], note


def _label(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Numbers the connected pieces of a mask, with 8 neighbours: int [height, width], 0 outside; and their count."""
    padded = np.pad(mask, ((0, 0), (1, 1))).astype(np.int8)
    steps = np.diff(padded, axis=1)
    rows, starts = np.nonzero(steps == 1)
    stops = np.nonzero(steps == -1)[1]
    parents = list(range(len(rows)))

    def root(run: int) -> int:
        while parents[run] != run:
            parents[run] = run = parents[parents[run]]
        return run

    first = np.searchsorted(rows, np.arange(mask.shape[0] + 1))
    for row in range(1, mask.shape[0]):
        above = first[row - 1]
        for run in range(first[row], first[row + 1]):
            while above < first[row] and stops[above] < starts[run]:
                above += 1
            other = above
            while other < first[row] and starts[other] <= stops[run]:
                parents[root(run)] = root(other)
                other += 1
    roots, numbers = np.unique([root(run) for run in range(len(rows))], return_inverse=True)
    labels = np.zeros(mask.shape, int)
    for row, start, stop, number in zip(rows, starts, stops, numbers, strict=True):
        labels[row, start:stop] = number + 1
    return labels, len(roots)


def _extent(used: np.ndarray) -> tuple[int, int]:
    """From the first to behind the last row or column with ink."""
    found = np.flatnonzero(used)
    return int(found[0]), int(found[-1]) + 1


def _scaled(ink: np.ndarray, mask: np.ndarray, strength: float, size: tuple[int, int]) -> np.ndarray:
    """The ink, 0 … 255, as large as it fits into the box, with its proportions, antialiased; no pen is too thin."""
    box = [round(length * BOX / FIELD) for length in size]
    factor = min(box[0] / ink.shape[0], box[1] / ink.shape[1])
    height, width = (max(1, round(length * factor)) for length in ink.shape)
    image = Image.fromarray(np.minimum(ink, strength).astype(np.float32))
    edge = mask.sum() - np.asarray(Image.fromarray(mask.astype(np.uint8)).filter(ImageFilter.MinFilter(3))).sum()
    pen = factor * 2 * mask.sum() / max(edge, 1)
    if pen < _THIN:
        wider = 1 + 2 * round((_THIN - pen) / factor / 2)
        image = image.filter(ImageFilter.MaxFilter(wider))
    scaled = np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))
    return np.clip(scaled * (255 / scaled.max()), 0, 255)


def _placed(scaled: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The field with its centre of mass in the middle; none of the ink is cut off."""
    field = np.zeros(size, np.uint8)
    place = []
    for axis in (0, 1):
        mass = scaled.sum(axis=1 - axis)
        start = round(size[axis] / 2 - float(mass @ np.arange(len(mass)) / mass.sum()))
        start = min(max(0, start), size[axis] - len(mass))
        place.append(slice(start, start + len(mass)))
    field[tuple(place)] = np.rint(scaled)
    return field
