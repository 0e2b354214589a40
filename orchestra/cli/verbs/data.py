"""orchestra data VERB: programs of the training plane, run as processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from orchestra.cli import options
from orchestra.cli.batch_plan import print_batch_plan
from orchestra.cli.context import workspace_of
from orchestra.cli.output import say, table
from orchestra.cli.program import run_program

HELP = """Make, prepare and check corpora; see how they are batched.

\b
Examples:
  orchestra data corpora
  orchestra data synth librispeech --root data/LibriSpeech
  orchestra data prepare librispeech --root /corpora/LibriSpeech
  orchestra data import train.csv --out data/mine --path file --text sentence
  orchestra data check --manifests /corpora/LibriSpeech/manifests
  orchestra data stats asr --set data.root=/corpora/LibriSpeech
"""
Corpus = Annotated[str, typer.Argument(metavar="CORPUS", help="See `orchestra data corpora`.")]
Force = Annotated[
    bool, typer.Option("--force", help="Replace manifests that another command made.")
]
Root = Annotated[Path, typer.Option(metavar="DIR", help="Folder of the corpus.")]

_COMMAND = "prepared_by"  # too long for a table


def corpora(context: typer.Context, json: options.Json = False) -> None:
    """List the corpora that `prepare` reads and `synth` makes.

    \b
    Examples:
      orchestra data corpora
      orchestra data corpora --json
    """
    _run("corpora", *_code(context), json=json, show=_table_of_corpora)


def synth(
    context: typer.Context,
    corpus: Corpus,
    root: Root,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Another seed, another text.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Make a corpus to try things out, in the real one's layout.
    No recordings are needed.

    That of librispeech is spoken by eSpeak NG, those of tasks are tiny.

    \b
    Examples:
      orchestra data synth librispeech --root data/LibriSpeech
      orchestra data synth librispeech --root /tmp/speech --seed 7
      orchestra data synth speech_commands --root data/ks-tiny
    """
    seeds = [] if seed is None else ["--seed", str(seed)]
    _run("synth", corpus, "--root", str(root), *seeds, *_code(context), json=json)


def prepare(
    context: typer.Context,
    corpus: Corpus,
    root: Root,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Default: manifests/ in the corpus.")
    ] = None,
    force: Force = False,
    json: options.Json = False,
) -> None:
    """Make manifests of a corpus on disk, or name all that is wrong.

    \b
    Examples:
      orchestra data prepare librispeech --root /corpora/LibriSpeech
      orchestra data prepare digits --root recordings --out data/digits
    """
    words = [] if out is None else ["--out", str(out)]
    words += [*_force(force), *_code(context)]
    _run("prepare", corpus, "--root", str(root), *words, json=json)


def import_(
    source: Annotated[
        list[Path],
        typer.Argument(metavar="FILE|DIR...", help="JSON Lines, CSV, TSV, or a Kaldi data folder."),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the manifests.")],
    split: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="One for each source, in order; default: its name."),
    ] = None,
    split_column: Annotated[
        str | None, typer.Option(metavar="COL", help="Each row's split stands in it.")
    ] = None,
    id_: Annotated[
        str | None,
        typer.Option("--id", metavar="COL", help="Ids; where there is none, made from the path."),
    ] = None,
    path: Annotated[
        str | None, typer.Option(metavar="COL", help="Paths of the recordings.")
    ] = None,
    start: Annotated[
        str | None, typer.Option(metavar="COL", help="Where an utterance begins, in seconds.")
    ] = None,
    end: Annotated[
        str | None, typer.Option(metavar="COL", help="Where it ends; empty: with the recording.")
    ] = None,
    duration: Annotated[
        str | None, typer.Option(metavar="COL", help="How long it lasts, instead of --end.")
    ] = None,
    text: Annotated[str | None, typer.Option(metavar="COL", help="Transcripts.")] = None,
    label: Annotated[str | None, typer.Option(metavar="COL", help="Classes.")] = None,
    speaker: Annotated[str | None, typer.Option(metavar="COL", help="Speakers.")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="NEW=COL", help="One more field of the manifests; repeatable."),
    ] = None,
    audio_root: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="What relative paths begin at; default: the source's folder."
        ),
    ] = None,
    force: Force = False,
    json: options.Json = False,
) -> None:
    """Make manifests of your own data, or name all that is wrong.
    Nothing is written then.

    A column called id, path, start, end, text, label or speaker is what it says; any other one is
    taken where an option names it. The same command again makes its manifests anew.

    \b
    Examples:
      orchestra data import train.jsonl dev.jsonl --out data/mine
      orchestra data import all.csv --out data/mine --split-column set
      orchestra data import words.tsv --out data/words --column accent=accents
      orchestra data import nemo.jsonl --out data/mine --path audio_filepath
      orchestra data import kaldi/data/train --out data/mine --audio-root kaldi
    """
    named: dict[str, str | Path | None] = {
        "--id": id_,
        "--path": path,
        "--start": start,
        "--end": end,
        "--duration": duration,
        "--text": text,
        "--label": label,
        "--speaker": speaker,
        "--split-column": split_column,
        "--audio-root": None if audio_root is None else audio_root.absolute(),
    }
    words = [f"{option}={value}" for option, value in named.items() if value is not None]
    words += [f"--split={name}" for name in split or ()]
    words += [f"--column={text}" for text in column or ()]
    # Absolute: the manifests remember the command.
    sources = [str(each.absolute()) for each in source]
    _run("import_corpus", *sources, f"--out={out.absolute()}", *words, *_force(force), json=json)


def check(
    manifests: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the manifests.")],
    split: Annotated[
        list[str] | None, typer.Option(metavar="S", help="Only this one; repeatable.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Decode every recording of the manifests, name what is corrupt.

    \b
    Examples:
      orchestra data check --manifests data/LibriSpeech/manifests
      orchestra data check --manifests data/digits --split test
    """
    splits = [word for name in split or () for word in ("--split", name)]
    _run("check", "--manifests", str(manifests), *splits, json=json)


def stats(
    context: typer.Context,
    task: Annotated[str, typer.Argument(metavar="TASK", help="See `orchestra tasks`.")],
    upstream: options.Upstream = None,
    preset: options.Presets = None,
    set_: options.Sets = None,
    gpus: options.Gpus = None,
    gpu_ids: options.GpuIds = None,
    cpu: options.Cpu = False,
    nproc: options.Nproc = None,
    seed: options.Seed = None,
    json: options.Json = False,
) -> None:
    """Show how `run` with the same options would make batches.
    It starts nothing.

    \b
    Examples:
      orchestra data stats asr --set data.root=/corpora/LibriSpeech
      orchestra data stats asr -p asr-demo --set batch.max_micro_seconds=30
      orchestra data stats asr --gpus 4 --json | jq .padding
    """
    from tempfile import TemporaryDirectory

    from orchestra.config.compose import compose
    from orchestra.schedule.submission import Submission, launch_values, seed_value

    workspace = workspace_of(context)
    given = launch_values(gpus=gpus, gpu_ids=gpu_ids, cpu=cpu, nproc=nproc)
    given += seed_value(seed)
    submission = Submission(task, tuple(preset or ()), upstream, given, tuple(set_ or ()))
    composed = compose(submission.request(workspace.root))
    for note in composed.notes:
        say(f"note: {note}")
    with TemporaryDirectory(prefix="orchestra-") as folder:
        config = Path(folder) / "config.toml"
        config.write_bytes(composed.toml)
        code = str(workspace.root)
        _run("stats", "--config", str(config), "--code", code, json=json, show=print_batch_plan)


def _force(force: bool) -> list[str]:
    return ["--force"] if force else []


def _code(context: typer.Context) -> list[str]:
    """Where the workspace's tasks are; outside of any the built-in ones serve."""
    from orchestra.wire.errors import NotFoundError

    try:
        return ["--code", str(workspace_of(context).root)]
    except NotFoundError:
        if context.obj.workspace is not None:
            raise
        return []


def _run(
    program: str,
    *arguments: str,
    json: bool,
    show: Callable[[dict[str, Any]], None] | None = None,
) -> NoReturn:
    """Run a program of orchestra.data; `show` prints what is not a table of splits."""
    import sys

    command = [sys.executable, "-P", "-m", f"orchestra.data.{program}", *arguments]
    run_program(command, json=json, show=show or _table_of_splits)


def _table_of_splits(document: dict[str, Any]) -> None:
    """A row per split; a list, such as its problems, as its length.

    None where nothing was written: why is on stderr already.
    """
    rows = [
        {"split": name, **{key: _cell(cell) for key, cell in split.items() if key != _COMMAND}}
        for name, split in document.get("splits", {}).items()
    ]
    table(rows, right=[key for row in rows[:1] for key in row if key != "split"])


def _table_of_corpora(document: dict[str, Any]) -> None:
    table(
        [
            {
                "corpus": corpus["name"],
                "task": corpus["task"] or "",
                "synth": "yes" if corpus["synth"] else "",
                "what": corpus["help"],
            }
            for corpus in document["corpora"]
        ]
    )


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return str(len(value))
    return f"{value:.1f}" if isinstance(value, float) else str(value)


VERBS = {
    "corpora": corpora,
    "synth": synth,
    "prepare": prepare,
    "import": import_,
    "check": check,
    "stats": stats,
}
