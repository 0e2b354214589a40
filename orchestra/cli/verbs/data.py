"""orchestra data synth|prepare|check: programs of the training plane, run as processes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from orchestra.wire.exit_codes import ExitCode

HELP = """Make, prepare and check corpora.

\b
Examples:
  orchestra data synth librispeech --root data/LibriSpeech
  orchestra data prepare librispeech --root /corpora/LibriSpeech
  orchestra data check --manifests /corpora/LibriSpeech/manifests
"""
Corpus = Annotated[str, typer.Argument(metavar="CORPUS")]
Seed = Annotated[int | None, typer.Option(metavar="N", help="Another seed, another text.")]
Root = Annotated[Path, typer.Option(metavar="DIR", help="Folder of the corpus.")]


def synth(
    corpus: Corpus,
    root: Root,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Another seed, another text.")
    ] = None,
) -> None:
    """Make a spoken corpus with eSpeak NG voices in LibriSpeech's folder layout.

    \b
    Examples:
      orchestra data synth librispeech --root data/LibriSpeech
      orchestra data synth librispeech --root /tmp/speech --seed 7
    """
    seeds = [] if seed is None else ["--seed", str(seed)]
    _run("synth", corpus, "--root", str(root), *seeds)


def prepare(
    corpus: Corpus,
    root: Root,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Default: manifests/ in the corpus.")
    ] = None,
) -> None:
    """Make manifests of a corpus on disk; every file is checked, what is missing is named.

    \b
    Examples:
      orchestra data prepare librispeech --root /corpora/LibriSpeech
      orchestra data prepare digits --root recordings --out data/digits
    """
    folder = [] if out is None else ["--out", str(out)]
    _run("prepare", corpus, "--root", str(root), *folder)


def check(
    manifests: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the manifests.")],
    split: Annotated[
        list[str] | None, typer.Option(metavar="S", help="Only this one; repeatable.")
    ] = None,
) -> None:
    """Decode every recording of the manifests; corrupt ones are named.

    \b
    Examples:
      orchestra data check --manifests data/LibriSpeech/manifests
      orchestra data check --manifests data/digits --split test
    """
    splits = [word for name in split or () for word in ("--split", name)]
    _run("check", "--manifests", str(manifests), *splits)


def _run(program: str, *arguments: str) -> NoReturn:
    """Run a program of orchestra.data; its JSON result is our stdout.

    Ctrl-C reaches it too: it ends by itself and its exit code is passed on.
    """
    import subprocess
    import sys

    from orchestra.cli.interrupts import Interrupts

    command = [sys.executable, "-m", f"orchestra.data.{program}", *arguments]
    with Interrupts():
        code = subprocess.run(command, check=False).returncode
    if code == ExitCode.INTERRUPTED or 0 <= code < ExitCode.TIMEOUT:
        raise typer.Exit(code)
    raise typer.Exit(ExitCode.FAILED)


VERBS = {"synth": synth, "prepare": prepare, "check": check}
