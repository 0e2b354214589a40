"""What a user sees of a run whose records or metric store are torn."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import SHORT, Cli


def test_torn_files_are_sentences_and_cost_nothing_else(cli: Cli) -> None:
    run_id = cli.ok("run", *SHORT, "--quiet", "--name", "torn").split()[0]
    folder = cli.root / "runs" / run_id
    whole = cli.json("show", "torn")
    assert whole["progress"]["problem"] is None
    assert 0 <= whole["progress"]["data_share"] <= 1
    assert whole["progress"]["memory_bytes"] > 0
    assert "steps/s" in cli.ok("show", "torn")

    _damage(folder)
    shown = cli.json("show", "torn")
    assert "is damaged" in shown["progress"]["problem"]
    assert "records.jsonl" in shown["progress"]["problem"]
    assert (shown["progress"]["step"], shown["state"]) == (10, "completed")
    assert shown["progress"]["data_share"] is None
    text = cli.ok("show", "torn")
    assert "is damaged" in text
    assert "Traceback" not in text
    assert [row["id"] for row in cli.json("ls")] == [run_id]

    (cli.root / "runs" / "registry.db").unlink()
    (again,) = cli.json("ls")  # from the run folders, torn records and all
    assert (again["id"], again["step"], again["state"]) == (run_id, 10, "completed")
    assert again["score"] == whole["score"]


def _damage(run: Path) -> None:
    for path in run.glob("metrics.db*"):
        path.unlink()
    (run / "metrics.db").write_bytes(b"\xffgarbage\n" * 3000)
    records = run / "attempts" / "0001" / "records.jsonl"
    torn = b'\x00\xff\n[]\n{"kind": "checkpoint", "step": 99, "time_s": 0, "values": {}}\n{"kin'
    records.write_bytes(records.read_bytes() + torn)
