"""What huggingface_hub's own cache has of a model. Nothing is written there."""

from __future__ import annotations

from pathlib import Path

from orchestra.fetch.listing import SMALL_FILES, HubFile, Listing
from orchestra.wire.sources import is_commit

_IN_EVERY_MODEL = ".gitattributes"
"""Nobody asks for it alone: where it is, the whole commit was downloaded."""


def client_copy(listing: Listing, name: str) -> Path | None:
    """A file as huggingface_hub's own cache has it, not verified; None if it has not."""
    path = _client_folder(listing.repo) / "snapshots" / listing.commit / name
    return path if path.is_file() else None


def kept_by_the_client(repo: str, revision: str) -> Listing | None:
    """What `hf download` or transformers have left there, where that is surely all of it.

    A file that is not there may never have been asked for: a model must not lose its preprocessor
    by that.
    """
    folder = _client_folder(repo)
    if not is_commit(revision):
        try:
            revision = (folder / "refs" / revision).read_text().strip()
        except OSError:
            return None
    snapshot = folder / "snapshots" / revision
    if not is_commit(revision) or not snapshot.is_dir():
        return None
    there = {path.name: _named(path) for path in snapshot.iterdir() if path.is_file()}
    absent = folder / ".no_exist" / revision
    is_whole = _IN_EVERY_MODEL in there or all(
        name in there or (absent / name).exists() for name in SMALL_FILES
    )
    listing = Listing(repo, revision, there)
    return listing if is_whole and listing.has_weights and "config.json" in there else None


def _named(path: Path) -> HubFile:
    """The client's blobs are called by their hashes: sha256 of large files, git's of small ones."""
    name = path.readlink().name if path.is_symlink() else ""
    sha256 = name if len(name) == 64 else None
    git_hash = name if len(name) == 40 else None
    return HubFile(path.stat().st_size, sha256, git_hash)


def _client_folder(repo: str) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / ("models--" + repo.replace("/", "--"))
