"""Freezing and reading again: nothing is lost, broken files say what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import tomli
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestra.config.compose import Request, compose
from orchestra.config.frozen import dump, read_frozen, validate
from orchestra.tasks import find_task
from orchestra.wire.errors import NotFoundError, UsageError

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    word=_text,
    lexicon=st.none() | _text.filter(lambda text: "\0" not in text),
    lr=st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    seed=st.integers(0, 2**63 - 1),
    splits=st.lists(_text, max_size=3),
)
def test_round_trip(
    workspace: Path, word: str, lexicon: str | None, lr: float, seed: int, splits: list[str]
) -> None:
    base = tomli.loads((workspace / "presets" / "toy.toml").read_text())
    task = {"kind": "toy", "word": word} | ({} if lexicon is None else {"lexicon": lexicon})
    info = find_task("toy", workspace)
    config = validate(
        {**base, "seed": seed, "task": task, "optim": {"lr": lr}, "data": {"test": splits}}, info
    )
    path = workspace / "frozen.toml"
    path.write_bytes(dump(config))
    again, _ = read_frozen(path, workspace)
    assert again.model_dump() == config.model_dump()
    assert dump(again) == path.read_bytes()


def frozen_with(workspace: Path, old: str, new: str) -> Path:
    toml = compose(Request(workspace, "toy")).toml.decode()
    assert old in toml
    path = workspace / "frozen.toml"
    path.write_text(toml.replace(old, new))
    return path


def test_code_that_no_longer_fits_names_each_key(workspace: Path) -> None:
    path = frozen_with(workspace, 'word = "hello"', 'werd = "hello"\neither = 1.5')
    path.write_text(path.read_text().replace("either = 0\n", ""))
    with pytest.raises(UsageError) as caught:
        read_frozen(path, workspace)
    assert "task.werd: no such key" in str(caught.value)
    assert "task.either: must be an integer, not 1.5" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ("[task]", "[task", UsageError, "not a frozen config"),
        ("[task]", "[tusk]", UsageError, "no task.kind"),
        ('kind = "toy"', 'kind = "gone"', NotFoundError, "no task 'gone'"),
        ("version = 1", "version = 2", UsageError, "version: must be 1, not 2"),
    ],
)
def test_broken_files(
    workspace: Path, old: str, new: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        read_frozen(frozen_with(workspace, old, new), workspace)


def test_missing_file(workspace: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        read_frozen(workspace / "nowhere.toml", workspace)
