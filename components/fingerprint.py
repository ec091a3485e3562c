"""A hash of a step's sources, so that TFX's cache, which sees only a dotted path, sees the code behind it."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

FIRST_PARTY = ("components", "data", "serving")


def source_fingerprint(*modules: str) -> str:
    """SHA-256 over the sources of `modules` and of every first-party module they import, directly or not."""
    digest = hashlib.sha256()
    for name, path in sorted(_closure(modules).items()):
        digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _closure(modules: Iterable[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    todo = list(modules)
    while todo:
        name = todo.pop()
        spec = find_spec(name) if name not in found and name.split(".")[0] in FIRST_PARTY else None
        if spec is None or spec.origin is None:
            continue
        found[name] = Path(spec.origin)
        for node in ast.walk(ast.parse(found[name].read_bytes())):
            if isinstance(node, ast.ImportFrom) and node.module:
                todo.append(node.module)
                # `from package import module` names a module too.
                todo += [f"{node.module}.{alias.name}" for alias in node.names if _is_package(node.module)]
            elif isinstance(node, ast.Import):
                todo += [alias.name for alias in node.names]
    return found


def _is_package(name: str) -> bool:
    if name.split(".", maxsplit=1)[0] not in FIRST_PARTY:
        return False
    spec = find_spec(name)
    return spec is not None and spec.submodule_search_locations is not None
