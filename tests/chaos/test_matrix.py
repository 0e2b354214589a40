"""No fault of the matrix is without a test."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.chaos.matrix import FAULTS, SHORTLY

TESTS = Path(__file__).parents[1]


def named() -> set[str]:
    """What the tests' text names: marks, links of chains."""
    return {
        node.value
        for path in TESTS.rglob("test_*.py")
        if path != Path(__file__)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_each_fault_has_a_test() -> None:
    assert set(FAULTS) - named() == set()


def test_the_table_is_readable() -> None:
    for name, fault in FAULTS.items():
        assert len(name) <= SHORTLY, name
        assert fault.injected, name
        assert fault.expected, name


def pytest_says(folder: Path, tests: str) -> list[str]:
    """The lines of a run of these tests, which have our hooks."""
    hooks = "pytest_runtest_setup, pytest_terminal_summary, saw"
    (folder / "conftest.py").write_text(f"from tests.chaos.matrix import {hooks}\n")
    (folder / "test_them.py").write_text(f"import pytest\n{textwrap.dedent(tests)}")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", folder, folder],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(TESTS.parent)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout.splitlines()


def test_a_fault_that_is_not_in_the_matrix_is_an_error(tmp_path: Path) -> None:
    said = pytest_says(tmp_path, "@pytest.mark.fault('nonsense')\ndef test(): pass\n")
    assert any("has no fault 'nonsense'" in line for line in said)
    assert "1 error in" in said[-1]


def test_the_table_tells_what_was_seen_and_what_was_not(tmp_path: Path) -> None:
    tests = """
        @pytest.mark.fault("exception")
        def test_seen(saw): saw("this was seen", 1.5)
        @pytest.mark.fault("os.abort")
        def test_not_seen(): assert False
        @pytest.mark.fault("clock jump")
        def test_skipped(): pytest.skip("no clock")
        """
    said = pytest_says(tmp_path, tests)
    assert any(line.startswith("exception ") and "1.50 s   this was seen" in line for line in said)
    assert any(line.startswith("os.abort ") and "FAILED: " in line for line in said)
    assert any(line.startswith("clock jump ") and "SKIPPED: " in line for line in said)
