"""What systemd would do at logout, from files laid out as systemd reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestra.schedule.logout import fate, kills_user_processes, removes_ipc

SESSION = "0::/user.slice/user-1000.slice/session-3.scope\n"
MANAGER = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-terminal.scope\n"
LEGACY = "11:memory:/user.slice\n1:name=systemd:/user.slice/user-1000.slice/session-3.scope\n0::/\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    return tmp_path


def write(root: Path, name: str, *lines: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["[Login]", *lines]))


def told(root: Path, group: str, user: str = "ann") -> tuple[bool, str]:
    (root / "cgroup").write_text(group)
    found = fate(user, root, root)
    return found.survives, f"{found.detail}; {found.hint}"


@pytest.mark.parametrize("group", [SESSION, LEGACY])
def test_a_session_is_killed_if_logind_says_so(root: Path, group: str) -> None:
    assert told(root, group)[0]
    write(root, "etc/systemd/logind.conf", "KillUserProcesses=yes")
    survives, text = told(root, group)
    assert not survives
    # Lingering alone does not help: it is the session's scope that is killed.
    assert "`loginctl enable-linger ann`, then start runs by `systemd-run --user --scope" in text
    (root / "var/lib/systemd/linger").mkdir(parents=True)
    (root / "var/lib/systemd/linger/ann").touch()
    survives, text = told(root, group)
    assert not survives and "linger" not in text


def test_a_user_unit_needs_lingering(root: Path) -> None:
    survives, text = told(root, MANAGER)
    assert not survives and "`loginctl enable-linger ann`" in text
    (root / "var/lib/systemd/linger").mkdir(parents=True)
    (root / "var/lib/systemd/linger/ann").touch()
    assert told(root, MANAGER)[0]


def test_without_systemd_the_container_is_what_ends(root: Path) -> None:
    (root / "run/systemd/system").rmdir()
    write(root, "etc/systemd/logind.conf", "KillUserProcesses=yes")
    survives, text = told(root, SESSION)
    assert survives and "`orchestra up`" in text


def test_drop_ins_follow_their_names_and_etc_hides_the_others(root: Path) -> None:
    write(root, "usr/lib/systemd/logind.conf", "KillUserProcesses=yes")
    assert kills_user_processes("ann", root)
    write(root, "etc/systemd/logind.conf", "#KillUserProcesses=yes")  # instead of the vendor's
    assert not kills_user_processes("ann", root)
    write(root, "usr/lib/systemd/logind.conf.d/50-a.conf", "KillUserProcesses=yes")
    assert kills_user_processes("ann", root)
    write(root, "run/systemd/logind.conf.d/60-b.conf", "KillUserProcesses = off")
    assert not kills_user_processes("ann", root)
    write(root, "etc/systemd/logind.conf.d/60-b.conf", "# nothing")
    assert kills_user_processes("ann", root)
    (root / "etc/systemd/logind.conf.d/50-a.conf").symlink_to("/dev/null")
    assert not kills_user_processes("ann", root)


def test_users_may_be_spared_or_chosen(root: Path) -> None:
    write(root, "etc/systemd/logind.conf", "KillUserProcesses=yes")
    assert not kills_user_processes("root", root)
    write(root, "etc/systemd/logind.conf.d/1.conf", "KillExcludeUsers=ann bob")
    assert not kills_user_processes("ann", root)
    assert kills_user_processes("root", root) and kills_user_processes("eve", root)
    write(root, "etc/systemd/logind.conf.d/1.conf", "KillExcludeUsers=", "KillOnlyUsers=eve")
    assert kills_user_processes("eve", root) and not kills_user_processes("ann", root)


def test_only_the_login_table_counts(root: Path) -> None:
    path = root / "etc/systemd/logind.conf"
    path.parent.mkdir(parents=True)
    path.write_text("[Other]\nKillUserProcesses=yes\n[Login]\n; KillUserProcesses=yes\n")
    assert not kills_user_processes("ann", root)


def test_heartbeats_are_unlinked_at_logout_unless_logind_is_told_otherwise(root: Path) -> None:
    assert removes_ipc("ann", 1000, root), "its default"
    assert not removes_ipc("root", 0, root) and not removes_ipc("postgres", 999, root)
    write(root, "etc/systemd/logind.conf", "RemoveIPC=no")
    assert not removes_ipc("ann", 1000, root)
    write(root, "etc/systemd/logind.conf", "RemoveIPC=yes")
    assert removes_ipc("ann", 1000, root)
    (root / "var/lib/systemd/linger").mkdir(parents=True)
    (root / "var/lib/systemd/linger/ann").touch()
    assert not removes_ipc("ann", 1000, root)


def test_without_systemd_nobody_unlinks_heartbeats(root: Path) -> None:
    (root / "run/systemd/system").rmdir()
    assert not removes_ipc("ann", 1000, root)
