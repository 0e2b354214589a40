"""Several logs as one, folded and searched."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestra.schedule.log_fold import fold, label
from orchestra.schedule.log_search import Search
from orchestra.schedule.log_view import LogView


def stamped(second: int, text: str) -> str:
    return f"2026-01-01 00:{second // 60:02d}:{second % 60:02d},000 INFO {text}\n"


def logs(folder: Path, **texts: str) -> dict[str, Path]:
    paths = {name: folder / f"{name}.log" for name in texts}
    for name, text in texts.items():
        paths[name].write_text(text)
    return paths


def test_by_the_time_they_begin_with_and_what_follows_stays_behind(tmp_path: Path) -> None:
    view = LogView(
        logs(
            tmp_path,
            rank0=stamped(1, "a") + "Traceback\n  x\n" + stamped(4, "d"),
            rank1=stamped(2, "b") + "print\n" + stamped(3, "c"),
        )
    )
    said = [line.text[-9:].split()[-1] for line in view.last(100).lines]
    assert said == ["a", "Traceback", "x", "b", "print", "c", "d"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    st.lists(st.lists(st.integers(-1, 20), max_size=12), min_size=1, max_size=3), st.integers(1, 4)
)
def test_scrolling_shows_every_line_once_in_its_order(
    tmp_path: Path, seconds: list[list[int]], count: int
) -> None:
    texts = {
        f"rank{rank}": "".join(
            stamped(second, f"{rank}.{at}") if second >= 0 else f"{rank}.{at}\n"
            for at, second in enumerate(of)
        )
        for rank, of in enumerate(seconds)
    }
    view = LogView(logs(tmp_path, **texts))
    window = view.last(count)
    up = list(window.lines)
    while not window.at_start:
        window = view.before(window.top, count)
        up = [*window.lines, *up]
    window = view.first(count)
    down = list(window.lines)
    while window.lines:
        window = view.after(window.bottom, count)
        down += window.lines
    for name, text in texts.items():
        for seen in (up, down):
            assert [line.text for line in seen if line.log == name] == text.splitlines()


def test_what_is_being_written_is_read_again(tmp_path: Path) -> None:
    paths = logs(tmp_path, rank0="one\n 10%|#")
    window = LogView(paths).last(10)
    assert [line.text for line in window.lines] == ["one", " 10%|#"]
    with paths["rank0"].open("a") as file:
        file.write("\r 20%|##\nend\n")
    more = LogView(paths).after(window.bottom, 10)
    assert [line.text for line in more.lines] == [" 20%|##", "end"]
    assert LogView(paths).after(more.bottom, 10).lines == ()


def test_around_a_line_the_others_are_of_its_time(tmp_path: Path) -> None:
    many = 3000  # more than a block of bytes
    paths = logs(
        tmp_path,
        rank0="".join(stamped(second, f"rank0 {second} {'x' * 60}") for second in range(many)),
        rank1="".join(stamped(second, f"rank1 {second} {'y' * 60}") for second in range(many)),
        rank2="no time here\n" * 50,
    )
    text = paths["rank0"].read_text()
    window = LogView(paths).around("rank0", text.index("rank0 1234"), 4)
    said = [line.text.split()[3:5] for line in window.lines if line.log != "rank2"]
    assert ["rank0", "1234"] in said and ["rank1", "1234"] in said
    assert all(abs(int(second) - 1234) <= 3 for _, second in said)


def test_ranks_that_say_the_same_are_one_line(tmp_path: Path) -> None:
    view = LogView(
        logs(
            tmp_path,
            rank0=stamped(1, "hello") + stamped(2, "only zero") + stamped(3, "bye"),
            rank1=stamped(1, "hello") + stamped(3, "bye"),
            rank2=stamped(1, "hello") + stamped(3, "hello") + stamped(3, "bye"),
            launcher=stamped(1, "hello"),
        )
    )
    said = fold(view.last(100).lines)
    assert [(label(each.logs), each.line.said.split()[-1]) for each in said] == [
        ("0-2", "hello"),
        ("launcher", "hello"),
        ("0", "zero"),
        ("0-1", "bye"),
        ("2", "hello"),
        ("2", "bye"),  # it said hello before: its own order is kept
    ]
    assert label(["rank2", "rank0", "rank3"]) == "0,2-3"


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abc")), max_size=40))
def test_folding_keeps_each_ranks_lines_in_order(lines: list[tuple[int, str]]) -> None:
    from orchestra.schedule.log_file import Line

    given_lines = [
        Line(f"rank{rank}", at, at + 1, text, True) for at, (rank, text) in enumerate(lines)
    ]
    said = fold(given_lines)
    for rank in range(4):
        unfolded = [each.line.text for each in said if f"rank{rank}" in each.logs]
        assert unfolded == [text for of, text in lines if of == rank]


def search(
    paths: dict[str, Path], needle: str, place: dict[str, int], *, forward: bool
) -> list[int]:
    found = []
    while True:
        one = Search(paths, needle, place, forward)
        while not one.advance(0.0):
            pass
        if one.hit is None:
            return found
        found.append(one.hit.start)
        place = {"rank0": one.hit.end if forward else one.hit.start}


def test_search_both_ways_and_over_the_edges_of_chunks(tmp_path: Path) -> None:
    line = "some Words, ünd more\n"
    other = "x" * 999 + "\n"
    paths = logs(tmp_path, rank0=(other * 300 + line) * 4)
    size = len(line.encode())
    starts = [(300_000 + size) * at + 300_000 for at in range(4)]
    for needle in ("words", "Words", "ünd", "some Words, ünd more"):
        assert search(paths, needle, {"rank0": 0}, forward=True) == starts
        whole = {"rank0": paths["rank0"].stat().st_size}
        assert search(paths, needle, whole, forward=False) == starts[::-1]
    assert search(paths, "WORDS", {"rank0": 0}, forward=True) == []


def test_only_what_is_shown_is_found(tmp_path: Path) -> None:
    paths = logs(tmp_path, rank0="hidden\rshown\n\x1b]0;hidden\x07title\nhidden\n")
    assert search(paths, "hidden", {"rank0": 0}, forward=True) == [30]
    assert search(paths, "hidden", {"rank0": 37}, forward=False) == [30]


def test_a_search_stops_after_its_slice(tmp_path: Path) -> None:
    paths = logs(tmp_path, rank0="x" * 2_000_000)
    one = Search(paths, "y", {"rank0": 0})
    slices = 1
    while not one.advance(0.0):
        slices += 1
    assert one.hit is None and one.searched_bytes > 1_999_990
    assert slices >= 7
