"""The tf.train.Example every shard holds: its feature names, and how one is written.

`image` is one bytes value, rows × columns raw uint8 pixels in row-major order.
`label` is one int64 value, 0 … classes - 1.
"""

IMAGE = "image"
LABEL = "label"
SPLITS = ("train", "eval", "test")


def shard_pattern(split: str) -> str:
    """Glob of a split's shards inside a data folder, gzipped or not."""
    return f"{split}-*.tfrecord*"


def shard_name(split: str, index: int, count: int) -> str:
    """File name of shard `index` of `count`, as TensorFlow data sets name theirs."""
    return f"{split}-{index:05d}-of-{count:05d}.tfrecord.gz"
