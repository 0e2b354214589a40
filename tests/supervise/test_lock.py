from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from orchestra.supervise.lock import FileLock, is_held


def test_one_holder(tmp_path: Path) -> None:
    lock = FileLock.try_acquire(tmp_path / "lock")
    assert lock is not None
    assert FileLock.try_acquire(tmp_path / "lock") is None
    assert FileLock.acquire(tmp_path / "lock", timeout_s=0.05) is None
    lock.close()
    again = FileLock.try_acquire(tmp_path / "lock")
    assert again is not None
    again.close()


def test_a_child_that_inherits_it_holds_it_until_its_death(tmp_path: Path) -> None:
    lock = FileLock.try_acquire(tmp_path / "lock")
    assert lock is not None
    child = subprocess.Popen(["/bin/sleep", "600"], pass_fds=(lock.fd,))
    lock.close()
    assert FileLock.try_acquire(tmp_path / "lock") is None
    child.kill()
    child.wait()
    freed = FileLock.try_acquire(tmp_path / "lock")
    assert freed is not None
    freed.close()


def test_grandchildren_do_not_inherit_it(tmp_path: Path) -> None:
    """The agent must not keep the lock of a supervisor that died."""
    lock = FileLock.try_acquire(tmp_path / "lock")
    assert lock is not None
    program = (
        "import subprocess, sys; from orchestra.supervise.lock import FileLock\n"
        "lock = FileLock(int(sys.argv[1]))\n"
        "print(subprocess.Popen(['/bin/sleep', '600'], close_fds=False, stdout=2).pid)"
    )
    command = [sys.executable, "-c", program, str(lock.fd)]
    answer = subprocess.run(command, pass_fds=(lock.fd,), stdout=subprocess.PIPE, check=True)
    lock.close()
    try:
        # An exec closes one descriptor after the other; Popen waits for that of its own pipe only.
        freed = FileLock.acquire(tmp_path / "lock", timeout_s=60.0)
        assert freed is not None
        freed.close()
    finally:
        subprocess.run(["kill", "-9", answer.stdout.strip()], check=True)


def test_who_only_looks_keeps_nobody_from_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    looker = os.open(path, os.O_RDONLY)
    fcntl.flock(looker, fcntl.LOCK_SH)
    assert FileLock.try_acquire(path) is None
    with ThreadPoolExecutor(1) as thread:
        wanted = thread.submit(FileLock.acquire_if_free, path)
        os.close(looker)
        lock = wanted.result(60)
    assert lock is not None
    with lock:
        assert is_held(path)
        assert FileLock.acquire_if_free(path) is None
    assert not is_held(path)
    assert not is_held(tmp_path / "none")
