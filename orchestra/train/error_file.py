"""What a rank raised, for the agent to read: a whole file or none."""

from __future__ import annotations

import os
from pathlib import Path

from torch.distributed.elastic.multiprocessing.errors import ErrorHandler

_PATH = "TORCHELASTIC_ERROR_FILE"


class WholeErrorFile(ErrorHandler):
    """torchrun's own handler writes in place. A rank may be killed over it, since its peer's death
    is what it tells of; torchrun can't read the half of it, dies, and no failure is on record."""

    def record_exception(self, e: BaseException) -> None:
        super().record_exception(e)
        if _PATH in os.environ:
            self._unfinished().rename(os.environ[_PATH])

    def _get_error_file_path(self) -> str | None:
        return os.fspath(self._unfinished()) if _PATH in os.environ else None

    def _unfinished(self) -> Path:
        return Path(os.environ[_PATH] + ".new")
