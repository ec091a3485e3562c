"""data/example.py, and that of a fork, have what the contract says."""

import inspect
import sys
from importlib.util import module_from_spec, spec_from_file_location

import pytest

from data.contract import ExampleFile, Spec
from data.settings import Section
from tests.conftest import ROOT


@pytest.mark.parametrize("file", ["data/example.py", "tests/own_sequences/example.py"])
def test_an_example_file_keeps_the_contract(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_from_file_location("an_example", ROOT / file)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # pydantic looks up the types of the fields there
    spec.loader.exec_module(module)
    assert isinstance(module.LABEL, str) and issubclass(module.ExampleSpec, Section)
    example = module.ExampleSpec(classes=3)
    assert example.classes == len(example.labels) == 3 and len(example.sequence_shape) == 2
    assert {name for name in vars(Spec) if not name.startswith("_")} == {"classes", "labels", "sequence_shape"}
    wanted = {name: value for name, value in vars(ExampleFile).items() if inspect.isfunction(value)}
    wanted = {name: value for name, value in wanted.items() if not name.startswith("_")}
    assert len(wanted) == 10
    for name, function in wanted.items():
        expected, found = inspect.signature(function), inspect.signature(getattr(module, name))
        _, *parameters = expected.parameters.values()
        types = [str(parameter.annotation).removeprefix("example.") for parameter in parameters]
        assert [parameter.annotation for parameter in found.parameters.values()] == types, name
        assert found.return_annotation == expected.return_annotation, name
