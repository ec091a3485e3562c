"""A client of TensorFlow Serving's gRPC API. It does not import TensorFlow.

    import numpy as np

    from serving.client import Client

    with Client("localhost:8500", model="mnist", timeout=2.0) as client:
        prediction = client.predict(np.zeros((3, 28, 28), np.uint8))  # or the paths of image files
        print(prediction.class_ids, prediction.probabilities, prediction.versions)

`AsyncClient` has the same methods with `await`. Every error is a `serving.errors.ServingError`.
`python -m serving.client` is the same client on the command line.
"""

from serving.client.async_client import AsyncClient
from serving.client.client import Client
from serving.client.results import (
    Classification,
    Description,
    Metadata,
    Prediction,
    Signature,
    TensorSpec,
    VersionStatus,
)
from serving.tls import Tls

__all__ = [
    "AsyncClient",
    "Classification",
    "Client",
    "Description",
    "Metadata",
    "Prediction",
    "Signature",
    "TensorSpec",
    "Tls",
    "VersionStatus",
]
