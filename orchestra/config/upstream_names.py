"""How a name of an upstream becomes an `upstream` table: known ones, hub ids, folders, own files.

Looks at paths, reads no file: nothing is downloaded or loaded, and torch is never imported.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

from orchestra.config.upstream_table import (
    BY_ALIAS,
    UPSTREAMS,
    find_upstream,
    is_ones_own,
    nearest_to,
)
from orchestra.wire.errors import UsageError
from orchestra.wire.sources import is_url, without_secrets

OWN = "upstreams"
"""The folder of a workspace where `--upstream mine` looks for mine.py."""


def resolve_upstream(name: str, workspace: Path) -> dict[str, Any]:
    """The `upstream` table of a known name, a hub id, a URL, a local folder or a Python file.

    A folder is looked for from the current folder, then from the workspace; it becomes absolute.
    A file `x.py` likewise, or by its bare name in the workspace's upstreams/; it becomes relative
    to the workspace.

    Raises:
        UsageError: `name` is none of them, and the message names the nearest known one; or two; or
            a file outside the workspace.
    """
    if is_url(name):
        return huggingface_table(Path(without_secrets(name)).name, name)
    if name.endswith(".py"):
        return file_table(_own_file(name, workspace))
    folder = local_model(name, Path.cwd()) or local_model(name, workspace)
    if folder is not None:
        table = huggingface_table(folder.name, str(folder))
        return {**table, "shadows": name} if is_hub_id(name) else table
    known, own = find_upstream(name), own_upstreams(workspace).get(name)
    if known is not None and own is not None:
        raise UsageError(
            f"{name!r} is a known upstream, and {own} has its name: rename the file, or give "
            f"--upstream {own} if you mean it"
        )
    if own is not None:
        return file_table(own)
    if known is not None or is_hub_id(name):
        return expand_upstream({"name": name})
    raise UsageError(f"no upstream {name!r}: {_hint(name, workspace)}")


def own_upstreams(workspace: Path) -> dict[str, str]:
    """The user's own: name -> file, relative to the workspace."""
    files = sorted((workspace / OWN).glob("*.py"))
    return {file.stem: f"{OWN}/{file.name}" for file in files if not file.name.startswith("_")}


def relative_file(source: str, workspace: Path) -> str:
    """A Python file's path relative to the workspace, whose snapshot is what runs.

    Raises:
        UsageError: it lies outside.
    """
    path, root = Path(source).expanduser().resolve(), workspace.resolve()
    if not path.is_relative_to(root):
        raise UsageError(
            f"{source} is outside the workspace {workspace}, so the run's snapshot of the code "
            f"would not have it: copy it to {workspace / OWN}"
        )
    return path.relative_to(root).as_posix()


def _own_file(name: str, workspace: Path) -> str:
    for base in (Path.cwd(), workspace):
        path = (base / Path(name).expanduser()).absolute()
        if path.is_file():
            return relative_file(str(path), workspace)
    raise UsageError(f"no file {name!r} here or in the workspace {workspace}")


def _hint(name: str, workspace: Path) -> str:
    if is_ones_own(name):
        return "give the hub id, URL, folder or Python file itself"
    nearest = nearest_to(name)
    if nearest is not None:
        return (
            "S3PRL has it, but its weights are not in a form that transformers loads; "
            f"the nearest here is {nearest!r}"
        )
    own = own_upstreams(workspace)
    near = get_close_matches(name, [*own, *UPSTREAMS, *BY_ALIAS], n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join([*own, *UPSTREAMS])}"
    return (
        f"{hint} (a hub id has the form ORG/MODEL; a local folder must hold a config.json; "
        f"one's own is a file {OWN}/NAME.py)"
    )


def expand_upstream(table: dict[str, Any]) -> dict[str, Any]:
    """What one file or flag says about the upstream, with what its `name` or `source` implies.

    A known `name` (or a hub id as name) without `kind` brings its kind and source; a `source`
    without `name` is called after its last part. A table that says neither is left as it is.
    """
    name, source = table.get("name"), table.get("source")
    if isinstance(source, str) and source.endswith(".py"):
        return {**file_table(source), **table}
    if isinstance(source, str) and name is None:
        return {**huggingface_table(Path(source).name, source), **table}
    if not isinstance(name, str) or "kind" in table or "source" in table:
        return table
    known = find_upstream(name)
    if known is not None and known.source:
        return {**huggingface_table(name, known.source), **table}
    if known is not None:
        return {"kind": known.kind, **known.options, **table}
    if is_hub_id(name):
        return {**huggingface_table(name, name), **table}
    return table


def huggingface_table(name: str, source: str) -> dict[str, Any]:
    """A table for transformers. What is None must not linger from another source."""
    of_another = dict.fromkeys(("revision", "parts", "shadows"))
    return {"kind": "huggingface", "name": name, "source": source, **of_another}


def file_table(source: str) -> dict[str, Any]:
    """A table for a user's own file."""
    return {"kind": "file", "name": Path(source).stem, "source": source}


def local_model(source: str, base: Path) -> Path | None:
    """The absolute folder `source` means (relative to `base`), if a saved model lies there."""
    path = Path(source).expanduser() if source.startswith("~/") else Path(source)
    folder = (base / path).absolute()
    return folder if (folder / "config.json").is_file() else None


def is_hub_id(name: str) -> bool:
    """Whether `name` has the form ORG/MODEL."""
    parts = name.split("/")
    return len(parts) == 2 and all(parts) and not name.startswith((".", "~"))
