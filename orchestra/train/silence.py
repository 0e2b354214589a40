"""Silent utterances are used and told: by rank 0, with those that the other ranks met.

No collective: a rank notes what it met before it takes part in the step's exchange of gradients, so
that all of a step is on disk once the step is over.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from orchestra.train.recorder import Recorder
from orchestra.train.session import Session
from orchestra.wire.files import DISK_FULL

log = logging.getLogger("orchestra")

_NAMED = 10
"""Ids in the sentence; the record has all of them."""


class Silence:
    """Of one attempt's training."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._folder = session.scratch("silence")
        self._told = 0
        """Epochs before this one were told."""

    def met(self, epoch: int, ids: Sequence[str]) -> None:
        """These utterances of a batch are silent; on a full disk only the log has it."""
        if not ids:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / f"rank{self._session.ranks.rank}.jsonl").open("a") as file:
                file.writelines(json.dumps([epoch, name]) + "\n" for name in ids)
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            log.warning("epoch %d: silent, the disk is full: %s", epoch + 1, ", ".join(ids))

    def tell(self, step: int, *, before: int) -> None:
        """Rank 0 records what was met in the epochs before this one and not yet told."""
        if not self._session.ranks.is_first:
            return
        noted = [line for path in self._folder.glob("*.jsonl") for line in _lines(path)]
        for epoch in range(self._told, before):
            ids = sorted({name for its, name in noted if its == epoch})
            tell_silence(self._session.recorder, step, f"epoch {epoch + 1}", ids)
        self._told = before


def tell_silence(recorder: Recorder, step: int, where: str, ids: Sequence[str]) -> None:
    """A notice of how many there are and which; none where there are none."""
    if not ids:
        return
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    count = f"{len(ids)} utterances are" if len(ids) > 1 else "1 utterance is"
    text = (
        f"{where}: {count} silent (below -90 dB of full scale) and used all the same: "
        f'{", ".join(ids[:_NAMED])}{more}; data.silent = "refuse" ends a run at the first'
    )
    recorder.write("notice", step, {"text": text, "silent": list(ids)})


def _lines(path: Path) -> list[tuple[int, str]]:
    """Whole lines only: another rank may be writing the next epoch's."""
    whole, _, _ = path.read_text().rpartition("\n")
    return [tuple(json.loads(line)) for line in whole.splitlines()]
