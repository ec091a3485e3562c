"""A stand-in for TensorFlow Serving on one machine: `python -m serving.model_server`.

It has the gRPC API and some flags of tensorflow_model_server. Use it for `make serve`, the infra check and the tests of
the client. In production use TensorFlow Serving.
"""
