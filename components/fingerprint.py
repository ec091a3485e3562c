"""A hash of what computes a step's result: its code and its libraries. TFX's cache sees neither by itself.

The code is every first-party module that the step imports, directly or not, without comments and docstrings. The
libraries are the distributions that these modules import, by their versions.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from functools import cache
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

FIRST_PARTY = {"components", "data", "serving"}
# A namespace that protobuf shares with Google's clients: they carry data, they do not compute.
_NO_LIBRARIES = {*FIRST_PARTY, "google"}


class _Module(NamedTuple):
    """A hash of a module's code, the first-party modules that it imports, and the top-level packages of all imports."""

    code: str
    modules: set[str]
    packages: set[str]


def fingerprint(*modules: str) -> str:
    """SHA-256, as 16 hexadecimal digits, over the code and the libraries of these modules.

    A module of another project, such as an executor of TFX, stands for the libraries that it imports.
    """
    own = first_party_modules(*modules)
    others = [module for module in modules if _top(module) not in {*FIRST_PARTY, *sys.stdlib_module_names}]
    packages = set().union(*(_parse(module).packages for module in (*own, *others)))
    names = {name for package in packages - _NO_LIBRARIES for name in _distributions().get(package, ())}
    lines = [f"{module} {_parse(module).code}" for module in own] + [f"{name}=={_version(name)}" for name in names]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]


def first_party_modules(*modules: str) -> list[str]:
    """The first-party modules among `modules`, and those that they import, directly or not; sorted."""
    found: set[str] = set()
    new = {module for module in modules if _top(module) in FIRST_PARTY}
    while new:
        found |= new
        new = set().union(*(_parse(module).modules for module in new)) - found
    return sorted(found)


_distributions = cache(packages_distributions)  # both read files each time
_version = cache(version)


def _top(module: str) -> str:
    return module.split(".", maxsplit=1)[0]


def _own_source(module: str) -> Path | None:
    """The file of a first-party module; None if there is no such module. It is found without an import."""
    base = Path(__file__).parents[1].joinpath(*module.split("."))
    return next((file for file in (base.with_suffix(".py"), base / "__init__.py") if file.is_file()), None)


@cache
def _parse(module: str) -> _Module:
    if _top(module) in FIRST_PARTY:
        source = _own_source(module)
    else:
        spec = find_spec(module)
        source = Path(spec.origin) if spec and spec.origin else None
    if source is None:
        raise ImportError(f"The fingerprint needs the source of {module}, and there is none.")
    tree = _WithoutWords().visit(ast.parse(source.read_bytes()))
    digest = hashlib.sha256(ast.dump(tree).encode())
    if source.name == "__init__.py":
        for file in sorted(source.parent.glob("*.binpb")):  # compiled messages
            digest.update(file.read_bytes())
    names = {module}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:  # what it imports may be a module, too
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    own = {name for name in names if _top(name) in FIRST_PARTY and _own_source(name)}
    packages = {name[:end] for name in own for end, character in enumerate(name) if character == "."}
    return _Module(digest.hexdigest(), own | packages, set(map(_top, names)))


class _WithoutWords(ast.NodeTransformer):
    """Removes docstrings, and imports that only a type checker reads."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str) else node

    def visit_If(self, node: ast.If) -> ast.AST | None:
        return None if ast.unparse(node.test) == "TYPE_CHECKING" else self.generic_visit(node)
