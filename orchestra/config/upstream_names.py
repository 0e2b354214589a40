"""The upstreams users know by S3PRL's names, and how any other name becomes an `upstream` table.

Names, hub ids and shapes only: nothing is downloaded or loaded here, and torch is never imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from orchestra.wire.errors import UsageError


@dataclass(frozen=True)
class UpstreamInfo:
    """One known upstream."""

    name: str
    kind: Literal["fbank", "huggingface"]
    source: str
    """Hub id; empty for fbank."""
    layers: int
    """Hidden states offered to the weighted sum: the input of each block and the last output."""
    dim: int
    """Dimensions of one frame."""
    stride: int
    """Samples (16 kHz) from one frame to the next."""
    aliases: tuple[str, ...] = ()


def _transformer(name: str, source: str, layers: int, dim: int, *aliases: str) -> UpstreamInfo:
    return UpstreamInfo(name, "huggingface", source, layers, dim, 320, aliases)


_KNOWN = (
    UpstreamInfo("fbank", "fbank", "", 1, 240, 160),
    _transformer("wav2vec2", "facebook/wav2vec2-base", 13, 768, "wav2vec2_base_960"),
    _transformer(
        "wav2vec2_large_ll60k", "facebook/wav2vec2-large-lv60", 25, 1024, "wav2vec2_large"
    ),
    _transformer("wav2vec2_large_960", "facebook/wav2vec2-large", 25, 1024),
    _transformer(
        "wav2vec2_large_lv60_cv_swbd_fsh",
        "facebook/wav2vec2-large-robust",
        25,
        1024,
        "wav2vec2_large_robust",
    ),
    _transformer("xlsr_53", "facebook/wav2vec2-large-xlsr-53", 25, 1024),
    _transformer("xls_r_300m", "facebook/wav2vec2-xls-r-300m", 25, 1024),
    _transformer("xls_r_1b", "facebook/wav2vec2-xls-r-1b", 49, 1280),
    _transformer("xls_r_2b", "facebook/wav2vec2-xls-r-2b", 49, 1920),
    _transformer("hubert", "facebook/hubert-base-ls960", 13, 768, "hubert_base"),
    _transformer("hubert_large_ll60k", "facebook/hubert-large-ll60k", 25, 1024, "hubert_large"),
    _transformer("wavlm", "microsoft/wavlm-base-plus", 13, 768, "wavlm_base_plus"),
    _transformer("wavlm_base", "microsoft/wavlm-base", 13, 768),
    _transformer("wavlm_large", "microsoft/wavlm-large", 25, 1024),
)

#: By name, in the order in which they are listed; aliases are found by `find_upstream`.
UPSTREAMS: dict[str, UpstreamInfo] = {info.name: info for info in _KNOWN}
_BY_ALIAS = {alias: info for info in _KNOWN for alias in info.aliases}


def find_upstream(name: str) -> UpstreamInfo | None:
    """The known upstream called `name` (or with that alias)."""
    return UPSTREAMS.get(name) or _BY_ALIAS.get(name)


def resolve_upstream(name: str, workspace: Path) -> dict[str, Any]:
    """The `upstream` table of a known name, a hub id `org/model` or a local folder.

    A folder is looked for from the current folder, then from the workspace; it becomes absolute.

    Raises:
        UsageError: `name` is none of them; the message names the nearest known one.
    """
    folder = local_model(name, Path.cwd()) or local_model(name, workspace)
    if folder is not None:
        return huggingface_table(folder.name, str(folder))
    if find_upstream(name) or _is_hub_id(name):
        return expand_upstream({"name": name})
    near = get_close_matches(name, [*UPSTREAMS, *_BY_ALIAS], n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(UPSTREAMS)}"
    raise UsageError(
        f"no upstream {name!r}: {hint} (a hub id has the form ORG/MODEL; "
        "a local folder must hold a config.json)"
    )


def expand_upstream(table: dict[str, Any]) -> dict[str, Any]:
    """What one file or flag says about the upstream, with what its `name` or `source` implies.

    A known `name` (or a hub id as name) without `kind` brings its kind and source; a `source`
    without `name` is called after its last part. A table that says neither is left as it is.
    """
    name, source = table.get("name"), table.get("source")
    if isinstance(source, str) and name is None:
        return {**huggingface_table(Path(source).name, source), **table}
    if not isinstance(name, str) or "kind" in table or "source" in table:
        return table
    known = find_upstream(name)
    if known is not None and known.kind == "fbank":
        return {"kind": "fbank", **table}
    if known is not None:
        return {**huggingface_table(name, known.source), **table}
    if _is_hub_id(name):
        return {**huggingface_table(name, name), **table}
    return table


def huggingface_table(name: str, source: str) -> dict[str, Any]:
    """A table for transformers. `revision` None: another source's revision must not linger."""
    return {"kind": "huggingface", "name": name, "source": source, "revision": None}


def local_model(source: str, base: Path) -> Path | None:
    """The absolute folder `source` means (relative to `base`), if a saved model lies there."""
    path = Path(source).expanduser() if source.startswith("~/") else Path(source)
    folder = (base / path).absolute()
    return folder if (folder / "config.json").is_file() else None


def _is_hub_id(name: str) -> bool:
    parts = name.split("/")
    return len(parts) == 2 and all(parts) and not name.startswith((".", "~"))
