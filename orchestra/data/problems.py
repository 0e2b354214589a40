"""What is wrong with a corpus, collected rather than raised: the user sees all of it at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestra.data import SAMPLE_RATE
from orchestra.data.audio import Header, read_header
from orchestra.data.program import in_threads, say
from orchestra.wire.errors import DataError

_SHOWN = 20


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong."""

    kind: str  # plural, as in a count: `transcripts without audio`
    where: str  # id, path, or both


def count_by_kind(problems: Iterable[Problem]) -> dict[str, int]:
    """How many there are of each kind."""
    counts: dict[str, int] = {}
    for problem in problems:
        counts[problem.kind] = counts.get(problem.kind, 0) + 1
    return counts


def describe(problems: Sequence[Problem]) -> list[str]:
    """Lines for people: a count per kind, each followed by the first of them."""
    lines = []
    for kind, count in count_by_kind(problems).items():
        lines.append(f"{count} {kind}:")
        places = [problem.where for problem in problems if problem.kind == kind]
        lines += [f"  {where}" for where in places[:_SHOWN]]
        if count > _SHOWN:
            lines.append(f"  ... and {count - _SHOWN} more (all of them in the JSON on stdout)")
    return lines


def read_headers(paths: Sequence[Path]) -> tuple[dict[Path, Header], list[Problem]]:
    """As `headers_of`, of a corpus: says how many recordings have another rate than SAMPLE_RATE."""
    headers, problems = headers_of(paths)
    others = [path for path, header in headers.items() if header.rate != SAMPLE_RATE]
    if others:
        say(
            f"{len(others)} of {len(headers)} recordings are not at {SAMPLE_RATE} Hz, so they are "
            f"resampled when read: {others[0]} ({headers[others[0]].rate} Hz) is the first"
        )
    return headers, problems


def headers_of(paths: Sequence[Path]) -> tuple[dict[Path, Header], list[Problem]]:
    """The headers of all files that have one, and a problem for each that has not."""
    headers: dict[Path, Header] = {}
    problems = []
    # More threads than cores: headers on a network disk are mostly waiting.
    results = in_threads(_header_or_problem, paths, per_core=4)
    for path, result in zip(paths, results, strict=True):
        if isinstance(result, Header):
            headers[path] = result
        else:
            problems.append(result)
    return headers, problems


def read_lines(path: Path, problems: list[Problem]) -> list[str]:
    """The lines of a corpus's text file; none, and a problem, if it can't be read."""
    try:
        return path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        problems.append(Problem("unreadable files", f"{path}: not UTF-8 (byte {error.start + 1})"))
    except OSError as error:
        problems.append(Problem("unreadable files", f"{path}: {error.strerror}"))
    return []


def _header_or_problem(path: Path) -> Header | Problem:
    try:
        return read_header(path)
    except DataError as error:
        return Problem("unreadable recordings", str(error))
