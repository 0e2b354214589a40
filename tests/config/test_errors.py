"""Every mistake is told at once: with its key, its place and the nearest valid name."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestra.config.compose import ConfigErrors, Flag, Request, compose
from orchestra.wire.errors import NotFoundError, UsageError
from orchestra.wire.exit_codes import ExitCode

from .conftest import BASE, Write


def complaints(workspace: Path, *presets: str, **request: object) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        compose(Request(workspace, "toy", presets, **request))  # type: ignore[arg-type]
    assert caught.value.exit_code == ExitCode.USAGE
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


FILE_MISTAKES = {
    "[optim]\nlrr = 1.0": ["presets/p.toml:2: optim.lrr: no such key; did you mean optim.lr?"],
    "[train]\nlr = 1.0": ["presets/p.toml:2: train.lr: no such key; did you mean optim.lr?"],
    "\n[optimizer]\nlr = 1.0": ["presets/p.toml:2: optimizer: no such key; did you mean optim?"],
    "task.wrd = 'x'": ["presets/p.toml:1: task.wrd: no such key; did you mean task.word?"],
    "upstream = { mel = 3 }": [
        "presets/p.toml:1: upstream.mel: no such key; did you mean upstream.mels?"
    ],
    "[task.head]\nkind = 'small'\nwidth = 3": [
        "presets/p.toml:3: task.head.width: no such key; task.head of kind 'small' has kind, stack"
    ],
    "zzz = 1": [
        "presets/p.toml:1: zzz: no such key; there are augment, batch, cache, checkpoint, data, "
        "each, init, launch, optim, regularise, schedule, seed, task, train, upstream, version"
    ],
    "[augment.noise]\nmanifest = 'noise'": [
        "presets/p.toml:2: augment.noise.manifest: must be a manifest, FOLDER/SPLIT.jsonl"
    ],
    "[augment.noise]\nmanifest = 'n/a.jsonl'\nsnr_db = [9.0, 3.0]": [
        "presets/p.toml:1: augment.noise: snr_db is [lowest, highest]; swap them"
    ],
    "augment.speed.factors = []": [
        "presets/p.toml:1: augment.speed: factors is empty; 1.0 is the speed as it is"
    ],
    "optim.lr = '1'": ['presets/p.toml:1: optim.lr: must be a number, not the text "1"'],
    "optim.lr = -1": ["presets/p.toml:1: optim.lr: must be greater than 0, not -1"],
    "optim.lr = nan": ["presets/p.toml:1: optim.lr: must be a finite number, not NaN"],
    "train.max_steps = 1.5": ["presets/p.toml:1: train.max_steps: must be an integer, not 1.5"],
    "train.max_steps = true": ["presets/p.toml:1: train.max_steps: must be an integer, not true"],
    "train.deterministic = 'no'": [
        'presets/p.toml:1: train.deterministic: must be a boolean, not the text "no"'
    ],
    "train = 3": ["presets/p.toml:1: train: must be a table, not 3"],
    "optim.lr.x = 3": ["presets/p.toml:1: optim.lr: must be a number, not a table"],
    "[data]\ntest = [\n  'a',\n  2,\n]": ["presets/p.toml:4: data.test[1]: must be text, not 2"],
    "task.either = [1]": ["presets/p.toml:1: task.either: must be an integer, not [1]"],
    "optim.kind = 'adamww'\noptim.lr = 1": [
        "presets/p.toml:1: optim.kind: must be 'adamw', 'adam', 'adafactor' or 'sgd', not the text "
        "\"adamww\"; did you mean 'adamw'?"
    ],
    "upstream.kind = 'fbnk'": [
        "presets/p.toml:1: upstream.kind: must be 'fbank', 'mfcc', 'mel', 'linear', 'spectrogram', "
        "'huggingface', 'file', not the text \"fbnk\"; did you mean 'fbank'?"
    ],
    "upstream.kind = 'huggingface'": [
        f"upstream.{key}: required, but nothing sets it: a preset, or --set upstream.{key}=VALUE "
        "(another kind in presets/p.toml:1 replaced all of upstream)"
        for key in ("name", "source")
    ],
    "task.word = '${data.trian}'": [
        "presets/p.toml:1: task.word: no value for ${data.trian}: task.word -> data.trian"
    ],
    "task.kind = 'tiy'": [
        "presets/p.toml:1: task: the config is for 'tiy', but the command runs 'toy'"
    ],
    "a = 1\na = 2": ["presets/p.toml:2: not TOML: Cannot overwrite a value (column 6)"],
    "extends = 3": ["presets/p.toml:1: extends: must be text or a list of texts, not 3"],
    "\nextends = 'tyo'": ["presets/p.toml:2: extends: no preset 'tyo': did you mean 'toy'?"],
    "extends = [\n 'toy',\n 'no.toml']": ["presets/p.toml:3: extends: no file 'presets/no.toml'"],
}


@pytest.mark.parametrize("text", FILE_MISTAKES)
def test_mistakes_in_files(workspace: Path, write: Write, text: str) -> None:
    write("p", text)
    assert complaints(workspace, "p") == FILE_MISTAKES[text]


SET_MISTAKES = {
    "optim.lrr=1": "--set: optim.lrr: no such key; did you mean optim.lr?",
    "optm.lr=1": "--set: optm.lr: no such key; did you mean optim.lr?",
    "upstream.normalize=true": "--set: upstream.normalize: no such key; upstream of kind 'fbank'",
    "optim.lr=fast": "--set: optim.lr: 'fast' is not a TOML value, and only a key for text takes",
    "train.deterministic=True": "takes bare text; TOML writes true",
    "data.test=dev": "a list is written --set 'data.test=[\"dev\"]'",
    "optim.lr": "--set: 'optim.lr' is not KEY=VALUE, such as optim.lr=3e-4",
    "=3": "--set: '=3' is not KEY=VALUE",
    "a b=3": "--set: 'a b=3' is not KEY=VALUE",
    "train.max_steps=1, x=2": "--set: train.max_steps: '1, x=2' is not a TOML value",
    "task.word=[1]": "--set: task.word: must be text, not [1]",
    "optim.betas=[0.9, 1.0]": "--set: optim.betas[1]: must be less than 1, not 1.0",
    "optim.momentum=1.5": "--set: optim.momentum: must be less than 1, not 1.5",
    "checkpoint.keep_every=70": "keep_every = 70 is no multiple of every = 50",
    "batch.micro_batches=3": "--nproc: launch.nproc: 2 ranks can't share 3 micro-batches",
}


@pytest.mark.parametrize("assignment", SET_MISTAKES)
def test_mistakes_in_set(workspace: Path, assignment: str) -> None:
    flags = (Flag("launch.nproc", 2, "--nproc"),)
    (line,) = complaints(workspace, sets=(assignment,), flags=flags)
    assert SET_MISTAKES[assignment] in line


def test_mistakes_in_flags(workspace: Path) -> None:
    lines = complaints(
        workspace, "tyo", "./no.toml", upstream="wavml", flags=(Flag("launch.nproc", 0, "--nproc"),)
    )
    assert lines[:2] == [
        "--preset: no preset 'tyo': did you mean 'toy'?",
        "--preset: no file './no.toml'",
    ]
    assert lines[2].startswith("--upstream: no upstream 'wavml': did you mean 'wavlm'?")
    assert lines[3:] == ["--nproc: launch.nproc: must be greater than 0, not 0"]


def test_include_cycle_shows_the_chain(workspace: Path, write: Write) -> None:
    write("a", 'extends = "b"')
    write("b", '# comment\nextends = ["c"]')
    write("c", 'extends = "./b.toml"')
    assert complaints(workspace, "a") == [
        "presets/c.toml:1: extends: the files go round: "
        "presets/b.toml -> presets/c.toml -> presets/b.toml"
    ]
    write("self", 'extends = "self"')
    assert "presets/self.toml -> presets/self.toml" in complaints(workspace, "self")[0]


def test_all_errors_of_all_layers_at_once(workspace: Path, write: Write) -> None:
    write("broken", "[optim\n")
    write("worse", "= 1")
    write("typo", 'optim.lrr = 1\ntrain.log_every = "x"\ntask.word = "${a"')
    write("again", "[optim]\n\nlrr = 2")
    lines = complaints(
        workspace, "broken", "worse", "typo", "again", sets=("task.x=1", "seed=-1"), upstream="?"
    )
    places = [": ".join(line.split(": ")[:2]) for line in lines]
    assert sorted(places) == sorted(
        [
            "presets/broken.toml:1: not TOML",
            "presets/worse.toml:1: not TOML",
            "--upstream: no upstream '?'",
            "--set: task.x",
            "presets/typo.toml:3: task.word",
            "presets/typo.toml:1: optim.lrr",
            "presets/again.toml:3: optim.lrr",
            "presets/typo.toml:2: train.log_every",
            "--set: seed",
        ]
    )


def test_what_is_missing_is_told_only_when_every_file_was_read(
    workspace: Path, write: Write
) -> None:
    write("toy", BASE.replace("lr = 1e-3", "").replace('kind = "fbank"', ""))
    assert complaints(workspace) == [
        "upstream.kind: required, but nothing sets it: a preset, or --set upstream.kind=VALUE",
        "optim.lr: required, but nothing sets it: a preset, or --set optim.lr=VALUE",
    ]
    write("toy", BASE.replace('[upstream]\nkind = "fbank"', ""))
    assert complaints(workspace) == ["upstream: required, but nothing sets it: --upstream NAME"]
    write("toy", "[")
    (line,) = complaints(workspace)
    assert line.startswith("presets/toy.toml:1: not TOML")


def test_unreadable_files(workspace: Path) -> None:
    (workspace / "presets" / "latin.toml").write_bytes(b"a = '\xe9'")
    assert complaints(workspace, "latin") == ["presets/latin.toml: not UTF-8 at byte 5"]


def test_unknown_task_and_broken_task(workspace: Path) -> None:
    (workspace / "tasks" / "toy" / "config.py").write_text("x = undefined")
    with pytest.raises(UsageError, match=r"tasks/toy/config.py: NameError: name 'undefined'"):
        compose(Request(workspace, "toy"))
    with pytest.raises(NotFoundError, match="did you mean 'toy'"):
        compose(Request(workspace, "toyy"))


def test_a_copied_task_needs_a_kind_of_its_own(workspace: Path) -> None:
    (workspace / "tasks" / "toy").rename(workspace / "tasks" / "mine")
    (workspace / "presets" / "toy.toml").rename(workspace / "presets" / "mine.toml")
    with pytest.raises(UsageError) as caught:
        compose(Request(workspace, "mine"))
    assert str(caught.value).endswith(
        """tasks/mine/config.py: Config must have the folder's name as its kind: """
        """kind: Literal["mine"] = "mine\""""
    )
