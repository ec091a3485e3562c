"""The structure: pipeline → components → data, one way and without circles; serving reads pictures as data does."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import PACKAGES, ROOT

ALLOWED = {
    "data": {"data"},
    "components": {"components", "data"},
    "pipeline": {"pipeline", "components", "data"},
    "serving": {"serving", "data"},
}
FILES = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, also inside functions; `package.name` for each name of a `from`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path} imports relatively"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def libraries(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def file_of(module: str) -> Path | None:
    """The project's file of a module; None for a name in a module, or a module of another project."""
    base = ROOT.joinpath(*module.split("."))
    return next((file for file in (base.with_suffix(".py"), base / "__init__.py") if file in FILES), None)


def room(file: Path) -> Path:
    """The folder of a file, or the file itself if it lies directly in a package."""
    folder = file.parent
    return folder if folder.name not in PACKAGES else file


def graph_of(node: Callable[[Path], Path]) -> dict[Path, set[Path]]:
    """Which nodes import which; `node` gives the node of a file."""
    graph: dict[Path, set[Path]] = {}
    for file in FILES:
        imported = {node(other) for name in imports(file) if (other := file_of(name)) is not None and other != file}
        graph.setdefault(node(file), set()).update(imported - {node(file)})
    return graph


def circle(graph: dict[Path, set[Path]]) -> list[Path]:
    """Nodes that import each other in a circle; empty if there is none."""
    finished: set[Path] = set()

    def visit(node: Path, way: list[Path]) -> list[Path]:
        if node in way:
            return way[way.index(node) :]
        if node in finished:
            return []
        for other in sorted(graph[node]):
            if found := visit(other, [*way, node]):
                return found
        finished.add(node)
        return []

    return next((found for node in graph if (found := visit(node, []))), [])


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_one_way(package: str) -> None:
    files = [file for file in FILES if file.is_relative_to(ROOT / package)]
    assert files
    for file in files:
        ours = libraries(file) & {*PACKAGES, "tests"}
        allowed = ALLOWED[package] | ({"serving"} if file.parent.name == "infra_validator" else set())
        assert ours <= allowed, f"{file.relative_to(ROOT)} imports {ours - allowed}"


@pytest.mark.parametrize("node", [lambda file: file, room], ids=["files", "folders"])
def test_nothing_imports_each_other_in_a_circle(node: Callable[[Path], Path]) -> None:
    graph = graph_of(node)
    assert sum(map(len, graph.values())) > 50
    assert [str(found.relative_to(ROOT)) for found in circle(graph)] == []


def test_the_record_of_runs_imports_none_of_the_rooms_above_it() -> None:
    rooms = {
        found.relative_to(ROOT / "pipeline")
        for found in graph_of(room)[ROOT / "pipeline" / "runs"]
        if found.is_relative_to(ROOT / "pipeline")
    }
    assert rooms == {Path("config.py"), Path("definition.py")}


def test_a_circle_would_be_found() -> None:
    a, b, c, d = (Path(name) for name in "abcd")
    assert circle({a: {b}, b: {c}, c: {d, b}, d: set()}) == [b, c]
    assert circle({a: {b, c}, b: {c}, c: {d}, d: set()}) == []


def test_serving_needs_no_tfx_and_its_client_no_tensorflow() -> None:
    for file in (ROOT / "serving").rglob("*.py"):
        assert "tfx" not in libraries(file), file
        if file.parent.name != "model_server":
            assert not {name for name in libraries(file) if name.startswith("tensorflow")}, file


def test_keras_is_imported_as_tf_keras_only() -> None:
    for file in FILES:
        assert "keras" not in libraries(file), file
        assert "tf.keras" not in file.read_text(), file


def test_components_know_no_runner_and_no_command_line() -> None:
    types = tuple(f"tfx.orchestration.{name}" for name in ("data_types", "metadata", "portable"))  # of drivers
    for file in (ROOT / "components").rglob("*.py"):
        assert not {"argparse", "rich"} & libraries(file), file
        others = {name for name in imports(file) if not f"{name}.".startswith(types)}
        assert not {name for name in others if name.startswith("tfx.orchestration.")}, file


def test_one_file_knows_what_an_example_is() -> None:
    """Image sizes are read, and pixels named, in the example's file and in those that make examples of images."""
    pictures = {"data/example.py", "data/build.py", "serving/client/images.py"}
    for file in FILES:
        names = {node.attr for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Attribute)}
        if str(file.relative_to(ROOT)) not in pictures:
            assert not {"rows", "columns", "decode_raw", "bytes_list"} & names, file


@pytest.mark.parametrize("name", ["requirements-tfx-1.16.lock", "requirements-tfx-1.21.lock"])
def test_the_lock_is_hashed_and_names_no_registry(name: str) -> None:
    lock = (ROOT / name).read_text()
    assert f"\ntfx=={name[len('requirements-tfx-') : -len('.lock')]}.0 " in lock
    assert "://" not in lock and "--index-url" not in lock and "--find-links" not in lock
    packages = [line for line in lock.splitlines() if "==" in line]
    assert len(packages) > 200
    assert all(line.endswith("\\") for line in packages)  # a hash follows
