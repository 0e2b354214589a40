"""Who a process is: machine, boot, pid and start ticks together never name two processes.

A pid alone is reused; pid + start ticks is unique within a boot; the boot id tells a reboot;
the machine id tells another host that shares the run folder.
"""

from __future__ import annotations

import os
import pwd
import re
import socket
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

_MARK = re.compile(r"-([0-9]+)-([0-9]+)$")


@dataclass(frozen=True)
class ProcessIdentity:
    """One process of one boot of one machine."""

    machine_id: str
    boot_id: str
    pid: int
    start_ticks: int
    host: str = ""

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        """The identity of a process that lives here now; None if there is none."""
        ticks = start_ticks(pid)
        if ticks is None:
            return None
        return cls(machine_id(), boot_id(), pid, ticks, socket.gethostname())

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> ProcessIdentity:
        """The inverse of `to_json`."""
        return cls(
            str(value["machine_id"]),
            str(value["boot_id"]),
            int(value["pid"]),
            int(value["start_ticks"]),
            str(value.get("host", "")),
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)

    def is_here(self) -> bool:
        """Whether it lived on this machine (in this boot or an earlier one)."""
        return self.machine_id == machine_id()

    def is_alive(self) -> bool:
        """Whether this very process runs here now. Always False for another machine's."""
        return (
            self.is_here()
            and self.boot_id == boot_id()
            and start_ticks(self.pid) == self.start_ticks
        )


@cache
def machine_id() -> str:
    """Constant over reboots. Falls back to the host name where the system has no machine id."""
    for path in (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id")):
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text:
            return text
    return f"host-{socket.gethostname()}"


@cache
def boot_id() -> str:
    """Constant from boot to shutdown."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_ticks(pid: int) -> int | None:
    """Clock ticks after boot at which `pid` started; None if it does not run (or is a zombie)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The command name may hold spaces and parentheses; fields are counted after the last one.
    fields = stat[stat.rindex(b")") + 2 :].split()
    if fields[0] in (b"Z", b"X"):
        return None
    return int(fields[19])


def self_identity() -> ProcessIdentity:
    """The identity of the calling process."""
    identity = ProcessIdentity.of(os.getpid())
    assert identity is not None
    return identity


def user_name() -> str:
    """This user's name, or number where it has none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def marked(name: str) -> str:
    """`name` and who this process is: for a folder that nobody needs once its writer is dead."""
    pid = os.getpid()
    return f"{name}-{pid}-{start_ticks(pid)}"


def is_of_dead_writer(name: str) -> bool:
    """Whether a process that runs no more has `marked` it; False for names of other forms."""
    mark = _MARK.search(name)
    return mark is not None and start_ticks(int(mark[1])) != int(mark[2])
