"""ExampleGen's executor, where nobody looked at the data before it: in a container."""

from pathlib import Path

import pytest
from tfx.types import standard_artifacts

from components.example_gen import ShardExecutor
from data.errors import DataError


@pytest.mark.parametrize("there", [False, True])
def test_a_split_without_shards_is_a_sentence(tmp_path: Path, there: bool) -> None:
    folder = tmp_path / "data"
    if there:
        folder.mkdir()
        (folder / "train-00000-of-00001.tfrecord.gz").touch()
    missing = "eval" if there else "train"
    with pytest.raises(
        DataError, match=rf"^{folder} holds no file {missing}-\*.* build the folder with python -m data.build"
    ):
        ShardExecutor().Do({}, {"examples": [standard_artifacts.Examples()]}, {"input_base": str(folder), "window": 1})
