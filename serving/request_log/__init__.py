"""A log of what a model server was asked and what it answered, as TFRecords of TensorFlow Serving's PredictionLog.

`python -m serving.request_log` is a gRPC proxy that writes it. It does not need TensorFlow.
"""
