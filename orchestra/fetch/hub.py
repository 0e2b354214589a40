"""What the hub knows of a model: which commit a name means, and its files with size and hash.

huggingface_hub asks; the answers for a commit never change and are kept, so that a pinned model
needs no network again. Pickled weights are never fetched: for a model that has no others, the hub's
own conversion (an open pull request of its converter, on top of this very commit) is taken.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from orchestra.fetch.cache import Cache, key_of
from orchestra.fetch.offline import hub_endpoint, hub_token, offline_switch, refuse_offline
from orchestra.fetch.retry import TransientError
from orchestra.fetch.web import Web
from orchestra.wire.errors import NotFoundError, OrchestraError, UsageError
from orchestra.wire.sources import HubSource, is_commit

Result = TypeVar("Result")

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
MAIN = "main"

_SMALL_FILES = ("config.json", "preprocessor_config.json")
_IN_EVERY_MODEL = ".gitattributes"
"""Nobody asks for it alone: where it is, the whole commit was downloaded."""

#: As transformers looks for it.
_CONVERSION = ("Adding `safetensors` variant of this model", "SFconvertbot")


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


def resolve(
    source: HubSource, cache: Cache, web: Web, *, newest: bool, weights: bool
) -> tuple[Listing, str | None]:
    """The commit that `source` means, and a sentence to say aloud.

    Args:
        newest: ask the hub what a branch or tag means now; else what it meant when it was asked
            last, if anybody did.
        weights: the model's weights will be wanted.

    Raises:
        NotFoundError: no such model or revision, or it can't be reached and nothing is kept.
        UsageError: it has pickled weights only.
    """
    hub = _Hub(source, cache, web)
    kept = hub.kept()
    if kept is not None and (source.is_pinned or not newest):
        return kept, None
    note = None
    try:
        refuse_offline(str(source), f"`orchestra fetch {source}`")
        listing = hub.ask(source.revision)
        if weights and not listing.has_weights:
            listing = hub.converted(listing)
            note = (
                f"{source.repo} has pickled weights only: the hub's own conversion of them, "
                f"commit {listing.commit[:12]}, is used"
            )
        hub.keep(listing)
    except NotFoundError as error:
        if kept is None or isinstance(error, _RefusedError):
            raise
        why = offline_switch() or "the hub can't be reached"
        return kept, f"{why}: {source} is taken to be commit {kept.commit}, as fetched last"
    return listing, note


class _RefusedError(NotFoundError):
    """The hub has answered: there is no such thing, or not for this user."""


class _Hub:
    def __init__(self, source: HubSource, cache: Cache, web: Web) -> None:
        self._source = source
        self._repo = source.repo
        self._revision = source.revision or MAIN
        self._cache = cache
        self._web = web

    def kept(self) -> Listing | None:
        """What is known without the network: from our cache, or the hub client's own."""
        revision = self._revision
        if not is_commit(revision):
            named = self._cache.read("hub", self._key(f"name {revision}"), "commit")
            revision = named["commit"] if named is not None else revision
        known = self._cache.read("hub", self._key(revision), "commit", "files", "converted")
        if known is not None:
            files = {name: HubFile(**file) for name, file in known["files"].items()}
            return Listing(self._repo, known["commit"], files, known["converted"])
        return _kept_by_the_client(self._repo, revision)

    def keep(self, listing: Listing) -> None:
        """A cache that can't be written is told of when a file has to go there."""
        with contextlib.suppress(OrchestraError):
            self._keep(listing)

    def _keep(self, listing: Listing) -> None:
        files = {name: asdict(file) for name, file in listing.files.items()}
        document = {"commit": listing.commit, "converted": listing.converted, "files": files}
        self._cache.write("hub", self._key(listing.commit), document)
        if not is_commit(self._revision):
            named = {"commit": listing.commit}
            self._cache.write("hub", self._key(f"name {self._revision}"), named)

    def ask(self, revision: str | None) -> Listing:
        """From the hub, with the size and hash of each file."""

        def work() -> Any:
            return self._api().model_info(self._repo, revision=revision, files_metadata=True)

        info = self._asked(work)
        files = {
            sibling.rfilename: HubFile(
                sibling.size,
                sibling.lfs.sha256 if sibling.lfs is not None else None,
                sibling.blob_id if sibling.lfs is None else None,
            )
            for sibling in info.siblings or ()
        }
        return Listing(self._repo, info.sha, files)

    def converted(self, listing: Listing) -> Listing:
        """The hub's own conversion of the pickled weights of `listing`."""
        if self._revision == MAIN:
            number = self._asked(lambda: self._conversion(listing.commit))
            if number is not None:
                found = self.ask(f"refs/pr/{number}")
                if found.has_weights:
                    return Listing(found.repo, found.commit, found.files, converted=True)
        raise UsageError(
            f"{self._source} has no model.safetensors (at commit {listing.commit[:12]}), and "
            "pickled weights are never loaded: convert them with transformers' save_pretrained "
            "and give the folder, ask the hub for a conversion (its Space safetensors/convert), "
            "or set upstream.revision to a revision that has model.safetensors"
        )

    def _conversion(self, commit: str) -> int | None:
        """The number of the open pull request of the hub's converter on top of `commit`."""
        api = self._api()
        title, author = _CONVERSION
        for found in api.get_repo_discussions(self._repo, discussion_type="pull_request"):
            if (found.title, found.author, found.status) != (title, author, "open"):
                continue
            commits = api.list_repo_commits(self._repo, revision=f"refs/pr/{found.num}")
            if [item.commit_id for item in commits[1:2]] == [commit]:
                return int(found.num)
        return None

    def _api(self) -> Any:
        """The hub's client; of itself it would wait for an answer without end."""
        from huggingface_hub import HfApi, set_client_factory

        set_client_factory(self._web.new_client)
        return HfApi(endpoint=hub_endpoint(), token=hub_token() or False)

    def _asked(self, work: Callable[[], Result]) -> Result:
        return self._web.patiently(f"the hub's {self._source}", lambda: self._told(work))

    def _told(self, work: Callable[[], Result]) -> Result:
        """`work()`; the client's errors as ours."""
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            HFValidationError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        login = "" if hub_token() else " (a token in HF_TOKEN may help)"
        try:
            return work()
        except HFValidationError as error:
            raise _RefusedError(f"{self._repo!r} is neither a folder nor a hub id") from error
        except RevisionNotFoundError as error:
            raise _RefusedError(
                f"the hub's {self._repo} has no revision {self._revision!r}"
            ) from error
        except GatedRepoError as error:
            raise _RefusedError(
                f"the hub's {self._repo} asks for consent first: give it on the model's page, and "
                "set HF_TOKEN"
            ) from error
        except RepositoryNotFoundError as error:
            raise _RefusedError(
                f"the hub has no model {self._repo!r} that you may read{login}"
            ) from error
        except (ValueError, TypeError, KeyError) as error:
            raise _RefusedError(
                f"{hub_endpoint()} does not answer as a hub does for {self._repo}: is HF_ENDPOINT "
                f"right? ({type(error).__name__})"
            ) from error
        except HfHubHTTPError as error:
            status = error.response.status_code
            if status == 429 or status >= 500:
                raise TransientError(f"status {status}") from error
            raise NotFoundError(f"the hub answers with status {status} for {self._repo}") from error

    def _key(self, name: str) -> str:
        return key_of(hub_endpoint(), self._repo, name)


def file_url(listing: Listing, name: str) -> str:
    """Where the hub serves a file of a commit."""
    from huggingface_hub import hf_hub_url

    return hf_hub_url(listing.repo, name, revision=listing.commit, endpoint=hub_endpoint())


def client_copy(listing: Listing, name: str) -> Path | None:
    """A file as huggingface_hub's own cache has it, not verified; None if it has not."""
    path = _client_folder(listing.repo) / "snapshots" / listing.commit / name
    return path if path.is_file() else None


def _kept_by_the_client(repo: str, revision: str) -> Listing | None:
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
        name in there or (absent / name).exists() for name in _SMALL_FILES
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
