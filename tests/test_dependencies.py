"""What the package imports is what it says that it needs."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OURS = {"orchestra", "tasks"}
COMES_WITH = {"pydantic_core": "pydantic"}  # each pydantic wants exactly one version of it


def imported() -> Iterator[tuple[Path, str]]:
    """Every top-level module of others, with a file that names it."""
    for path in (ROOT / "orchestra").rglob("*.py"):
        if path.name.startswith("test_"):  # a template of users' tests, which need pytest
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names = [node.module]
            for name in names:
                top = name.partition(".")[0]
                if top not in OURS and top not in sys.stdlib_module_names:
                    yield path, COMES_WITH.get(top, top)


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_what_is_imported_is_declared() -> None:
    declared = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["demo"]]
    known = {canonical(re.split(r"[<>=!~\[; ]", entry, maxsplit=1)[0]) for entry in declared}
    installed = packages_distributions()
    for path, module in imported():
        owners = {canonical(name) for name in installed.get(module, [])}
        assert owners & known, f"{path} imports {module}: no dependency in pyproject.toml"
