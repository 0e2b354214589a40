"""Following a job from the terminal that started it, until it ends, is detached or stopped."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from orchestra.cli.interrupts import Interrupts
from orchestra.cli.output import can_ask, say
from orchestra.cli.progress import Progress
from orchestra.wire.errors import ConflictError
from orchestra.wire.exit_codes import ExitCode
from orchestra.wire.states import RunState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestra.registry.rows import JobKey
    from orchestra.schedule.watch import View
    from orchestra.workspace import Workspace

_QUESTION = "\nCtrl-C: [d]etach and let it run, [s]top it, or [c]ontinue watching? "


class Attached:
    """One followed job. Ctrl-C asks; without a terminal it stops the job, twice kills it.

    `rest`: jobs that are stopped with it, and before it, lest its end starts them.
    """

    def __init__(
        self, workspace: Workspace, key: JobKey, *, quiet: bool, rest: Sequence[JobKey] = ()
    ) -> None:
        self._workspace = workspace
        self._key = key
        self._rest = rest
        self._progress = Progress(sys.stderr, quiet=quiet)
        self._stopping = False

    def follow(self, interrupts: Interrupts) -> View | None:
        """The job's end, or None if the user detached."""
        from orchestra.schedule.watch import watch

        for view in watch(self._workspace, self._key):
            self._progress.show(view)
            if view.ended:
                self._progress.finish(view)
                return view
            if interrupts.take() and not self._answer():
                return None
        raise AssertionError("watch ends with an ended job")

    def exit_code(self, view: View) -> ExitCode:
        """0 completed, 130 stopped by Ctrl-C here, else 1."""
        if view.state == RunState.COMPLETED:
            return ExitCode.OK
        return ExitCode.INTERRUPTED if self._stopping else ExitCode.FAILED

    def _answer(self) -> bool:
        """What Ctrl-C means; False to detach."""
        if self._stopping:
            self._stop(now=True)
            return True
        choice = _ask() if can_ask() else "s"
        if choice == "d":
            say(f"detached; follow it with `orchestra logs {self._key.run_id} -f`")
            return False
        if choice == "s":
            self._stop(now=False)
        return True

    def _stop(self, *, now: bool) -> None:
        from orchestra.schedule.stop import stop

        self._stopping = True
        say("killing it" if now else "stopping: it saves and ends (Ctrl-C again kills it)")
        for key in reversed(self._rest):
            with suppress(ConflictError):  # it has ended
                stop(self._workspace, key, now=now)
        try:
            stop(self._workspace, self._key, now=now)
        except ConflictError as error:  # it ended in this very moment
            say(str(error))


def _ask() -> str:
    """d, s or c. Another Ctrl-C or the end of input instead of an answer means stop."""
    print(_QUESTION, end="", file=sys.stderr, flush=True)
    counting = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        answer = sys.stdin.readline()
    except KeyboardInterrupt:
        return "s"
    finally:
        signal.signal(signal.SIGINT, counting)
    return (answer.strip().lower() or "c")[0] if answer else "s"
