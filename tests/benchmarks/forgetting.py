"""What a warm start forgets: python -m tests.benchmarks.forgetting

The first day has 20,000 digits by employees of the census. The second one has 5,000 others, turned by 35 degrees. A
model follows with and without replay of the first day, or is trained from scratch on both. Each is judged by 5,000 test
digits of the census, as they are and turned.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from components.version_folder import version_folders
from tests.benchmarks.__main__ import MNIST, step_seconds
from tests.benchmarks.month import accuracy, run_local, write_day
from tests.conftest import Images, read_images

NO_GATES = ("gates.accuracy=0", "gates.class_accuracy=0", "gates.max_drop=1", "validation.max_mean_difference=1")
WAYS = {
    "warm start, new examples alone": ("training.warm_start=true", "training.replay=0"),
    "warm start, one old example for each new one": ("training.warm_start=true", "training.replay=1"),
    "from scratch on both days": ("training.warm_start=false",),
}


def turned(images: Images) -> Images:
    pixels = [np.asarray(Image.fromarray(image).rotate(35, Image.Resampling.BILINEAR)) for image in images.pixels]
    return Images(np.stack(pixels), images.labels)


def main() -> None:
    train, test = read_images(MNIST, "train"), read_images(MNIST, "test")
    census, others = train.take(slice(1, 40_001, 2)), train.take(slice(40_001, 50_001, 2))
    judged = test.take(slice(5001, None))
    sets = {"census": judged, "turned": turned(judged)}
    print("| training | " + " | ".join(sets) + " | time |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        days, root = folder / "days", folder / "first"
        days.mkdir()
        write_day(days, "1", census)
        settings = [f"data.path={days}/{{SPAN}}", *NO_GATES]
        run_local(root, settings)
        row("the first day alone", root, sets)
        write_day(days, "2", turned(others))
        for way, more in WAYS.items():
            root = folder / way
            shutil.copytree(folder / "first" / "serving_models", root / "serving_models")
            run_local(root, [*settings, *more])
            row(way, root, sets)


def row(way: str, root: Path, sets: dict[str, Images]) -> None:
    version = version_folders(str(root / "serving_models" / "mnist"))[0]
    found = " | ".join(f"{accuracy(version, images):.4f}" for images in sets.values())
    seconds = step_seconds(root / "metadata.db", "digit-rows")["Trainer"]
    print(f"| {way} | {found} | {seconds:.0f} s |", flush=True)


if __name__ == "__main__":
    main()
