"""The SavedModel: three signatures that agree, for every cell, and no kernel that only a GPU has."""

import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow.core.protobuf import saved_model_pb2

from components.trainer.export import export, graph_text
from components.trainer.model import build_model
from components.trainer.run import clean_up
from components.trainer.settings import Model
from data.example import ExampleSpec, pack, serialize
from data.readers import Images
from tests.components.conftest import Exported

SPEC = ExampleSpec()


def call(signatures, name: str, **inputs: tf.Tensor) -> dict[str, np.ndarray]:
    return {key: value.numpy() for key, value in signatures[name](**inputs).items()}


@pytest.fixture(scope="module")
def signatures(exported: Exported):
    """The signatures of a small LSTM."""
    return tf.saved_model.load(str(exported.saved_model)).signatures


MODELS = {
    "lstm": None,
    "gru, three layers, normalized": Model(cell="gru", units=8, layers=3, layer_norm=True, dropout=0.2),
    "simple_rnn, relu": Model(cell="simple_rnn", units=16, activation="relu", dropout=0.5),
    "bidirectional lstm, two layers, normalized": Model(units=8, layers=2, bidirectional=True, layer_norm=True),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_signatures_agree_with_the_network_and_each_other(
    name: str, exported: Exported, transform: tft.TFTransformOutput, digits: dict[str, Images], tmp_path: Path
) -> None:
    images, model, network, folder = digits["test"].take(slice(0, 200)), MODELS[name], exported.network, tmp_path
    if model is None:
        model, folder = exported.settings, exported.saved_model
    else:
        network = build_model(model, SPEC)
        export(network.get_weights(), transform, model, SPEC, {}, str(folder))
    signatures = tf.saved_model.load(str(folder)).signatures
    truth = tf.nn.softmax(network(images.pixels.astype(np.float32) / 255, training=False)).numpy()
    records = [serialize(p, y) for p, y in zip(images.pixels, images.labels, strict=True)]

    by_example = call(signatures, "serving_default", examples=tf.constant(records))
    by_image = call(signatures, "predict_images", images=tf.constant(images.pixels))
    for result in (by_example, by_image):
        np.testing.assert_allclose(result["probabilities"], truth, atol=1e-5)
        np.testing.assert_array_equal(result["class_ids"], result["probabilities"].argmax(axis=1))
        assert result["classes"].tolist() == [[str(digit).encode() for digit in range(10)]] * 200
    np.testing.assert_allclose(by_example["probabilities"], by_image["probabilities"], atol=1e-5)
    assert set(signatures) >= {"serving_default", "predict_images"}
    if model.bidirectional:
        assert "predict_rows" not in signatures
        return
    rows = call(signatures, "predict_rows", images=tf.constant(images.pixels))["probabilities"]
    assert rows.shape == (200, 28, 10)
    np.testing.assert_allclose(rows[:, -1], truth, atol=1e-5)
    # After k rows it knows nothing of the rest: blank rows below leave the first k answers as they were.
    half = images.pixels.copy()
    half[:, 14:] = 0
    upper = call(signatures, "predict_rows", images=tf.constant(half))["probabilities"]
    np.testing.assert_allclose(upper[:, :14], rows[:, :14], atol=1e-5)


def test_the_model_says_how_its_inputs_are_made(signatures, digits: dict[str, Images]) -> None:
    found = call(signatures, "describe", about=tf.constant([b"", b"anything"]))
    assert {name: array.shape[0] for name, array in found.items()} == dict.fromkeys(found, 2)
    assert found["class_names"][1].tolist() == [str(digit).encode() for digit in range(10)]
    assert (found["size"][0].tolist(), found["fit"][0], found["background"][0]) == ([28, 28], b"digit", b"any")
    means = digits["train"].pixels.mean(axis=(1, 2))
    np.testing.assert_allclose(found["ink"][1], [means.min(), means.max()], rtol=1e-6)


def test_the_text_of_a_graph_changes_with_what_it_computes_only(
    exported: Exported, transform: tft.TFTransformOutput, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def text(name: str, described: dict[str, np.ndarray]) -> str:
        export(exported.network.get_weights(), transform, exported.settings, SPEC, described, str(tmp_path / name))
        return graph_text(str(tmp_path / name))

    said = {"fit": np.array(b"digit", object)}
    first = text("first", said)
    assert text("again", said) == first  # TensorFlow has numbered everything otherwise
    assert text("says something else", {"fit": np.array(b"stretch", object)}) != first
    monkeypatch.setattr(
        "components.trainer.export.signature_names", lambda settings: ["predict_images", "classify_examples"]
    )
    assert text("fewer signatures", said) != first
    monkeypatch.undo()
    monkeypatch.setattr("components.trainer.export.pack", lambda images, spec: pack(255 - images, spec))
    assert text("mended", said) != first


@pytest.mark.parametrize("backup", ["gone", "a file"])
def test_cleaning_up_never_fails_a_finished_training(backup: str, tmp_path: Path) -> None:
    (tmp_path / "stray.txt").write_text("old")
    os.utime(tmp_path / "stray.txt", (0, 0))
    (tmp_path / "recent").mkdir()
    if backup == "a file":
        (tmp_path / "backup").touch()
    clean_up(str(tmp_path / "backup"))
    assert not (tmp_path / "stray.txt").exists() and (tmp_path / "recent").is_dir()


def test_no_gpu_only_kernel(exported: Exported) -> None:
    saved = saved_model_pb2.SavedModel.FromString((exported.saved_model / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    ops = {node.op for function in graph.library.function for node in function.node_def} | {n.op for n in graph.node}
    assert "While" in ops or "StatelessWhile" in ops
    assert not [op for op in ops if "udnn" in op.lower()]


def test_an_example_needs_no_label_and_a_wrong_size_is_an_error(signatures) -> None:
    def example(size: int) -> bytes:
        feature = {"image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[bytes(size)]))}
        return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()

    assert call(signatures, "serving_default", examples=tf.constant([example(784)]))["class_ids"].shape == (1,)
    for size in (783, 785, 2 * 784):
        with pytest.raises(tf.errors.InvalidArgumentError, match="image must be 28 x 28 = 784 bytes"):
            call(signatures, "serving_default", examples=tf.constant([example(size)]))


@pytest.mark.parametrize("shape", [(2, 27, 28), (2, 14, 56), (2, 784), (2, 28, 28, 1)], ids=str)
@pytest.mark.parametrize("signature", ["predict_images", "predict_rows"])
def test_images_of_another_shape_are_refused_also_with_as_many_pixels(
    signature: str, shape: tuple[int, ...], signatures
) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="not compatible with expected shape"):
        call(signatures, signature, images=tf.zeros(shape, tf.uint8))


@pytest.mark.parametrize("count", [0, 1, 3, 300])
def test_pack_packs_each_image_as_it_lies_in_memory(count: int) -> None:
    images = np.random.default_rng(5).integers(0, 256, (count, 5, 7), np.uint8)
    packed = pack(tf.constant(images), ExampleSpec(rows=5, columns=7))["image"].numpy()
    assert packed.shape == (count, 1)
    assert [value for (value,) in packed] == [image.tobytes() for image in images]
