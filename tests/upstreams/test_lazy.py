"""What takes seconds to import is loaded by those runs alone that use it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PRELOAD = """
import sys
from pathlib import Path
from orchestra.train import agent
agent.preload(Path(sys.argv[1]))
from orchestra.train import warm
assert warm.may_fork(), "an import has started a thread"
print("orchestra.upstreams.huggingface" in sys.modules)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "loads"), [("fbank", "False"), ("huggingface", "True")])
def test_the_launcher_loads_what_its_upstream_needs_alone(
    tmp_path: Path, kind: str, loads: str
) -> None:
    (tmp_path / "config.toml").write_text(f'[upstream]\nkind = "{kind}"\n')
    done = subprocess.run(
        [sys.executable, "-c", PRELOAD, str(tmp_path)],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.strip() == loads
