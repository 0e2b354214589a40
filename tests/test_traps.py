"""What was measured and decided the design: each trap has a test that fails in it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent

TRAPS = {
    "sqlite-utils loads NumPy where it is installed": (
        "test_planes.py::test_control_plane_never_loads_torch_or_numpy",
        "cli/test_start.py::test_loads_nothing_slow",
    ),
    "sqlite-utils' transactions are deferred and lose races": (
        "registry/test_concurrency.py::test_no_write_of_any_process_is_lost",
        "registry/test_concurrency.py::test_control_deferred_transactions_lose",
    ),
    "a reference to a tree alone loses the commit in gc": (
        "provenance/test_snapshot.py::test_tree_and_base_outlive_amend_and_gc",
    ),
    "a big untracked file takes seconds to snapshot": (
        "provenance/test_snapshot.py::test_big_untracked_files_are_refused_by_name",
        "provenance/test_snapshot.py::test_many_untracked_files_are_refused",
    ),
    "python -m imports the live code": (
        "supervise/test_launch.py::test_python_m_runs_the_snapshot",
        "supervise/test_launch.py::test_control_python_m_would_import_the_live_code",
        "chaos/test_code_edited.py::test_a_restart_runs_the_submitted_code",
    ),
    "torchrun's ranks outlive a supervisor that is killed": (
        "chaos/test_deaths.py::test_sigkill_of_the_supervisor",
        "chaos/test_deaths.py::test_without_the_death_chain_a_rank_survives",
        "chaos/test_outside.py::test_suspended_then_without_supervisor",
    ),
    "a parent that dies before the child arms the death signal": (
        "wire/test_lifeline.py::test_a_parent_that_died_before_the_child_armed_is_noticed",
    ),
    "the death signal follows the parent's thread": (
        "wire/test_lifeline.py::test_control_the_signal_follows_the_thread_of_the_parent",
    ),
    "a wait beside the reaper reads a killed child as a success": (
        "supervise/test_reaper.py::test_how_a_child_ended",
        "supervise/test_reaper.py"
        "::test_control_a_wait_beside_the_reaper_reads_a_killed_child_as_a_success",
    ),
    "strict on Python objects refuses paths, lax turns no into false": (
        "config/test_strictness.py::test_a_path_may_be_text_but_no_is_no_boolean",
        "config/test_strictness.py::test_control_strict_on_python_objects_refuses_a_path",
        "config/test_strictness.py::test_control_lax_turns_no_into_false",
    ),
    "DDP rebuilds its buckets after a process's first step": (
        "exactness/test_resume.py::test_resume_is_exact",
        "exactness/test_resume.py::test_control_without_it_resume_differs",
    ),
    "gradients of parameters unfrozen later stay unsynchronised": (
        "train/test_freezing.py::test_unfrozen_gradients_are_exchanged_after_wrapping_anew",
        "train/test_freezing.py::test_control_without_wrapping_anew_every_rank_has_its_own",
    ),
    "transformers takes seconds to import": (
        "train/test_agent.py::test_what_is_forked_from_has_no_gpu_and_no_threads",
    ),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_each_trap_has_its_tests(trap: str) -> None:
    for test in TRAPS[trap]:
        path, name = test.split("::")
        assert name in functions(ROOT / path), test


def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
