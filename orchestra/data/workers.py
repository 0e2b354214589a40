"""Loader workers that are sure to have begun. For torch's DataLoader, as its context.

A rank has threads of C++ (gloo's, NCCL's, autograd's). Where a thread's state is made or dropped,
as when such a thread asks for the GIL, in the very moment of a fork, the child of CPython 3.11
waits for ever for a lock that nobody in it holds, before its first line of Python; the rank would
then wait for the worker. In a loop of validations on three ranks that took a few hundred forks. So
each worker gives a sign of life, and one that gives none is killed and forked again: it has done
nothing yet.
"""

from __future__ import annotations

import os
import select
from multiprocessing.context import ForkContext, ForkProcess
from multiprocessing.popen_fork import Popen

from orchestra.wire.errors import OrchestraError

PATIENCE_S = (2.0, 10.0, 60.0)
"""For each try; a busy machine may take long to let a process begin."""


class Worker(ForkProcess):
    """Forked until it begins."""

    _sign: int

    def run(self) -> None:
        """In the child."""
        os.write(self._sign, b".")
        os.close(self._sign)
        super().run()

    @staticmethod
    def _Popen(process_obj: Worker) -> Popen:  # type: ignore[override]
        """What `start` calls (OrchestraError: it never begins)."""
        for patience_s in PATIENCE_S:
            sign, process_obj._sign = os.pipe()
            try:
                forked = Popen(process_obj)
                os.close(process_obj._sign)
                if _is_given(sign, patience_s):
                    return forked
            finally:
                os.close(sign)
            forked.kill()
            forked.wait()
            forked.close()
        raise OrchestraError(
            f"a loader worker did not begin within {PATIENCE_S[-1]:g} s, the last of "
            f"{len(PATIENCE_S)} tries: is this machine overloaded? Read in the rank itself with "
            "--set data.workers=0"
        )


def _is_given(sign: int, patience_s: float) -> bool:
    """Also where the worker has died since: that is seen when it is asked for something."""
    given = select.poll()  # takes any descriptor: select ends at 1,023, which many batches pass
    given.register(sign, select.POLLIN)
    return bool(given.poll(1000 * patience_s))


class WorkerContext(ForkContext):
    """As multiprocessing's "fork"."""

    Process = Worker
