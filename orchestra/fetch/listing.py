"""The files of one commit of the hub, as its listing and our cache have them. No I/O."""

from __future__ import annotations

from dataclasses import dataclass

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
SMALL_FILES = ("config.json", "preprocessor_config.json")
_PICKLED = (".bin", ".bin.index.json")


@dataclass(frozen=True)
class HubFile:
    """A file of one commit; one of the hashes is known."""

    size: int | None
    sha256: str | None
    git_hash: str | None


@dataclass(frozen=True)
class Listing:
    """The files of one commit."""

    repo: str
    commit: str
    files: dict[str, HubFile]
    converted: bool = False
    """Whether it is the hub's own conversion of pickled weights, not yet merged."""

    @property
    def has_weights(self) -> bool:
        return any(name in self.files for name in WEIGHTS)

    def has_what_matters_of(self, other: Listing) -> bool:
        """Whether the JSON files and the pickled weights of `other` are here too, unchanged."""
        names = [n for n in other.files if n in SMALL_FILES or n.endswith(_PICKLED)]
        return all(self.files.get(name) == other.files[name] for name in names)
