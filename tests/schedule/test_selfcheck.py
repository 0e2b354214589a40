"""The judgements of `doctor --gpus N`; the whole of it is run by tests/cli/test_doctor.py."""

from __future__ import annotations

import json

import pytest

from orchestra.schedule import selfcheck as module
from orchestra.schedule.doctor import Check
from orchestra.schedule.selfcheck import selfcheck
from orchestra.supervise import tree
from tests.fakes.nvml import FakeNvml

SAID = {"ranks": 4, "backend": "nccl", "ok": True, "bandwidth_bytes_per_s": 2.5e11}


def judge(output: str, errors: str = "") -> Check:
    return module._judge(output, errors)


def test_what_rank_0_says_is_judged() -> None:
    right = judge(f"a warning\n{json.dumps(SAID)}\n")
    assert (right.ok, right.detail) == (True, "sum over 4 ranks by nccl is right, 250.0 GB/s")
    one = judge(json.dumps({**SAID, "ranks": 1, "bandwidth_bytes_per_s": 0.0}))
    assert one.detail == "sum over 1 ranks by nccl is right"
    wrong = judge(json.dumps({**SAID, "ok": False}))
    assert (wrong.ok, wrong.detail) == (False, "sum over 4 ranks by nccl is wrong")


def test_ranks_that_say_nothing_are_bad() -> None:
    silent = judge("", "Traceback\n  x\nRuntimeError: NCCL error: no route\nmore")
    assert (silent.ok, silent.detail) == (False, "RuntimeError: NCCL error: no route")
    assert not judge("{}").ok and not judge("3").ok


def test_an_all_reduce_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_COMMAND_S", 0.5)  # torch is not even imported by then
    before = {item.tag for item in tree.scan()}
    (check,) = selfcheck(0)
    assert (check.ok, check.detail) == (False, "not done after 0.5 s")
    assert not [
        item for item in tree.scan() if item.tag.startswith("doctor.1.") and item.tag not in before
    ]


def test_gpus_that_are_not_there_end_it(nvml: FakeNvml) -> None:
    nvml.idle(1)
    (check,) = selfcheck(2)
    assert (check.name, check.ok) == ("leases", False)
    assert "2 GPUs are wanted" in check.detail
