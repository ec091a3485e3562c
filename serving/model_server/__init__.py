"""A stand-in for TensorFlow Serving on one machine: `python -m serving.model_server`.

It takes tensorflow_model_server's flags and answers the same gRPC API with the same words, so that clients can be
tried and models checked where no TensorFlow Serving is at hand. Production is TensorFlow Serving.
"""
