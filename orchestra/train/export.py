"""A checkpoint as a folder for others: head, config, and the upstream where the run tuned it.

    python -m orchestra.train.export --run FOLDER --checkpoint FOLDER --out DIR

What the folder holds stands in wire/weights.py; it appears whole or not at all. A program of its
own, for training too: neither the live model nor its random numbers are touched.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from orchestra import __version__
from orchestra.config.frozen import read_frozen
from orchestra.config.schema import FileConfig, HuggingFaceConfig, RunConfig
from orchestra.data.program import Outcome
from orchestra.data.program import run as run_program
from orchestra.train import checkpoint, learnt
from orchestra.train import tensors as tied
from orchestra.train.saving import Export
from orchestra.train.session import Session
from orchestra.train.weights import HEAD, UPSTREAM
from orchestra.wire import lifeline
from orchestra.wire.checkpoints import BadCheckpointError, verify
from orchestra.wire.errors import OrchestraError
from orchestra.wire.files import read_json, sha256_of, sync_folder, write_json
from orchestra.wire.folders import RunFolder
from orchestra.wire.identity import is_of_dead_writer, marked
from orchestra.wire.job import CODE
from orchestra.wire.weights import EXPORT, require_free
from orchestra.wire.work import moved_bytes

VERSION = 1
CONFIG = "config.toml"
_NAME = "orchestra export"
_LOOK_S = 1.0
_PATIENCE_S = 240.0
"""Of a run for an export that neither reads nor writes: a file system that hangs must not keep it
from ending. Less than the supervisor has for a rank that waits for it."""


def export(
    source: Path, out: Path, run: RunFolder, config: RunConfig, *, replace: bool = False
) -> dict[str, Any]:
    """Write the weights of the checkpoint folder `source` of `run` to the folder `out`.

    Of a run that averages its weights: the averages. `replace`: whatever `out` holds goes, once
    the new folder is whole.

    Returns:
        The document in its orchestra.json.

    Raises:
        ConflictError: `out` is not empty.
        BadCheckpointError: the checkpoint is damaged.
        NotFoundError, UsageError: the model that the upstream was tuned from can't be read.
        OSError, OrchestraError: `out` can't be written.
    """
    _settle(out)
    if not replace:
        require_free(out)
    try:
        manifest = verify(source)
    except BadCheckpointError as error:
        raise BadCheckpointError(
            f"{error}; choose another with --checkpoint STEP: "
            f"`orchestra checkpoints {run.id} --verify` lists the good ones"
        ) from error
    tensors = checkpoint.read_weights(source)
    with _replacing(out, replace=replace) as folder:
        shutil.copyfile(run.job.config, folder / CONFIG)
        if run.learnt.exists():
            shutil.copyfile(run.learnt, folder / learnt.FILE)
        stored, aliases = tied.without_aliases(_below(tensors, UPSTREAM, inside=False))
        (folder / HEAD).write_bytes(safetensors.torch.save(stored))
        upstream = _upstream(config, _below(tensors, UPSTREAM, inside=True), folder / UPSTREAM)
        document = {
            "version": VERSION,
            "orchestra": __version__,
            "task": config.task.kind,
            "run": {"id": run.id, "name": _said(run.identity, "name")},
            "commit": _said(run.provenance, "commit"),
            "checkpoint": {
                "step": manifest.step,
                "metric": manifest.metric,
                "score": manifest.score,
                "sha256": manifest.sha256,
            },
            "upstream": upstream,
            "aliases": aliases,
            "files": _seal(folder),
        }
        write_json(folder / EXPORT, document)
    return document


def exporter(session: Session) -> Export:
    """What exports a checkpoint folder of the session's run to its export/ folder.

    May be called in any thread, by one at a time.

    Raises (when called):
        OrchestraError: the export failed; says why.
    """
    run = session.job.run
    command = [sys.executable, "-P", "-m", "orchestra.train.export", "--run", str(run.path)]
    _settle(run.export)

    def write(folder: Path, tick: Callable[[], None]) -> None:
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        lifeline.announce(environment)
        child = subprocess.Popen(
            [*command, "--checkpoint", str(folder), "--out", str(run.export), "--replace"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        with child:
            said = _watch(child, tick)
        if child.returncode != 0:
            last = (said.strip() or f"exit code {child.returncode}").splitlines()[-1]
            raise OrchestraError(last.removeprefix(f"{_NAME}: "))

    return write


def _watch(child: subprocess.Popen[str], tick: Callable[[], None]) -> str:
    """What it said when it has ended; `tick` is called as long as it reads or writes.

    Raises:
        OrchestraError: it did not for too long and was killed.
    """
    moved, since = 0, time.monotonic()
    while True:
        try:
            return child.communicate(timeout=_LOOK_S)[1]
        except subprocess.TimeoutExpired:
            before, moved = moved, moved_bytes(child.pid)
        if moved != before:
            since = time.monotonic()
            tick()
        elif time.monotonic() - since > _PATIENCE_S:
            child.kill()
            raise OrchestraError(f"it had read and written nothing for {_PATIENCE_S:.0f} s")


def main() -> int:
    """Run the program; returns the exit code."""
    lifeline.die_with_parent()
    parser = argparse.ArgumentParser(prog=_NAME)
    parser.add_argument("--run", type=Path, required=True, metavar="FOLDER", help="run folder")
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--replace", action="store_true", help="whatever DIR holds")
    return run_program(parser, _work)


def _work(options: argparse.Namespace) -> Outcome:
    run = RunFolder(options.run)
    config, _ = read_frozen(run.job.config, Path(os.environ.get(CODE, Path.cwd())))
    out: Path = options.out.resolve()
    document = export(options.checkpoint, out, run, config, replace=options.replace)
    return Outcome({"folder": str(out), **document})


def _below(tensors: dict[str, Tensor], part: str, *, inside: bool) -> dict[str, Tensor]:
    start = f"{part}."
    if inside:
        return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
    return {k: v for k, v in tensors.items() if not k.startswith(start)}


def _upstream(config: RunConfig, tensors: dict[str, Tensor], folder: Path) -> dict[str, Any]:
    """Which upstream it is; written to `folder` if the run tuned it."""
    chosen = config.upstream
    document: dict[str, Any] = {"name": chosen.name, "tuned": bool(tensors), "untrained": []}
    if isinstance(chosen, FileConfig):
        from orchestra.upstreams.own import own_identity, save_own

        code = Path(os.environ.get(CODE, Path.cwd()))
        if tensors:
            save_own(chosen, tensors, code, folder)
        return document | own_identity(chosen, code)
    if not isinstance(chosen, HuggingFaceConfig):
        return document
    # transformers takes over a second to import: only who needs it pays.
    from orchestra.upstreams.pretrained import read_pretrained, wanted
    from orchestra.upstreams.save import save_upstream

    if tensors:
        document["untrained"] = save_upstream(chosen, tensors, folder)
    return document | read_pretrained(wanted(chosen)).identity()


def _said(path: Path, key: str) -> Any:
    """A value of a document of the run folder; None where there is no such document."""
    try:
        return read_json(path).get(key)
    except FileNotFoundError:
        return None


def _seal(folder: Path) -> dict[str, dict[str, Any]]:
    """Make all files durable; size and sha256 of each."""
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        name = path.relative_to(folder).as_posix()
        files[name] = {"size": path.stat().st_size, "sha256": sha256_of(path)}
    for path in folder.rglob("*"):
        if path.is_dir():
            sync_folder(path)
    return files


@contextlib.contextmanager
def _replacing(out: Path, *, replace: bool) -> Iterator[Path]:
    """A folder that becomes `out` at the end of the block; on an error nothing is left of it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(marked(f".{out.name}.writing"))
    try:
        temporary.mkdir()
        yield temporary
        old = _aside(out)
        if replace and out.exists():
            out.rename(old)
        temporary.rename(out)
        sync_folder(out.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _settle(out: Path) -> None:
    """Remove what dead writers of `out` left, and put back what one had just moved away."""
    if not out.parent.is_dir():
        return
    old = _aside(out)
    if old.exists() and not out.exists():
        old.rename(out)
    shutil.rmtree(old, ignore_errors=True)
    for path in out.parent.glob(f".{out.name}.writing-*"):
        if is_of_dead_writer(path.name):
            shutil.rmtree(path, ignore_errors=True)


def _aside(out: Path) -> Path:
    return out.with_name(f".{out.name}.old")


if __name__ == "__main__":
    sys.exit(main())
