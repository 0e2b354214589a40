from __future__ import annotations

import math
from pathlib import Path

import pytest

from orchestra.registry.metrics import MetricStore
from orchestra.tui.curve_source import CurveSource, Look, Question, Wanted
from orchestra.tui.lines import Line, XAxis
from orchestra.wire.records import Record
from orchestra.workspace import Workspace
from tests.tui.curve_data import BEGAN_S, STEP_S, workspace, write_run

LOSS = "train/loss"


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    made = workspace(tmp_path)
    write_run(made, "aaaa", 400).close()
    return made


def question(
    place: Workspace,
    *keys: str,
    axis: XAxis = XAxis.STEP,
    shown: tuple[float, float] | None = None,
    run_id: str = "aaaa",
) -> Question:
    return Question((Wanted(run_id, place.runs.run(run_id).metrics, BEGAN_S),), keys, axis, shown)


def whole(source: CurveSource, asked: Question) -> Look:
    while not (look := source.look(asked)).exact:
        pass
    return look


def line(place: Workspace, axis: XAxis) -> Line:
    source = CurveSource()
    found = whole(source, question(place, LOSS, axis=axis)).lines["aaaa", LOSS]
    source.close()
    return found


def test_x_by_step_epoch_and_time(place: Workspace) -> None:
    """Died at 300, went on from 250, ten minutes later."""
    ends = {axis: (line(place, axis).marks[0].x, line(place, axis).marks[-1].x) for axis in XAxis}
    late = 600.0
    assert ends[XAxis.STEP] == (1, 400)
    assert ends[XAxis.EPOCH] == pytest.approx((1 / 400, 1.0))
    assert ends[XAxis.TIME] == pytest.approx((BEGAN_S + STEP_S, BEGAN_S + 400 * STEP_S + late))
    assert ends[XAxis.RELATIVE] == pytest.approx((STEP_S, 400 * STEP_S + late))


def test_attempts(place: Workspace) -> None:
    found = line(place, XAxis.STEP)
    assert found.restarts == [(251, 2)]
    assert [(part[0].x, part[-1].x) for part in found.superseded] == [(251, 300)]
    steps = [mark.x for mark in found.marks]
    assert steps == sorted(steps) and len(set(steps)) == len(steps) == 400
    assert [mark.x for mark in found.marks if mark.broken] == [133]


def test_by_time_nothing_joins_two_attempts(place: Workspace) -> None:
    gaps = [mark for mark in line(place, XAxis.TIME).marks if mark.low != mark.low]
    assert [mark.broken for mark in gaps] == [True, False], "the NaN, and the time between"
    died, began = BEGAN_S + 250 * STEP_S, BEGAN_S + 251 * STEP_S + 600
    assert died < gaps[1].x < began


def test_no_epochs_no_marks(place: Workspace) -> None:
    store = MetricStore(place.runs.run("bare").metrics)
    place.runs.run("bare").path.mkdir()
    store.append(1, [Record("train", 1, BEGAN_S, {"loss": 1.0})])
    store.close()
    source = CurveSource()
    look = source.look(question(place, LOSS, axis=XAxis.EPOCH, run_id="bare"))
    assert (look.keys, look.lines["bare", LOSS].marks) == ((LOSS,), ())
    source.close()


def test_a_part_is_finer_and_the_rest_stays(place: Workspace) -> None:
    write_run(place, "long", 6000, restart=False).close()
    source = CurveSource()
    full = whole(source, question(place, LOSS, run_id="long")).lines["long", LOSS]
    part = whole(source, question(place, LOSS, shown=(3000, 3100), run_id="long"))
    fine = part.lines["long", LOSS]
    assert {3000 + index for index in range(101)} <= {mark.x for mark in fine.marks}
    assert len(full.marks) < len(fine.marks) < len(full.marks) + 300
    assert (fine.marks[0], fine.marks[-1]) == (full.marks[0], full.marks[-1])
    source.close()


def test_what_did_not_change_is_the_same_object(place: Workspace) -> None:
    source = CurveSource()
    asked = question(place, LOSS, "train/lr")
    before = whole(source, asked)
    assert source.look(asked).lines[("aaaa", LOSS)] is before.lines[("aaaa", LOSS)]
    store = MetricStore(place.runs.run("aaaa").metrics)
    store.append(2, [Record("train", 401, BEGAN_S, {"loss": math.inf})])
    store.close()
    after = whole(source, asked)
    assert after.lines["aaaa", LOSS].marks[-1].broken
    source.close()


def test_a_bad_store_is_a_sentence_and_opened_again(place: Workspace) -> None:
    path = place.runs.run("aaaa").metrics
    good = path.read_bytes()
    path.write_bytes(b"garbage" * 1000)
    source = CurveSource()
    asked = question(place, LOSS)
    assert "is damaged" in source.look(asked).problems["aaaa"]
    path.write_bytes(good)
    assert source.look(asked).problems == {}
    source.close()
