from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestra.tui.colours import ON_DARK, ON_LIGHT, assign


@given(st.lists(st.lists(st.text("abc", min_size=1, max_size=3), unique=True), max_size=8))
def test_each_run_has_its_own_and_keeps_it(sightings: list[list[str]]) -> None:
    known: dict[str, int] = {}
    for seen in sightings:
        found = assign(seen, known)
        assert len(set(found.values())) == len(found) == min(len(seen), len(ON_DARK))
        holders = [run for run in seen[: len(ON_DARK)] if run in known]
        kept = [run for run in holders if found[run] == known[run]]
        alone = [run for run in holders if [known[one] for one in holders].count(known[run]) == 1]
        assert set(alone) <= set(kept)
        known |= found


def test_both_palettes_have_eight() -> None:
    assert len(set(ON_DARK)) == len(set(ON_LIGHT)) == 8
