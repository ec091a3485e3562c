"""The Transform graph's arithmetic against NumPy's, and its refusal to pad or cut."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft

from data.example import IMAGE, LABEL, serialize
from data.readers import Images


def apply(transform: tft.TFTransformOutput, records: list[bytes]) -> dict[str, np.ndarray]:
    raw = tf.io.parse_example(records, transform.raw_feature_spec())
    return {name: tensor.numpy() for name, tensor in transform.transform_features_layer()(raw).items()}


def test_it_scales_and_reshapes_as_numpy_does(transform: tft.TFTransformOutput, digits: dict[str, Images]) -> None:
    images = digits["test"].take(slice(0, 100))
    features = apply(transform, [serialize(p, y) for p, y in zip(images.pixels, images.labels, strict=True)])
    assert set(features) == {"sequence", LABEL}
    assert features["sequence"].dtype == np.float32
    np.testing.assert_allclose(features["sequence"], images.pixels / 255.0, rtol=1e-6)
    np.testing.assert_array_equal(features[LABEL][:, 0], images.labels)


@pytest.mark.parametrize("sizes", [[783], [785], [1568], [784, 783], [0]], ids=str)
def test_an_image_of_another_size_is_refused(transform: tft.TFTransformOutput, sizes: list[int]) -> None:
    records = [serialize(np.zeros(size, np.uint8), 0) for size in sizes]
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"{IMAGE} must be 28 x 28 = 784 bytes"):
        apply(transform, records)
