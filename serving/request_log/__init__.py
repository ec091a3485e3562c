"""A log of what a model server was asked and what it answered, as TFRecords of TensorFlow Serving's PredictionLog.

    from pathlib import Path

    from serving.client import Client
    from serving.request_log import RequestLog, read

    with RequestLog("log", sample=0.1) as log, Client("localhost:8500", log=log) as client:
        client.predict(images, metadata=[("x-request-id", "order-17")])
    for record in read(Path("log")):
        print(record.time, record.version, record.request_id, record.outputs["class_ids"])

`python -m serving.request_log` is a gRPC proxy that writes the same files. Neither needs TensorFlow.
"""

from serving.request_log.log import Counts, RequestLog
from serving.request_log.reader import read
from serving.request_log.record import Record

__all__ = ["Counts", "Record", "RequestLog", "read"]
