"""Which command lines are the same run."""

from __future__ import annotations

import pytest

from orchestra.schedule.again import meaning

RUN = ["orchestra", "run", "asr", "--name", "x", "--or-resume"]


@pytest.mark.parametrize(
    "more",
    [
        ["--detach"],
        ["-d", "-q"],
        ["-dq"],
        ["--quiet", "--no-queue"],
        ["--priority", "3"],
        ["--tag", "cron", "--note=a b"],
        ["--priority=-1"],
        ["--workspace", "/w", "--runs-dir=/r"],
    ],
)
def test_how_to_wait_and_where_changes_no_run(more: list[str]) -> None:
    assert meaning([*RUN, *more]) == meaning(RUN[:-1])


@pytest.mark.parametrize(
    "more",
    [["--gpus", "2"], ["-s", "optim.lr=1"], ["--after", "y"], ["-p", "d"], ["--seed", "3"]],
)
def test_what_is_trained_does(more: list[str]) -> None:
    assert meaning([*RUN, *more]) != meaning(RUN)
