"""What a run's pretrained upstream is, asked of a process of the training plane.

Before a run is queued its files are fetched, so that no rank waits for a network.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestra.config.pinning import pinned
from orchestra.config.schema import FileConfig, HuggingFaceConfig, UpstreamConfig
from orchestra.formats import size
from orchestra.schedule.spawn import own_environment
from orchestra.wire import lifeline
from orchestra.wire.errors import ConflictError, NotFoundError, OrchestraError, UsageError
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.files import read_json
from orchestra.wire.folders import RunFolder
from orchestra.wire.terminal import clean

if TYPE_CHECKING:
    from orchestra.config.compose import Composed
    from orchestra.schedule.preflight import Finding

#: Seconds. A server that does not answer is given up much sooner; to hash a large folder on a slow
#: disk, which is done once, takes minutes.
DESCRIBE_LIMIT_S = 600.0
_KEPT = ("source", "commit", "files", "folder", "notes")
_MODULE = "orchestra.upstreams.describe"
_PREFIX = f"python -m {_MODULE}: "


def describe(
    upstream: HuggingFaceConfig | FileConfig, code: Path, *, newest: bool
) -> dict[str, Any]:
    """The model as `orchestra.upstreams.describe` prints it; its weights are not fetched.

    Args:
        code: the folder that a user's own file lies in.
        newest: what branches and URLs give now; else, for a run that goes on, what they gave last.

    Raises:
        OrchestraError: it can't be reached or used.
    """
    try:
        done = subprocess.run(
            [*command(upstream, code), *(["--newest"] if newest else [])],
            capture_output=True,
            text=True,
            timeout=DESCRIBE_LIMIT_S,
            check=False,
            env=_environment(),
        )
    except subprocess.TimeoutExpired as error:
        is_own = isinstance(upstream, FileConfig)
        remedy = "look at what it does at its start" if is_own else "download it, give its folder"
        raise NotFoundError(
            f"no answer about {upstream.source} in {DESCRIBE_LIMIT_S:g} s; {remedy}"
        ) from error
    if done.returncode != 0:
        raise _error(done.stderr.splitlines(), done.returncode)
    return _document(done.stdout)


def fetch(
    upstream: HuggingFaceConfig, say: Callable[[str], None], *, newest: bool = False
) -> dict[str, Any]:
    """The same with all of its files on this machine; `say` takes what is told on the way.

    Raises:
        OrchestraError: it can't be had, or there is no room for it.
        KeyboardInterrupt: the user does not want to wait; what has come is kept.
    """
    lines: list[str] = []
    words = [*command(upstream), "--weights", *(["--newest"] if newest else [])]
    with (
        # Not a pipe, which a long answer fills while its stderr is read.
        tempfile.TemporaryFile("w+", encoding="utf-8") as answer,
        subprocess.Popen(
            words, stdout=answer, stderr=subprocess.PIPE, text=True, env=_environment()
        ) as process,
    ):
        assert process.stderr is not None
        try:
            for line in process.stderr:
                lines.append(line)
                if not line.startswith(_PREFIX):
                    say(line.rstrip("\n"))
            process.wait()
        except BaseException:
            process.kill()
            raise
        answer.seek(0)
        document = answer.read()
    if process.returncode == ExitCode.INTERRUPTED:
        raise KeyboardInterrupt
    if process.returncode != 0:
        raise _error(lines, process.returncode)
    return _document(document)


def with_upstream(
    composed: Composed, findings: Sequence[Finding], tell: Callable[[str], None] | None
) -> tuple[Composed, dict[str, Any] | None]:
    """`composed` with the sources of its pretrained upstream pinned, and what it is, to be kept.

    With `tell` its weights are fetched first, if they are not here (errors as `fetch`).
    """
    model = next((finding.model for finding in findings if finding.model is not None), None)
    upstream = composed.config.upstream
    if model is None or not isinstance(upstream, HuggingFaceConfig):
        return composed, None
    composed = pinned(composed, model["pins"], tuple(model["notes"]))
    if tell is not None and model["files"] is None:
        tell(f"upstream {sentence(upstream, model)}")
        assert isinstance(composed.config.upstream, HuggingFaceConfig)
        model = fetch(composed.config.upstream, tell)
        composed = pinned(composed, model["pins"])
    return composed, {key: model[key] for key in _KEPT}


def fetch_missing(
    run: RunFolder,
    upstream: UpstreamConfig,
    findings: Sequence[Finding],
    tell: Callable[[str], None],
) -> None:
    """For a job of a run that has its config: what was removed from the cache since comes again.

    Raises:
        ConflictError: it is another model than the run was made with, as a folder's may be by now.
        OrchestraError: see `fetch`.
    """
    model = next((finding.model for finding in findings if finding.model is not None), None)
    if model is None or not isinstance(upstream, HuggingFaceConfig):
        return
    if model["files"] is None:
        model = fetch(upstream, tell)
    recorded = read_json(run.provenance).get("upstream") or {"files": []}
    now = {file["name"]: file["sha256"] for file in model["files"]}
    for file in recorded["files"]:
        if now.get(file["name"]) != file["sha256"]:
            raise ConflictError(
                f"upstream {upstream.name!r}: {file['name']} of {upstream.source} is not what run "
                f"{run.id} was made with (sha256 {file['sha256']}): put that back, or start a new "
                "run"
            )


def command(upstream: HuggingFaceConfig | FileConfig, code: Path = Path()) -> list[str]:
    """The program that describes it."""
    words = [sys.executable, "-P", "-m", _MODULE, upstream.source]
    if isinstance(upstream, FileConfig):
        options = json.dumps(upstream.options)
        return [*words, "--code", str(code), "--key", upstream.key, "--options", options]
    if upstream.revision is not None:
        words += ["--revision", upstream.revision]
    for part, source in _parts(upstream).items():
        words += [f"--{part}-from", source]
    return words


def sentence(upstream: HuggingFaceConfig | FileConfig, model: Mapping[str, Any]) -> str:
    """The model in one line, for people."""
    said = f"{upstream.name} = {upstream.source}"
    shape = f", {model['layers']} hidden states of {model['dim']}"
    if isinstance(upstream, FileConfig):
        return said + shape
    if upstream.shadows is not None:
        said += f" in the place of {upstream.shadows}"
    if model["commit"] is not None:
        said += f" at commit {model['commit'][:12]}"
    for part, source in _parts(upstream).items():
        said += f", {part} from {source}"
    said += shape
    if model["files"] is None:
        count = model["missing_bytes"]
        said += f", {size(count) if count else 'weights'} to download"
    return said


def _environment() -> dict[str, str]:
    """Whatever ends this process ends the program too; and it is no rank, which fetches nothing."""
    environment = own_environment()
    lifeline.announce(environment)
    return environment


def _parts(upstream: HuggingFaceConfig) -> dict[str, str]:
    return upstream.parts.model_dump(exclude_none=True) if upstream.parts is not None else {}


def _error(lines: list[str], code: int) -> OrchestraError:
    """What the program says at last, as an error of the kind that it ended with."""
    said = lines[-1].strip() if lines else f"exit code {code}"
    kinds = {ExitCode.NOT_FOUND: NotFoundError, ExitCode.USAGE: UsageError}
    kind = next((kind for known, kind in kinds.items() if known == code), OrchestraError)
    return kind(clean(said.removeprefix(_PREFIX)))


def _document(text: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(text)
    return document
