"""What the pipeline eats: MNIST as TFRecords, what an example is, and the command that makes shards of other data."""
