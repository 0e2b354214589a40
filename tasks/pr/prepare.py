"""LibriSpeech for phone recognition: the manifests of asr, and a look at the lexicon beside it."""

from __future__ import annotations

from pathlib import Path

from orchestra.data import librispeech, program
from orchestra.data.corpora import Prepared

from .lexicon import Lexicon, read_lexicon, words_with_ids

CORPUS = "libriphone"
HELP = "LibriSpeech with its lexicon, librispeech-lexicon.txt of openslr.org/11, in the same folder"
LEXICON = "librispeech-lexicon.txt"


def prepare(root: Path, out: Path) -> Prepared:
    """Every split as `data prepare librispeech` reads it; words without phones are named.

    Which words may be missing is a matter of the run (task.missing_word), not of the corpus.

    Raises:
        NotFoundError: there is no split, or no lexicon.
        DataError: the lexicon can't be read.
    """
    names = librispeech.find_splits(root)
    lexicon = read_lexicon([root / LEXICON])
    splits = [librispeech.read_split(root, name, out) for name in names]
    for split in splits:
        _tell_missing(split, lexicon)
    return Prepared(
        {split.name: split.lines for split in splits},
        [problem for split in splits for problem in split.problems],
    )


def _tell_missing(split: librispeech.Split, lexicon: Lexicon) -> None:
    missing = {
        line["id"]: words for line in split.lines if (words := lexicon.missing(line["text"]))
    }
    if missing:
        program.say(
            f"{split.name}: {len(missing)} of {len(split.lines)} utterances have words that are "
            "not in the lexicon; task.missing_word says what becomes of them: "
            f"{words_with_ids(missing)}"
        )
