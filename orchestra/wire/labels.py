"""labels.json: what the user called a run after it was made. Absent while that is nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from orchestra.wire.files import read_json, reading, write_json
from orchestra.wire.folders import RunFolder

VERSION = 1


@dataclass(frozen=True)
class Labels:
    """Name, tags and note of a run."""

    name: str = ""
    """Empty: still the one in run.json."""
    tags: tuple[str, ...] = ()
    """Sorted."""
    remark: str = ""
    """The note."""

    def write(self, run: RunFolder) -> None:
        """Replace the run's labels."""
        write_json(run.labels, {"version": VERSION, **asdict(self)})

    @classmethod
    def read(cls, run: RunFolder) -> Labels:
        """The run's labels; none if it has no such file.

        Raises:
            OrchestraError: the file is broken.
        """
        try:
            document = read_json(run.labels)
        except FileNotFoundError:
            return cls()
        with reading(run.labels):
            return cls(str(document["name"]), tuple(document["tags"]), str(document["remark"]))
