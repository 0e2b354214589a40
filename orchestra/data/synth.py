"""Make a corpus to try things out: `python -m orchestra.data.synth CORPUS --root DIR`.

librispeech is spoken here, in its own layout; all others are made by the tasks that know them (see
`corpora`). It never touches a folder that holds anything but its own corpus, finished or not.
What was interrupted is continued: whole chapters are renamed into place, one process each; a tiny
corpus is made again.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from orchestra.data import corpora, program
from orchestra.data.audio import read_header
from orchestra.data.owned import own_folder
from orchestra.data.synth_espeak import EspeakFiles, locate_espeak
from orchestra.data.synth_speech import (
    Amount,
    Chapter,
    chapters_of,
    write_chapter,
)
from orchestra.data.synth_voices import speaker_voice
from orchestra.wire import lifeline
from orchestra.wire.builtin import builtin_folder
from orchestra.wire.errors import DataError, OrchestraError
from orchestra.wire.files import write_atomic

VERSION = 1
"""Raise it whenever the same seed gives other bytes."""

MARKER = "synth.json"
DEFAULT_SEED = 1

AMOUNTS: Mapping[str, Amount] = {
    "train-clean-100": Amount(speakers=40, chapters=2, utterances=11, long_every=80),
    "dev-clean": Amount(speakers=5, chapters=1, utterances=12, long_every=20),
    "test-clean": Amount(speakers=16, chapters=1, utterances=8, long_every=20),
    "test-other": Amount(speakers=6, chapters=1, utterances=10, long_every=20),
}
"""Less than one hour in all, so that the demo learns it in minutes on two cores."""


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="data synth", description="Make a corpus to try things out."
    )
    parser.add_argument("corpus", help="librispeech, or one of a task")
    parser.add_argument("--root", type=Path, required=True, help="folder of the corpus")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="another seed, another text")
    parser.add_argument(
        "--code", type=Path, default=builtin_folder(), help="folder of the tasks' code"
    )
    return program.run(parser, _work, argv)


def _work(arguments: argparse.Namespace) -> program.Outcome:
    root = arguments.root.absolute()
    if arguments.corpus == "librispeech":
        return program.Outcome(synthesise(root, arguments.seed))
    found = corpora.find_corpora(arguments.code)
    corpus = found.corpora.get(arguments.corpus)
    if corpus is None or corpus.make is None:
        raise corpora.unknown(arguments.corpus, found, synth=True)
    return program.Outcome(make_tiny(corpus, corpus.make, root, arguments.seed))


def make_tiny(corpus: corpora.Corpus, make: corpora.Maker, root: Path, seed: int) -> dict[str, Any]:
    """Let a task make its tiny corpus below `root`; returns what the task reads of it.

    Raises:
        ConflictError: `root` holds something else, or another process is writing to it.
        DataError: the task can't read what it made.
    """
    identity = {"made_by": f"data synth {corpus.name}", "seed": seed}
    with own_folder(root, MARKER, identity) as folder:
        if folder.is_complete():
            program.say(f"{root}: the corpus is already complete")
        else:
            folder.mark(complete=False)
            make(root, seed)
            folder.mark(complete=True)
    prepared = corpus.prepare(root, root)
    for problem in corpora.faults(prepared):
        raise DataError(f"task {corpus.task!r} can't read the corpus it made: {problem}")
    splits = {
        split: _counted([float(line["duration_s"]) for line in lines])
        for split, lines in prepared.splits.items()
    }
    return {"root": str(root), "seed": seed, "splits": splits}


def synthesise(
    root: Path, seed: int = DEFAULT_SEED, amounts: Mapping[str, Amount] = AMOUNTS
) -> dict[str, Any]:
    """Speak what is missing below `root`; returns what the corpus holds.

    Raises:
        ConflictError: `root` holds something else, or another process is writing to it.
        OrchestraError: eSpeak NG is missing or fails.
    """
    espeak = locate_espeak()
    identity = {
        "made_by": "data synth librispeech",
        "version": VERSION,
        "seed": seed,
        "amounts": hashlib.sha256(repr(sorted(amounts.items())).encode()).hexdigest()[:12],
    }
    chapters = [c for split, amount in amounts.items() for c in chapters_of(seed, split, amount)]
    with own_folder(root, MARKER, identity) as folder:
        todo = [chapter for chapter in chapters if not _is_whole(root, chapter)]
        if todo or not folder.is_complete():
            folder.mark(complete=False)
            _speak_all(root, todo, espeak)
            _write_speakers(root, chapters)
            folder.mark(complete=True)
        else:
            program.say(f"{root}: the corpus is already complete")
    return {"root": str(root), "seed": seed, "splits": _measure(root, chapters)}


def _is_whole(root: Path, chapter: Chapter) -> bool:
    return all((root / chapter.folder / name).is_file() for name in chapter.file_names())


def _speak_all(root: Path, chapters: Sequence[Chapter], espeak: EspeakFiles) -> None:
    workers = len(os.sched_getaffinity(0))
    running: dict[Connection, tuple[BaseProcess, Chapter]] = {}
    waiting = list(reversed(chapters))
    done = 0
    lifeline.announce(os.environ)
    try:
        while running or waiting:
            while waiting and len(running) < workers:
                chapter = waiting.pop()
                with _interrupts_held():
                    process, connection = _start(root, chapter, espeak)
                    running[connection] = (process, chapter)
            for ready in wait(list(running)):
                assert isinstance(ready, Connection)
                process, chapter = running.pop(ready)
                _finish(process, ready, chapter)
                done += 1
                if done % 10 == 0 or done == len(chapters):
                    program.say(f"spoke {done} of {len(chapters)} chapters")
    finally:
        for process, _ in running.values():
            process.kill()
            process.join()


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C waits until a new process is on the list; the process itself never sees it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(root: Path, chapter: Chapter, espeak: EspeakFiles) -> tuple[BaseProcess, Connection]:
    """A new process for each chapter: eSpeak's state must not pass from one to the next."""
    # fork: no other thread runs here, and an interpreter start per chapter would double the time.
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_chapter_process, args=(root, chapter, espeak, sender))
    process.start()
    sender.close()
    return process, receiver


def _chapter_process(root: Path, chapter: Chapter, espeak: EspeakFiles, sender: Connection) -> None:
    lifeline.die_with_parent()
    try:
        write_chapter(root, chapter, espeak)
    except (OrchestraError, OSError) as error:
        sender.send(str(error))
    else:
        sender.send("")


def _finish(process: BaseProcess, receiver: Connection, chapter: Chapter) -> None:
    try:
        problem = receiver.recv()
    except EOFError:
        process.join()
        problem = f"its process ended with {process.exitcode}"
    process.join()
    if problem:
        raise OrchestraError(f"chapter {chapter.folder} was not written: {problem}")


def _write_speakers(root: Path, chapters: Collection[Chapter]) -> None:
    """SPEAKERS.TXT as LibriSpeech has it: id, sex, subset, minutes, name."""
    voices = {(c.speaker_id, c.split): speaker_voice(c.split, c.speaker) for c in chapters}
    lines = [";ID  |SEX| SUBSET           | NAME\n"]
    lines += [
        f"{id_:<5}| - | {split:<16} | eSpeak NG {voice}\n" for (id_, split), voice in voices.items()
    ]
    write_atomic(root / "SPEAKERS.TXT", "".join(lines).encode())


def _measure(root: Path, chapters: Collection[Chapter]) -> dict[str, dict[str, float]]:
    """Count and seconds per split."""
    durations: dict[str, list[float]] = {}
    for chapter in chapters:
        files = [name for name in chapter.file_names() if name.endswith(".flac")]
        seconds = [read_header(root / chapter.folder / name).duration_s for name in files]
        durations.setdefault(chapter.split, []).extend(seconds)
    return {split: _counted(seconds) for split, seconds in durations.items()}


def _counted(durations_s: Sequence[float]) -> dict[str, float]:
    return {
        "utterances": len(durations_s),
        "seconds": round(sum(durations_s), 2),
        "longest_s": round(max(durations_s), 2),
    }


if __name__ == "__main__":
    sys.exit(main())
