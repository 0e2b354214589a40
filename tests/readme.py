"""The README's tables that follow from the code: `python -m tests.readme` writes them anew.

Each stands between `<!-- NAME -->` and `<!-- /NAME -->`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from orchestra.data.corpora import find_corpora
from orchestra.tasks import TaskInfo, builtin_folder, discover

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


def tasks() -> Iterator[str]:
    """A row per built-in task: its other names, corpora, metrics and presets."""
    found = discover(ROOT)
    corpora: dict[str, list[str]] = {name: [] for name in found}
    for corpus in find_corpora(builtin_folder()).corpora.values():
        corpora[corpus.task].append(corpus.name)
    corpora["asr"] += ["librispeech", "digits"]  # orchestra's own, whose first user it is
    presets = {name: sorted(_presets_of(name, found)) for name in found}
    yield from _rows(
        ("task", "also called", "what", "metrics, the first selects", "`data prepare`", "presets"),
        (
            (
                f"[`{task.name}`](tasks/{task.name}/README.md)",
                _words(task.aliases()),
                task.summary(),
                ", ".join(f"{name} {'↑' if way == 'max' else '↓'}" for name, way in _metrics(task)),
                _words(corpora[task.name]),
                _words(presets[task.name]),
            )
            for task in sorted(found.values(), key=lambda task: task.name)
        ),
    )


TABLES = {"tasks": tasks}


def written(text: str) -> str:
    """The README with its tables as they are to be."""
    for name, table in TABLES.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        assert begin in text and end in text, f"README.md has no place for the table {name!r}"
        head, rest = text.split(begin, 1)
        text = head + begin + "".join(f"{line}\n" for line in table()) + end + rest.split(end, 1)[1]
    return text


def _metrics(task: TaskInfo) -> Sequence[tuple[str, str]]:
    return list(task.task_class().metrics.items())


def _presets_of(name: str, found: Mapping[str, TaskInfo]) -> Iterator[str]:
    """The preset of its name, and those that refine it: their first line says of what."""
    for path in (ROOT / "presets").glob("*.toml"):
        first = path.read_text(encoding="utf-8").split("\n", 1)[0]
        refined = re.match(r"# Refines (\w+)", first)
        owner = refined[1] if refined else path.stem
        if owner == name or (owner not in found and _kind(path) == name):
            yield path.stem


def _kind(path: Path) -> str | None:
    kind: str | None = tomllib.loads(path.read_text(encoding="utf-8")).get("task", {}).get("kind")
    return kind


def _words(words: Sequence[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _rows(header: Sequence[str], rows: Iterator[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield f"| {' | '.join(row)} |"


if __name__ == "__main__":
    README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8")
