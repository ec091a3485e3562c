"""Serving a pushed model: the client, a small local server, and the configuration of TensorFlow Serving."""
