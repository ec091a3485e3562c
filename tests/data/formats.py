"""Small real files of every format that data.build reads, all with the same digits.

Each function writes the digits into a folder and returns the SOURCE. What it is called after ends up in FORMATS.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
import struct
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from data.readers import Images
from tests.conftest import write_folder
from tests.data.sources import write_idx

Digits = dict[str, Images]
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class Format:
    """One format: `write(folder, digits)` gives the SOURCE; the splits it sets apart; what it calls each digit."""

    write: Callable[[Path, Digits], Path]
    splits: tuple[str, ...] = ("train", "test")
    names: tuple[str, ...] = tuple("0123456789")
    said: str = ""


FORMATS: dict[str, Format] = {}


def form(
    splits: str = "train test", names: tuple[str, ...] = Format.names, said: str = ""
) -> Callable[[Callable[[Path, Digits], Path]], Callable[[Path, Digits], Path]]:
    def note(write: Callable[[Path, Digits], Path]) -> Callable[[Path, Digits], Path]:
        FORMATS[write.__name__] = Format(write, tuple(splits.split()), names, said)
        return write

    return note


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def rows_of(images: Images) -> Iterator[tuple[int, list[int]]]:
    for label, pixels in zip(images.labels, images.pixels, strict=True):
        yield int(label), pixels.ravel().tolist()


def write_csv(path: Path, rows: list[list[object]], delimiter: str = ",") -> None:
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)


def idx(path: Path, magic: int, array: np.ndarray) -> None:
    content = struct.pack(f">{1 + array.ndim}I", magic, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


# CSV


@form("train", said="Kaggle")
def kaggle_folder(folder: Path, digits: Digits) -> Path:
    header = [f"pixel{at}" for at in range(784)]
    write_csv(folder / "train.csv", [["label", *header], *([label, *row] for label, row in rows_of(digits["train"]))])
    write_csv(folder / "test.csv", [header, *(row for _, row in rows_of(digits["test"]))])
    (folder / "sample_submission.csv").write_text("ImageId,Label\n1,0\n2,0\n")
    return folder


@form("train")
def kaggle_file(folder: Path, digits: Digits) -> Path:
    return kaggle_folder(folder, digits) / "train.csv"


@form("train eval test")
def mnist_in_csv(folder: Path, digits: Digits) -> Path:
    for split, images in digits.items():
        header = [f"{row}x{column}" for row in range(1, 29) for column in range(1, 29)]
        write_csv(
            folder / f"mnist_{split}.csv", [["label", *header], *([label, *row] for label, row in rows_of(images))]
        )
    return folder


@form("train")
def csv_without_header(folder: Path, digits: Digits) -> Path:
    write_csv(folder / "digits.csv", [[label, *row] for label, row in rows_of(digits["train"])])
    return folder / "digits.csv"


@form("train")
def csv_with_the_label_last(folder: Path, digits: Digits) -> Path:
    write_csv(folder / "digits.data", [[*row, label] for label, row in rows_of(digits["train"])], ";")
    return folder / "digits.data"


@form("train", names=WORDS)
def csv_of_words(folder: Path, digits: Digits) -> Path:
    header = [*(f"pixel{at}" for at in range(784)), "class"]
    write_csv(folder / "a.csv", [header, *([*row, WORDS[label]] for label, row in rows_of(digits["train"]))])
    return folder / "a.csv"


@form("train eval test")
def csv_gzipped(folder: Path, digits: Digits) -> Path:
    mnist_in_csv(folder, digits)
    for file in folder.glob("*.csv"):
        Path(f"{file}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    return folder


@form("train eval test")
def csv_zipped(folder: Path, digits: Digits) -> Path:
    mnist_in_csv(folder, digits)
    with zipfile.ZipFile(folder / "archive.zip", "w") as archive:
        for file in folder.glob("*.csv"):
            archive.write(file, file.name)
            file.unlink()
    return folder / "archive.zip"


@form("train eval test")
def text_between_blanks(folder: Path, digits: Digits) -> Path:
    """As the digits of The Elements of Statistical Learning: -1 to 1, a blank at the end of the line."""
    for split, images in digits.items():
        lines = (
            f"{label}.0000 {' '.join(f'{value / 127.5 - 1:.6f}' for value in row)} \n" for label, row in rows_of(images)
        )
        with gzip.open(folder / f"zip.{split}.gz", "wt") as file:
            file.writelines(lines)
    return folder


@form("train")
def arff(folder: Path, digits: Digits) -> Path:
    header = ["% MNIST", "@relation mnist", *(f"@attribute pixel{at} numeric" for at in range(784)),
              "@attribute class {0,1,2,3,4,5,6,7,8,9}", "@data"]  # fmt: skip
    lines = [",".join(map(str, [*row, label])) for label, row in rows_of(digits["train"])]
    (folder / "mnist.arff").write_text("\n".join([*header, *lines]) + "\n")
    return folder / "mnist.arff"


# Hugging Face


def write_parquet(path: Path, images: Images, names: tuple[str, ...] | None) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pictures = pa.array([{"bytes": png(pixels), "path": None} for pixels in images.pixels], kind)
    label = {"names": names, "_type": "ClassLabel"} if names else {"dtype": "int64", "_type": "Value"}
    described = {"info": {"features": {"image": {"_type": "Image"}, "label": label}}}
    schema = pa.schema([("image", kind), ("label", pa.int64())], {"huggingface": json.dumps(described)})
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table([pictures, images.labels], schema=schema), path, row_group_size=20)


@form(names=WORDS)
def hugging_face(folder: Path, digits: Digits) -> Path:
    half = len(digits["train"]) // 2
    shards = digits["train"].take(slice(0, half)), digits["train"].take(slice(half, None))
    for number, images in enumerate(shards):
        write_parquet(folder / "data" / f"train-{number:05d}-of-00002-{number}b4ac1e.parquet", images, WORDS)
    write_parquet(folder / "data" / "test-00000-of-00001-5b3d.parquet", digits["test"], WORDS)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    (folder / ".gitattributes").write_text("*.parquet filter=lfs\n")
    return folder


@form("train eval test")
def hugging_face_converted(folder: Path, digits: Digits) -> Path:
    for split, images in {"train": digits["train"], "validation": digits["eval"], "test": digits["test"]}.items():
        (folder / "mnist").mkdir(exist_ok=True)
        write_parquet(folder / "mnist" / split / "0000.parquet", images, None)
    return folder


@form("train")
def hugging_face_file(folder: Path, digits: Digits) -> Path:
    write_parquet(folder / "0000.parquet", digits["train"], None)
    return folder / "0000.parquet"


@form()
def hugging_face_on_disk(folder: Path, digits: Digits) -> Path:
    import pyarrow as pa

    for split, images in {"train": digits["train"], "test": digits["test"]}.items():
        table = pa.table(
            {"image": pa.array([{"bytes": png(pixels)} for pixels in images.pixels]), "label": images.labels}
        )
        (folder / split).mkdir()
        with pa.ipc.new_stream(folder / split / "data-00000-of-00001.arrow", table.schema) as stream:
            stream.write_table(table)
        (folder / split / "state.json").write_text("{}")
    return folder


@form("train")
def parquet_of_pixels(folder: Path, digits: Digits) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pixels = digits["train"].pixels.reshape(-1, 784).T
    columns = {f"pixel{at + 1}": values for at, values in enumerate(pixels)}
    pq.write_table(pa.table({**columns, "class": digits["train"].labels.astype(str)}), folder / "mnist_784.pq")
    return folder / "mnist_784.pq"


@form("train")
def parquet_of_lists(folder: Path, digits: Digits) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"image": digits["train"].pixels.tolist(), "label": digits["train"].labels})
    pq.write_table(table, folder / "mnist.parquet")
    return folder / "mnist.parquet"


# TensorFlow


def write_records(path: Path, images: Images, feature: Callable[[np.ndarray, int], dict[str, object]]) -> None:
    import tensorflow as tf

    def of(value: object) -> tf.train.Feature:
        if isinstance(value, bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        if isinstance(value, list) and isinstance(value[0], float):
            return tf.train.Feature(float_list=tf.train.FloatList(value=value))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=value if isinstance(value, list) else [value]))

    with tf.io.TFRecordWriter(str(path)) as writer:
        for pixels, label in zip(images.pixels, images.labels, strict=True):
            features = {key: of(value) for key, value in feature(pixels, int(label)).items()}
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())


@form(names=WORDS)
def tfds(folder: Path, digits: Digits) -> Path:
    version = folder / "mnist" / "3.0.1"
    version.mkdir(parents=True)
    for split in ("train", "test"):
        path = version / f"mnist-{split}.tfrecord-00000-of-00001"
        write_records(path, digits[split], lambda pixels, label: {"image": png(pixels), "label": label})
    (version / "label.labels.txt").write_text("\n".join(WORDS) + "\n")
    (version / "features.json").write_text("{}")
    (version / "dataset_info.json").write_text('{"name": "mnist"}')
    return folder


@form("train eval test", names=WORDS)
def own_shards(folder: Path, digits: Digits) -> Path:
    """What data.build itself has written."""
    write_folder(folder / "out", digits)
    names = ", ".join(f'"{word}"' for word in WORDS)
    (folder / "out" / "profile.toml").write_text(f"[data]\nrows = 28\ncolumns = 28\nclass_names = [{names}]\n")
    return folder / "out"


@form("train eval test")
def old_tfrecords(folder: Path, digits: Digits) -> Path:
    for name, split in (("train", "train"), ("validation", "eval"), ("test", "test")):
        write_records(
            folder / f"{name}.tfrecords",
            digits[split],
            lambda pixels, label: {
                "image_raw": pixels.tobytes(),
                "label": label,
                "height": 28,
                "width": 28,
                "depth": 1,
            },
        )
    return folder


@form("train")
def tfrecord_of_floats(folder: Path, digits: Digits) -> Path:
    write_records(
        folder / "digits.tfrecord",
        digits["train"],
        lambda pixels, label: {"x": (pixels.ravel() / 255).tolist(), "y": [int(label == at) for at in range(10)]},
    )
    return folder / "digits.tfrecord"


# IDX


def idx_files(
    folder: Path,
    digits: Digits,
    images: str,
    labels: str,
    pixels: Callable[[np.ndarray], np.ndarray] = np.asarray,
    add: int = 0,
) -> Path:
    for prefix, split in (("train", "train"), ("t10k" if "t10k" in images else "test", "test")):
        idx(
            folder / images.replace("t10k", "test").replace("test", prefix),
            0x803,
            np.ascontiguousarray(pixels(digits[split].pixels)),
        )
        idx(
            folder / labels.replace("t10k", "test").replace("test", prefix),
            0x801,
            (digits[split].labels + add).astype(np.uint8),
        )
    return folder


@form()
def idx_with_dots(folder: Path, digits: Digits) -> Path:
    return idx_files(folder, digits, "t10k-images.idx3-ubyte", "t10k-labels.idx1-ubyte")


@form()
def idx_file(folder: Path, digits: Digits) -> Path:
    return (
        idx_files(folder, digits, "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
        / "train-images-idx3-ubyte.gz"
    )


@form()
def idx_wrapped_with_copies(folder: Path, digits: Digits) -> Path:
    """As torchvision leaves them: packed and unpacked."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    idx_files(raw, digits, "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    idx_files(raw, digits, "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
    return folder


@form()
def idx_twice(folder: Path, digits: Digits) -> Path:
    """As on Kaggle: each file once more, in a folder that is called like it."""
    idx_files(folder, digits, "t10k-images.idx3-ubyte", "t10k-labels.idx1-ubyte")
    for file in list(folder.iterdir()):
        (inner := folder / file.name.replace(".", "-")).mkdir()
        shutil.copy(file, inner / inner.name)
    return folder


@form()
def idx_gzipped_under_plain_names(folder: Path, digits: Digits) -> Path:
    idx_files(folder, digits, "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
    for file in folder.glob("*.gz"):
        file.rename(file.with_suffix(""))
    return folder


@form()
def idx_plain_under_names_of_gzip(folder: Path, digits: Digits) -> Path:
    idx_files(folder, digits, "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    for file in folder.iterdir():
        file.rename(f"{file}.gz")
    return folder


@form()
def idx_of_floats(folder: Path, digits: Digits) -> Path:
    for prefix, split in (("train", "train"), ("t10k", "test")):
        idx(folder / f"{prefix}-images", 0xD03, (digits[split].pixels / 255).astype(">f4"))
        idx(folder / f"{prefix}-labels", 0xC01, digits[split].labels.astype(">i4"))
    return folder


@form(names=tuple("ABCDEFGHIJ"), said="turned upright")
def emnist_idx(folder: Path, digits: Digits) -> Path:
    idx_files(folder, digits, "emnist-letters-test-images-idx3-ubyte.gz", "emnist-letters-test-labels-idx1-ubyte.gz",
              lambda pixels: pixels.transpose(0, 2, 1), add=1)  # fmt: skip
    (folder / "emnist-letters-mapping.txt").write_text("".join(f"{at + 1} {65 + at} {97 + at}\n" for at in range(10)))
    return folder


@form(names=tuple(map(str, range(1, 11))))
def emnist_among_others(folder: Path, digits: Digits) -> Path:
    idx_files(folder, digits, "emnist-digits-test-images-idx3-ubyte", "emnist-digits-test-labels-idx1-ubyte")
    idx_files(folder, digits, "emnist-letters-test-images-idx3-ubyte", "emnist-letters-test-labels-idx1-ubyte",
              lambda pixels: pixels.transpose(0, 2, 1), add=1)  # fmt: skip
    return folder / "emnist-letters-train-images-idx3-ubyte"


# Arrays


def arrays(digits: Digits) -> dict[str, np.ndarray]:
    train, test = digits["train"], digits["test"]
    return {"x_train": train.pixels, "y_train": train.labels, "x_test": test.pixels, "y_test": test.labels}


@form()
def npz(folder: Path, digits: Digits) -> Path:
    np.savez(folder / "mnist.npz", **arrays(digits))
    return folder / "mnist.npz"


@form()
def npz_in_a_folder_with_a_picture(folder: Path, digits: Digits) -> Path:
    (folder / "deep" / "er").mkdir(parents=True)
    np.savez_compressed(folder / "deep" / "er" / "mnist.npz", **arrays(digits))
    (folder / "deep" / "preview.png").write_bytes(png(digits["train"].pixels[0]))
    return folder


def npz_changed(
    folder: Path,
    digits: Digits,
    pixels: Callable[[np.ndarray], np.ndarray],
    labels: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> Path:
    content = {key: (pixels if key[0] == "x" else labels)(array) for key, array in arrays(digits).items()}
    np.savez(folder / "data.npz", **content)
    return folder / "data.npz"


CHANGES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray], tuple[str, ...]]] = {
    "channel": (lambda x: x[..., None], np.asarray, Format.names),
    "channel_first": (lambda x: x[:, None], np.asarray, Format.names),
    "rows_of_pixels": (lambda x: x.reshape(len(x), 784), np.asarray, Format.names),
    "colours": (lambda x: np.repeat(x[..., None], 3, axis=3), np.asarray, Format.names),
    "fortran": (np.asfortranarray, np.asarray, Format.names),
    "floats": (lambda x: (x / 255).astype(np.float32), lambda y: y[:, None], Format.names),
    "doubles_with_signs": (lambda x: x / 127.5 - 1, lambda y: y.astype(np.float64), Format.names),
    "whole_floats": (lambda x: x.astype(np.float64), lambda y: y.astype(np.uint8), Format.names),
    "uint16": (lambda x: x.astype(np.uint16) * 257, np.asarray, Format.names),
    "int32": (lambda x: x.astype(np.int32), np.asarray, Format.names),
    "one_hot": (np.asarray, lambda y: np.eye(10)[y], Format.names),
    "one_hot_bool": (np.asarray, lambda y: np.eye(10, dtype=bool)[y], Format.names),
    "words": (np.asarray, lambda y: np.asarray(WORDS)[y], WORDS),
    "bytes": (np.asarray, lambda y: np.asarray(WORDS, "S")[y], WORDS),
    "text_of_numbers": (np.asarray, lambda y: y.astype(str), Format.names),
    "from_one": (np.asarray, lambda y: y + 1, tuple(map(str, range(1, 11)))),
    "with_gaps": (np.asarray, lambda y: y * 10, tuple(map(str, range(0, 100, 10)))),
}
for _name, (_pixels, _labels, _names) in CHANGES.items():
    FORMATS[f"npz_{_name}"] = Format(
        lambda folder, digits, pixels=_pixels, labels=_labels: npz_changed(folder, digits, pixels, labels), names=_names
    )


@form("train eval test")
def medmnist(folder: Path, digits: Digits) -> Path:
    content = {}
    for name, split in (("train", "train"), ("val", "eval"), ("test", "test")):
        content[f"{name}_images"] = digits[split].pixels
        content[f"{name}_labels"] = digits[split].labels[:, None].astype(np.uint8)
    np.savez_compressed(folder / "organmnist.npz", **content)
    return folder / "organmnist.npz"


@form()
def kmnist(folder: Path, digits: Digits) -> Path:
    for split in ("train", "test"):
        np.savez_compressed(folder / f"kmnist-{split}-imgs.npz", digits[split].pixels)
        np.savez_compressed(folder / f"kmnist-{split}-labels.npz", digits[split].labels.astype(np.uint8))
    return folder


@form()
def kmnist_file(folder: Path, digits: Digits) -> Path:
    return kmnist(folder, digits) / "kmnist-train-imgs.npz"


@form("train")
def npz_of_one_split(folder: Path, digits: Digits) -> Path:
    np.savez(folder / "a.npz", data=digits["train"].pixels.reshape(-1, 784), target=digits["train"].labels)
    return folder / "a.npz"


@form("train")
def npz_without_names(folder: Path, digits: Digits) -> Path:
    np.savez(folder / "a.npz", digits["train"].pixels, digits["train"].labels)
    return folder / "a.npz"


@form("train", names=WORDS)
def npz_of_scikit_learn(folder: Path, digits: Digits) -> Path:
    train = digits["train"]
    np.savez(folder / "a.npz", data=train.pixels.reshape(-1, 784), images=train.pixels, target=train.labels,
             target_names=np.asarray(WORDS), DESCR=np.asarray("digits"))  # fmt: skip
    return folder / "a.npz"


@form()
def npy_files(folder: Path, digits: Digits) -> Path:
    for name, array in arrays(digits).items():
        np.save(folder / f"{name}.npy", array)
    return folder


@form()
def npy_in_folders(folder: Path, digits: Digits) -> Path:
    for split in ("train", "test"):
        (folder / split).mkdir()
        np.save(folder / split / "images.npy", digits[split].pixels)
        np.save(folder / split / "labels.npy", digits[split].labels)
    return folder


@form("train", names=WORDS)
def npy_for_each_class(folder: Path, digits: Digits) -> Path:
    """As Google's QuickDraw."""
    train = digits["train"]
    for label, word in enumerate(WORDS):
        np.save(folder / f"{word}.npy", train.pixels[train.labels == label].reshape(-1, 784))
    return folder


@form("train")
def npy_file(folder: Path, digits: Digits) -> Path:
    np.save(folder / "images.npy", digits["train"].pixels)
    np.save(folder / "labels.npy", digits["train"].labels)
    return folder / "images.npy"


@form(names=tuple("ABCDEFGHIJ"), said="turned upright")
def emnist_mat(folder: Path, digits: Digits) -> Path:
    from scipy.io import savemat

    def part(images: Images) -> dict[str, np.ndarray]:
        pixels = images.pixels.transpose(0, 2, 1).reshape(-1, 784)
        return {"images": pixels, "labels": images.labels[:, None] + 1, "writers": images.labels[:, None]}

    mapping = np.stack([np.arange(1, 11), np.arange(65, 75), np.arange(97, 107)], axis=1)
    content = {"train": part(digits["train"]), "test": part(digits["test"]), "mapping": mapping}
    savemat(folder / "emnist-letters.mat", {"dataset": content}, do_compression=True)
    return folder / "emnist-letters.mat"


@form("train")
def mat_of_columns(folder: Path, digits: Digits) -> Path:
    from scipy.io import savemat

    train = digits["train"]
    savemat(
        folder / "mnist-original.mat",
        {"data": train.pixels.reshape(-1, 784).T, "label": train.labels[None].astype(float)},
    )
    return folder / "mnist-original.mat"


@form()
def hdf5(folder: Path, digits: Digits) -> Path:
    """As the digits of the US Postal Service on Kaggle."""
    import h5py

    with h5py.File(folder / "usps.h5", "w") as file:
        for split in ("train", "test"):
            file[f"{split}/data"] = (digits[split].pixels.reshape(-1, 784) / 255).astype(np.float32)
            file[f"{split}/target"] = digits[split].labels
    return folder / "usps.h5"


@form(names=tuple(map(str, range(1, 11))))
def mat_of_colours(folder: Path, digits: Digits) -> Path:
    """As the Street View House Numbers: [rows, columns, colours, N]."""
    from scipy.io import savemat

    for split in ("train", "test"):
        colours = np.repeat(digits[split].pixels.transpose(1, 2, 0)[:, :, None], 3, axis=2)
        savemat(folder / f"{split}_28x28.mat", {"X": colours, "y": digits[split].labels[:, None] + 1})
    return folder


# Picture files


def class_tree(root: Path, images: Images, name: Callable[[int], str] = str, kind: str = "png") -> Path:
    for at, (pixels, label) in enumerate(zip(images.pixels, images.labels, strict=True)):
        path = root / name(int(label)) / f"{at}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return root


@form("train")
def folders(folder: Path, digits: Digits) -> Path:
    return class_tree(folder / "digits", digits["train"])


@form("train", names=WORDS)
def folders_wrapped_in_a_zip(folder: Path, digits: Digits) -> Path:
    root = class_tree(folder / "data" / "My Digits", digits["train"], WORDS.__getitem__, "bmp")
    (folder / "data" / "__MACOSX").mkdir()
    (folder / "data" / "__MACOSX" / "._0.bmp").write_bytes(b"\0\5\x16\7")
    (root / ".DS_Store").write_bytes(b"Bud1")
    return Path(shutil.make_archive(str(folder / "digits"), "zip", folder / "data"))


@form("train eval test")
def folders_of_splits(folder: Path, digits: Digits) -> Path:
    for name, split in (("Train", "train"), ("valid", "eval"), ("test", "test")):
        class_tree(folder / "MNIST" / name, digits[split])
    return folder


@form("train")
def folders_with_an_unlabelled_test(folder: Path, digits: Digits) -> Path:
    class_tree(folder / "train" / "train", digits["train"])
    class_tree(folder / "test", digits["test"], lambda label: "test")
    return folder


@form("train")
def folders_in_classes(folder: Path, digits: Digits) -> Path:
    class_tree(folder, digits["train"], lambda label: f"{label}/writer {label % 3}/a")
    class_tree(folder, digits["train"].take(slice(0, 0)))
    return folder


@form()
def folders_with_splits_inside(folder: Path, digits: Digits) -> Path:
    for split in ("train", "test"):
        class_tree(folder, digits[split], lambda label, split=split: f"{label}/{split}")
    return folder


@form()
def folders_in_two_archives(folder: Path, digits: Digits) -> Path:
    for split in ("train", "test"):
        shutil.make_archive(str(folder / split), "gztar", class_tree(folder.parent / "unpacked" / split, digits[split]))
    shutil.rmtree(folder.parent / "unpacked")
    return folder


@form(names=WORDS)
def pictures_listed_in_tables(folder: Path, digits: Digits) -> Path:
    for split in ("train", "test"):
        (folder / f"{split}_images").mkdir()
        rows: list[list[object]] = [["id", "writer", "label"]]
        for at, (pixels, label) in enumerate(zip(digits[split].pixels, digits[split].labels, strict=True)):
            Image.fromarray(pixels).save(folder / f"{split}_images" / f"{split}{at}.png")
            rows.append([f"{split}{at}", "w", WORDS[label]])
        write_csv(folder / f"{split}.csv", rows)
    return folder


@form("train")
def pictures_listed_in_a_text(folder: Path, digits: Digits) -> Path:
    lines = []
    for at, (pixels, label) in enumerate(zip(digits["train"].pixels, digits["train"].labels, strict=True)):
        Image.fromarray(pixels).save(folder / f"{at}.png")
        lines.append(f"{at}.png {label}\n")
    (folder / "labels.txt").write_text("".join(lines))
    return folder


@form("train", names=("É", *WORDS[1:]))
def folders_in_two_unicode_forms(folder: Path, digits: Digits) -> Path:
    half = len(digits["train"]) // 2
    names = ("É", *WORDS[1:])
    for form_, kind, images in (("NFC", "png", slice(0, half)), ("NFD", "bmp", slice(half, None))):
        few = digits["train"].take(images)
        class_tree(folder, few, lambda label, form_=form_: unicodedata.normalize(form_, names[label]), kind)
    return folder


@form()
def idx_as_written_by_tests(folder: Path, digits: Digits) -> Path:
    for prefix, split in (("train", "train"), ("t10k", "test")):
        write_idx(folder, prefix, digits[split])
    return folder
