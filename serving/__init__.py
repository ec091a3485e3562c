"""Who a pushed model answers: the client, a local server, and TensorFlow Serving's configuration."""
