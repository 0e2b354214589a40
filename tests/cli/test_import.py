"""orchestra data import: its options reach the program; what is refused ends in sentences."""

from __future__ import annotations

import numpy as np
import soundfile

from orchestra.wire.manifest import read_manifest, read_summary
from tests.cli.conftest import Cli


def test_import_prints_a_table_or_what_is_wrong(cli: Cli) -> None:
    (cli.root / "audio").mkdir()
    soundfile.write(cli.root / "audio" / "a.wav", np.full(16000, 0.1), 16000)
    table = cli.root / "t.csv"
    table.write_text("file,said,mood\na.wav,HELLO,glad\n")
    words = ["data", "import", "t.csv", "--out", "m", "--path", "file", "--text", "said"]
    words += ["--split", "train", "--column", "feeling=mood", "--audio-root", "audio"]
    done = cli(*words)
    assert done.stdout.splitlines()[1].split() == ["train", "1", "1.0", "1.0", "1"]
    (one,) = read_manifest(cli.root / "m", "train")
    assert (one.id, one.fields["text"], one.fields["feeling"]) == ("a", "HELLO", "glad")
    prepared_by = read_summary(cli.root / "m", "train").prepared_by
    assert f"--audio-root={cli.root / 'audio'}" in prepared_by
    table.write_text("file,said,mood\nb.wav,HELLO,glad\n")
    done = cli(*words)
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"{cli.root}/audio/b.wav ({table}, line 2)" in done.stderr
    assert "Traceback" not in done.stderr
