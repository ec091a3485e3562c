"""A hash of what computes a step's result: its code and its libraries. TFX's cache sees neither by itself.

The code is the syntax tree of the step's own module, and of every first-party definition that it uses, directly or
not. Words change no result and do not count: comments, docstrings, help texts, log lines, messages of exceptions.
A library is a distribution that this code imports; its version counts.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from pathlib import Path

FIRST_PARTY = ("components", "data", "serving")
# A namespace that protobuf shares with Google's clients: they carry data, they do not compute.
_NAMESPACES = ("google",)
_LOG_LEVELS = ("debug", "info", "warning", "error", "exception")


def fingerprint(*modules: str) -> str:
    """SHA-256, as 16 hexadecimal digits, over the code and the libraries of these modules.

    A module of another project, such as an executor of TFX, stands for the libraries that it imports.
    """
    scan = _Scan()
    for module in modules:
        scan.add_root(module)
    digest = hashlib.sha256()
    for (module, name), text in sorted(scan.code.items()):
        digest.update(f"{module}\0{name}\0{text}\0".encode())
    for library in sorted(scan.libraries):
        digest.update(f"{library}\0".encode())
    return digest.hexdigest()[:16]


@dataclass
class _Module:
    """A parsed module: its definitions and imports by name, and the statements that run whenever it is imported."""

    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)
    is_package: bool = False
    data: str = ""
    """A hash of the files beside a package's modules that are no Python, such as compiled messages."""
    statements: list[ast.stmt] = field(default_factory=list)


class _Scan:
    """Collects the text of every definition that is used, and the libraries, as `name==version`."""

    def __init__(self) -> None:
        self.code: dict[tuple[str, str], str] = {}
        self.libraries: set[str] = set()

    def add_root(self, module: str) -> None:
        """Adds a whole module, or the libraries that a module of another project imports."""
        if _top(module) in FIRST_PARTY:
            self._add(module)
            return
        if _top(module) in sys.stdlib_module_names:
            return
        self._add_library(module)
        for node in ast.walk(ast.parse(_source(module).read_bytes())):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                for imported, _ in _imports(node).values():
                    self._add_library(imported)

    def _add(self, module: str, name: str = "") -> None:
        """Adds one definition of a module; without a name, all of them."""
        if _top(module) not in FIRST_PARTY:
            self._add_library(module)
            return
        parsed = _parse(module)
        if parsed.data:
            self.code[module, "data"] = parsed.data
        for index, statement in enumerate(parsed.statements):
            self._add_node(module, f"statement {index}", statement, parsed)
        if not name:
            for defined in parsed.definitions:
                self._add_definition(module, defined, parsed)
        elif name in parsed.definitions:
            self._add_definition(module, name, parsed)
        elif name in parsed.imports:
            self._add(*parsed.imports[name])
        elif parsed.is_package:
            self._add(f"{module}.{name}")

    def _add_definition(self, module: str, name: str, parsed: _Module) -> None:
        for index, node in enumerate(parsed.definitions[name]):
            self._add_node(module, f"{name} {index}", node, parsed)

    def _add_node(self, module: str, name: str, node: ast.stmt, parsed: _Module) -> None:
        if (module, name) in self.code:
            return
        self.code[module, name] = ast.unparse(node)
        for used in ast.walk(node):
            if isinstance(used, (ast.Import, ast.ImportFrom)):
                for target in _imports(used).values():
                    self._add(*target)
            elif isinstance(used, ast.Name) and used.id in parsed.definitions:
                self._add_definition(module, used.id, parsed)
            elif isinstance(used, ast.Name) and used.id in parsed.imports:
                self._add(*parsed.imports[used.id])

    def _add_library(self, module: str) -> None:
        package = _top(module)
        if package in sys.stdlib_module_names or package in _NAMESPACES:
            return
        for distribution in _distributions().get(package, []):
            self.libraries.add(f"{distribution}=={_version(distribution)}")


_version = cache(version)  # it reads a file each time


@cache
def _distributions() -> dict[str, list[str]]:
    return {package: sorted(set(found)) for package, found in packages_distributions().items()}


def _top(module: str) -> str:
    """The top-level package of a module."""
    return module.split(".", maxsplit=1)[0]


def _source(module: str) -> Path:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ImportError(f"The fingerprint needs the source of {module}, and there is none.")
    return Path(spec.origin)


@cache
def _parse(module: str) -> _Module:
    source = _source(module)
    tree = ast.parse(source.read_bytes())
    _check_imports(module, tree)
    parsed = _Module(is_package=source.name == "__init__.py")
    if parsed.is_package:
        files = sorted(path for path in source.parent.iterdir() if path.suffix == ".binpb")
        parsed.data = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest() if files else ""
    for node in _WithoutWords().visit(tree).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            parsed.imports |= _imports(node)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            parsed.definitions.setdefault(node.name, []).append(node)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
            for name in names:
                parsed.definitions.setdefault(name, []).append(node)
        else:
            parsed.statements.append(node)
    return parsed


def _check_imports(module: str, tree: ast.Module) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.level or any(alias.name == "*" for alias in node.names)):
            raise ImportError(f"{module}: the fingerprint cannot follow {ast.unparse(node)!r}; name module and names.")


def _imports(node: ast.Import | ast.ImportFrom) -> dict[str, tuple[str, str]]:
    """Local name to (module, name in it); an empty name stands for the module."""
    if isinstance(node, ast.Import):
        return {alias.asname or alias.name.split(".")[0]: (alias.name, "") for alias in node.names}
    return {alias.asname or alias.name: (node.module or "", alias.name) for alias in node.names}


class _WithoutWords(ast.NodeTransformer):
    """Removes from a syntax tree what only people read, and imports that only a type checker reads."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        call = node.value.func if isinstance(node.value, ast.Call) else None
        is_log = isinstance(call, ast.Attribute) and ast.unparse(call.value) == "log" and call.attr in _LOG_LEVELS
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_log or is_text else self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if name.endswith("Error"):
            return ast.Call(node.func, [], [])
        node.keywords = [keyword for keyword in node.keywords if keyword.arg not in ("description", "help")]
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return None
        return self.generic_visit(node)
