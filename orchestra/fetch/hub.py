"""What the hub knows of a model: which commit a name means, and its files with size and hash.

huggingface_hub asks; the answers for a commit never change and are kept, so that a pinned model
needs no network again. Pickled weights are never fetched: for a model that has no others, the hub's
own conversion (an open pull request of its converter that has the same pickled weights) is taken.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, TypeVar

from orchestra.fetch.cache import Cache, key_of
from orchestra.fetch.client_cache import kept_by_the_client
from orchestra.fetch.listing import HubFile, Listing
from orchestra.fetch.offline import hub_endpoint, hub_token, offline_switch, refuse_offline
from orchestra.fetch.retry import TransientError
from orchestra.fetch.web import BUSY, Web, retry_after_s
from orchestra.wire.errors import NotFoundError, OrchestraError, UsageError
from orchestra.wire.sources import HubSource, is_commit, without_secrets

Result = TypeVar("Result")

GATED = "GatedRepo"
"""What the hub calls a model that one must first agree to something for."""
MAIN = "main"

#: Title and author of its pull requests, as transformers looks for them.
_CONVERSION = ("Adding `safetensors` variant of this model", "SFconvertbot")


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
        return kept_by_the_client(self._repo, revision)

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
        if not is_commit(info.sha or ""):
            raise _RefusedError(
                f"{without_secrets(hub_endpoint())} names no commit for {self._repo}: is "
                "HF_ENDPOINT right?"
            )
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
        found = self._conversion(listing) if self._revision == MAIN else None
        if found is not None:
            return replace(found, converted=True)
        raise UsageError(
            f"{self._source} has no model.safetensors (at commit {listing.commit[:12]}), and "
            "pickled weights are never loaded: convert them with transformers' save_pretrained "
            "and give the folder, ask the hub for a conversion (its Space safetensors/convert), "
            "or set upstream.revision to a revision that has model.safetensors"
        )

    def _conversion(self, listing: Listing) -> Listing | None:
        """The open pull request of the hub's converter that adds safetensors to these very files.

        Whatever main got since beside them (a README, often) does not matter.
        """
        title, author = _CONVERSION

        def numbers() -> list[int]:
            discussions = self._api().get_repo_discussions(
                self._repo, discussion_type="pull_request", discussion_status="open"
            )
            return [int(d.num) for d in discussions if (d.title, d.author) == (title, author)]

        for number in self._asked(numbers):
            found = self.ask(f"refs/pr/{number}")
            if found.has_weights and found.has_what_matters_of(listing):
                return found
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
            raise _RefusedError(consent(self._repo)) from error
        except RepositoryNotFoundError as error:
            raise _RefusedError(
                f"the hub has no model {self._repo!r} that you may read{login}"
            ) from error
        except (ValueError, TypeError, KeyError) as error:
            raise _RefusedError(
                f"{without_secrets(hub_endpoint())} does not answer as a hub does for "
                f"{self._repo}: is HF_ENDPOINT right? ({type(error).__name__})"
            ) from error
        except HfHubHTTPError as error:
            status = error.response.status_code
            if status in BUSY:
                pause_s = retry_after_s(error.response.headers)
                raise TransientError(f"status {status}", pause_s) from error
            sentence = f"the hub answers with status {status} for {self._repo}"
            if status in (401, 403):
                hint = login or ": is the token in HF_TOKEN right?"
                raise _RefusedError(sentence + hint) from error
            raise NotFoundError(sentence) from error

    def _key(self, name: str) -> str:
        return key_of(hub_endpoint(), self._repo, name)


def consent(repo: str) -> str:
    """What to do about a gated model."""
    return (
        f"the hub's {repo} asks for consent first: give it on the model's page, and set HF_TOKEN "
        "to a token of the account that gave it"
    )


def file_url(listing: Listing, name: str) -> str:
    """Where the hub serves a file of a commit."""
    from huggingface_hub import hf_hub_url

    return hf_hub_url(listing.repo, name, revision=listing.commit, endpoint=hub_endpoint())
