"""What the pipeline eats: MNIST as TFRecords, and the tool that makes such shards from other data."""
