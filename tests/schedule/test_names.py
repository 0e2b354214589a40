"""Ids that can be read aloud, names that are safe in paths and shells."""

from __future__ import annotations

import pytest

from orchestra.schedule.names import check_name, default_names, draw_id
from orchestra.wire.errors import UsageError


def test_ids_have_no_look_alikes_and_differ() -> None:
    ids = {draw_id() for _ in range(2000)}
    assert len(ids) == 2000
    assert all(len(run_id) == 8 and run_id[0].isalpha() for run_id in ids)
    assert not set("".join(ids)) & set("ilouILOU")


@pytest.mark.parametrize(
    ("upstream", "name"),
    [
        ("wavlm", "asr-wavlm-h7k2"),
        ("microsoft/wavlm-base", "asr-wavlm-base-h7k2"),
        ("/models/my model/", "asr-my-model-h7k2"),
        ("/", "asr-upstream-h7k2"),
    ],
)
def test_default_name(upstream: str, name: str) -> None:
    names = default_names("asr", upstream, "h7k2mn34")
    assert next(names) == name
    assert next(names) != name, "another one where that is held"
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "a b", "-x", "a/b", "x" * 101, "@last", "\x1b[31m", "é"])
def test_unsafe_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="--name"):
        check_name(name)
