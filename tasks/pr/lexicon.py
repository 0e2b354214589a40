"""Pronunciation lexicons: text to phones. Reads files; knows nothing of utterances' audio."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestra.wire.errors import DataError, NotFoundError

_COMMENT = (";;;", "#")
_REMARK = " #"
"""CMUdict has some behind the phones: `aalborg AO1 L B AO0 R G # place, danish`."""
_SHOWN = 10
"""Missing words in a message."""
_STRESS = re.compile(r"(?<=[A-Za-z])[0-9]$")


class Lexicon:
    """The first pronunciation of each word; upper and lower case are one."""

    def __init__(self, pronunciations: dict[str, str]) -> None:
        self._pronunciations = pronunciations

    @property
    def phones(self) -> list[str]:
        """All phones, sorted."""
        return sorted({phone for said in self._pronunciations.values() for phone in said.split()})

    def missing(self, text: str) -> list[str]:
        """The words of a text that are not in it, in order, each once."""
        words = dict.fromkeys(text.split())
        return [word for word in words if word.upper() not in self._pronunciations]

    def pronounce(self, text: str) -> list[str]:
        """The phones of a text that has no `missing` word; nothing stands between words."""
        words = text.upper().split()
        return [phone for word in words for phone in self._pronunciations[word].split()]


def read_lexicon(paths: Sequence[Path]) -> Lexicon:
    """The lexicon in some files; the first file that has a word says how it is pronounced.

    Raises:
        NotFoundError: there is no such file.
        DataError: it can't be read, or a line has a word without phones; file and line are named.
    """
    pronunciations: dict[str, str] = {}
    for path in paths:
        for number, line in enumerate(_lines(path), 1):
            word, *phones = line.partition(_REMARK)[0].split() or [""]
            if not word or word.startswith(_COMMENT):
                continue
            if not phones:
                raise DataError(f"{path}, line {number}: word {word!r} has no phones; add them")
            pronunciations.setdefault(word.upper(), " ".join(phones))
    return Lexicon(pronunciations)


def words_with_ids(missing: Mapping[str, Sequence[str]]) -> str:
    """`WASP (u3), HIVE (u4) and 7 more`: missing words, each with the first id that has it.

    Args:
        missing: by id of an utterance.
    """
    first_in: dict[str, str] = {}
    for name, words in missing.items():
        for word in words:
            first_in.setdefault(word, name)
    shown = [f"{word} ({name})" for word, name in list(first_in.items())[:_SHOWN]]
    more = f" and {len(first_in) - _SHOWN} more" if len(first_in) > _SHOWN else ""
    return ", ".join(shown) + more


def without_stress(phones: Sequence[str]) -> list[str]:
    """AH0, AH1 and AH2 become AH."""
    return [_STRESS.sub("", phone) for phone in phones]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise NotFoundError(
            f"no lexicon {path}: LibriSpeech's is librispeech-lexicon.txt of openslr.org/11; "
            "name yours with --set task.lexicon='[\"PATH\"]'"
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 (byte {error.start + 1}); convert it") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
