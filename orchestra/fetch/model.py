"""A pretrained model's files, each part from its own source.

Parts: `config` (config.json), `preprocessor` (preprocessor_config.json, which a model may lack) and
`weights` (model.safetensors, or its index and shards). What is described needs the first two only;
weights are fetched when they are asked for.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from orchestra.data.program import say
from orchestra.fetch.cache import Cache, cache_folder, key_of, unwritable
from orchestra.fetch.hashing import json_flaw, safetensors_flaw
from orchestra.fetch.hub import resolve
from orchestra.fetch.hub_place import HubPlace
from orchestra.fetch.listing import WEIGHTS
from orchestra.fetch.places import File, LocalPlace, Place
from orchestra.fetch.url_place import UrlPlace
from orchestra.fetch.web import Web
from orchestra.wire.errors import UsageError
from orchestra.wire.sources import HubSource, LocalSource, Source, UrlSource, parse_source

PARTS = ("config", "preprocessor", "weights")
CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"
_SINGLE, _INDEX = WEIGHTS
_SHARD = re.compile(r"[\w.-]+\.safetensors", re.ASCII)
_ADAPTER = "adapter_config.json"
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
SAFETENSORS_REMEDY = (
    "pickled weights are never loaded; convert them with transformers' save_pretrained, or set "
    "upstream.revision to a revision that has model.safetensors"
)


@dataclass(frozen=True)
class Wanted:
    """What the config says of a model's sources."""

    source: str
    revision: str | None = None
    parts: Mapping[str, str] | None = None
    """Sources of single parts, by name."""


class Model:
    """The files of one model; described at once, its weights fetched when asked for."""

    def __init__(self, wanted: Wanted, places: dict[str, Place], cache: Cache) -> None:
        self.wanted = wanted
        self._places = places
        self._cache = cache

    @cached_property
    def config(self) -> File:
        """config.json (UsageError if there is none)."""
        found = self._places["config"].get(CONFIG, json_flaw)
        if found is None:
            raise UsageError(
                f"{self._said('config')} has no {CONFIG}: it is not a model of save_pretrained"
            )
        return found

    @cached_property
    def preprocessor(self) -> File | None:
        """preprocessor_config.json, if the model has one."""
        return self._places["preprocessor"].get(PREPROCESSOR, json_flaw)

    @cached_property
    def weights(self) -> tuple[File, ...]:
        """All files of the weights, whole and verified (UsageError if there are none to be had)."""
        place = self._places["weights"]
        single = place.get(_SINGLE, safetensors_flaw)
        if single is not None:
            return (single,)
        index = place.get(_INDEX, json_flaw)
        if index is None:
            raise UsageError(f"{self._said('weights')} has no {_SINGLE}: {SAFETENSORS_REMEDY}")
        shards = [place.get(name, safetensors_flaw) for name in shard_names(index)]
        missing = [n for n, file in zip(shard_names(index), shards, strict=True) if file is None]
        if missing:
            raise UsageError(f"{self._said('weights')} lacks {missing[0]}, which its index names")
        return (index, *(file for file in shards if file is not None))

    @property
    def commit(self) -> str | None:
        """The hub's commit of the model as a whole; None for other places."""
        place = self._main()
        return place.listing.commit if isinstance(place, HubPlace) else None

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences to say aloud."""
        places = {id(place): place for place in self._places.values()}
        return tuple(note for place in places.values() for note in place.notes)

    def missing_bytes(self) -> int | None:
        """How much `weights` would download; None if that is not known."""
        place = self._places["weights"]
        if isinstance(place, UrlPlace):
            return place.missing_bytes(_SINGLE)
        if not isinstance(place, HubPlace):
            return 0
        files = place.listing.files
        names = [_SINGLE] if _SINGLE in files else [n for n in files if n.endswith(".safetensors")]
        return sum(place.missing_bytes(name) or 0 for name in names)

    def check_weights(self) -> None:
        """UsageError if there are none that may be loaded, as far as that can be told for free."""
        place = self._places["weights"]
        if isinstance(place, LocalPlace):
            _ = self.weights
        elif isinstance(place, HubPlace) and not place.listing.has_weights:
            raise UsageError(f"{self._said('weights')} has no {_SINGLE}: {SAFETENSORS_REMEDY}")

    def folder(self) -> Path:
        """A folder with all files of the model under the names transformers knows.

        A local folder itself where all is from it; else links in the cache.

        Raises:
            OrchestraError: the cache can't be written.
        """
        files = self.files()
        parents = {file.path.parent for file in files}
        names = all(file.path.name == file.name for file in files)
        # Beside an adapter transformers would load the model that the adapter names.
        if len(parents) == 1 and names and not (files[0].path.parent / _ADAPTER).exists():
            return parents.pop()
        lines = [f"{file.name} {file.sha256} {file.path}" for file in files]
        folder = self._cache.make(self._cache.model(key_of(*lines)))
        try:
            for file in files:
                _link(folder / file.name, file.path)
        except OSError as error:
            raise unwritable(folder, error) from error
        return folder

    def files(self) -> list[File]:
        """All of them; fetches the weights."""
        described = [self.config, *([self.preprocessor] if self.preprocessor else [])]
        return [*described, *self.weights]

    def pins(self) -> dict[str, Any]:
        """`revision` and `parts` of a config that means these very files from now on.

        Of a URL a file that was not fetched yet is left out.
        """
        parts = dict(self.wanted.parts or {})
        for part in PARTS:
            place = self._places[part]
            if isinstance(place, HubPlace) and part in parts:
                parts[part] = f"{place.listing.repo}@{place.listing.commit}"
            elif isinstance(place, UrlPlace):
                file = self._one_file(part)
                if file is not None:
                    parts[part] = file.source
        return {"revision": self.commit or self.wanted.revision, "parts": parts or None}

    def record(self) -> list[dict[str, Any]]:
        """Name, size, hash and source of each file; fetches the weights."""
        return [
            {"name": f.name, "size": f.size, "sha256": f.sha256, "source": f.source}
            for f in self.files()
        ]

    def identity(self) -> dict[str, str]:
        """Which weights these are: source, commit, and sha256 (1 s per GB, once, of a folder)."""
        described = [self.config, *([self.preprocessor] if self.preprocessor else [])]
        found = {"source": self.wanted.source}
        if self.commit is not None:
            found["revision"] = self.commit
        for part, source in (self.pins()["parts"] or {}).items():
            found[f"{part}_source"] = source
        return found | {
            "weights_sha256": joint_sha256(self.weights),
            "config_sha256": joint_sha256(described),
        }

    def _one_file(self, part: str) -> File | None:
        """The file that a part is, if it is one and is here."""
        if part == "weights":
            here = self.__dict__.get("weights", ())
            return here[0] if len(here) == 1 else None
        return self.config if part == "config" else self.preprocessor

    def _main(self) -> Place:
        """The place of what has no source of its own; of the weights if everything has."""
        own = self.wanted.parts or {}
        part = next((part for part in reversed(PARTS) if part not in own), "weights")
        return self._places[part]

    def _said(self, part: str) -> str:
        return (self.wanted.parts or {}).get(part, self.wanted.source)


def open_model(
    wanted: Wanted,
    *,
    newest: bool = False,
    told: Callable[[str], None] = say,
    web: Web | None = None,
) -> Model:
    """The model that `wanted` names; the hub is asked for its commit, nothing else is fetched.

    Args:
        newest: ask what branches and URLs give now, as a new run must; else what was fetched last
            is taken, as a run that goes on must.
        told: takes sentences about waiting, retries and progress.
        web: the connections, with another patience or ear than the usual.

    Raises:
        NotFoundError: there is no such thing, or it can't be reached.
        UsageError: a source can't be used.
    """
    cache = Cache(cache_folder())
    web = web or Web(told)
    own = {part: parse_source(text) for part, text in (wanted.parts or {}).items()}
    _refuse_pickled(own.get("weights"))
    opened: dict[Source, Place] = {}

    def place(part: str) -> Place:
        source = own.get(part) or _main_source(wanted)
        if source not in opened:
            opened[source] = _open_place(
                source, cache, web, newest=newest, weights=part == "weights"
            )
        return opened[source]

    # Weights first: what is decided for them (the hub's conversion) holds for all of the source.
    return Model(wanted, {part: place(part) for part in reversed(PARTS)}, cache)


def _open_place(source: Source, cache: Cache, web: Web, *, newest: bool, weights: bool) -> Place:
    """The place that `source` names; the hub is asked what a revision means (see `resolve`)."""
    if isinstance(source, LocalSource):
        return LocalPlace(source, cache)
    if isinstance(source, UrlSource):
        return UrlPlace(source, cache, web, newest=newest)
    listing, note = resolve(source, cache, web, newest=newest, weights=weights)
    return HubPlace(source, listing, (note,) if note else (), cache, web)


def shard_names(index: File) -> list[str]:
    """The files that an index names (UsageError unless they lie beside it)."""
    shards = json.loads(index.path.read_bytes()).get("weight_map")
    names = sorted({str(n) for n in shards.values()}) if isinstance(shards, dict) else []
    wrong = next((n for n in names if not _SHARD.fullmatch(n)), None)
    if not names or wrong is not None:
        raise UsageError(f"{index.source} names {wrong or 'no file'} for weights: it can't be used")
    return names


def joint_sha256(files: list[File] | tuple[File, ...]) -> str:
    """The hash of one file; of several, the hash of the lines of names and hashes."""
    if len(files) == 1:
        return files[0].sha256
    lines = sorted(f"{file.name} {file.sha256}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _main_source(wanted: Wanted) -> Source:
    source = parse_source(wanted.source, wanted.revision)
    return source.as_folder() if isinstance(source, UrlSource) else source


def _refuse_pickled(source: Source | None) -> None:
    name = ""
    if isinstance(source, UrlSource):
        name = source.url.partition("?")[0]
    elif isinstance(source, LocalSource):
        name = source.path.name
    elif isinstance(source, HubSource):
        return
    if name.endswith(_PICKLED):
        raise UsageError(f"{source}: {SAFETENSORS_REMEDY}")


def _link(link: Path, target: Path) -> None:
    """Make `link` lead to `target`; whoever else does it at the same moment does the same."""
    if link.is_symlink() and link.readlink() == target:
        return
    temporary = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.rename(link)
