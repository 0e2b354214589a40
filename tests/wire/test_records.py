from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestra.wire.records import Record, RecordWriter, read_records

FULL_DISK = """
import resource, sys
from pathlib import Path
from orchestra.wire.records import Record, RecordWriter
writer = RecordWriter(Path(sys.argv[1]))
writer.write(Record("train", 1, 0.0, {}))
size = Path(sys.argv[1]).stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, resource.RLIM_INFINITY))
try:
    writer.write(Record("train", 2, 0.0, {}))
except OSError as error:
    print(error.errno)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
writer.write(Record("train", 3, 0.0, {}))
writer.write(Record("train", 4, 0.0, {}))
"""


def steps(path: Path) -> list[int]:
    with path.open("rb") as file:
        return [record.step for record in read_records(file)]


def test_line_that_did_not_fit_is_told_and_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], check=True, capture_output=True
    )
    assert int(done.stdout) == errno.ENOSPC
    assert steps(path) == [1, 3, 4]


@pytest.mark.parametrize("torn", [b"", b'{"kind": "tr'])
def test_writer_goes_on_after_what_a_killed_one_left(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(torn)
    writer = RecordWriter(path)
    writer.write(Record("train", 1, 0.0, {}))
    writer.close()
    assert steps(path) == [1]
    assert path.read_bytes().startswith(torn)
    assert os.linesep.encode() * 2 not in path.read_bytes()
