"""One browser tab's monitor: a process that is gone when the tab is, or the server.

textual-serve starts its app through a shell and waits for ever for one that hangs; ours does
neither.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from asyncio.subprocess import PIPE, Process

from aiohttp.web import WebSocketResponse
from textual_serve.app_service import AppService
from textual_serve.download_manager import DownloadManager

from orchestra.wire import lifeline
from orchestra.workspace import Workspace

GRACE_S = 5.0
"""For the monitor to leave by itself."""
_LARGEST = 1000  # columns or rows


class ServedMonitor(AppService):
    """`start`, then `receive` what the browser says; `stop` in any case."""

    def __init__(self, workspace: Workspace, socket: WebSocketResponse) -> None:
        super().__init__(
            "",  # the shell command that textual-serve would run
            write_bytes=socket.send_bytes,
            write_str=socket.send_str,
            close=self._close,
            download_manager=DownloadManager(),
        )
        self._socket = socket
        self._arguments = [str(workspace.root), str(workspace.runs.path)]

    async def _open_app_process(self, width: int = 80, height: int = 24) -> Process:
        environment = self._build_environment(width=width, height=height)
        lifeline.announce(environment)
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "orchestra.tui.web.served", *self._arguments),
            env=environment,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
        )
        self._stdin = self._process.stdin
        return self._process

    async def _close(self) -> None:
        await self._socket.close()

    async def run(self) -> None:
        """Pass on what it draws, to its end; the browser is told of that."""
        await super().run()
        await self.remote_close()

    async def on_meta(self, data: bytes) -> None:
        """Its end is told by `run`; it may open no page and send no file."""

    async def on_packed(self, payload: bytes) -> None:
        """Nothing is downloaded."""

    async def receive(self, text: str) -> None:
        """A message of the page; what it does not say is left out."""
        try:
            kind, *values = json.loads(text)
            if kind == "stdin":
                await self.send_bytes(str(values[0]).encode())
            elif kind == "resize":
                await self.set_terminal_size(cells(values[0]["width"]), cells(values[0]["height"]))
            elif kind == "ping":
                await self.remote_write_str(json.dumps(["pong", str(values[0])]))
            elif kind == "focus":
                await self.focus()
            elif kind == "blur":
                await self.blur()
        except (ValueError, TypeError, KeyError, IndexError, RecursionError):
            return

    async def stop(self) -> None:
        """Ask it to leave, then make it."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GRACE_S):
                    await self.send_meta({"type": "quit"})
                    await process.wait()
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)


def cells(value: object) -> int:
    """A width or height that can be drawn (ValueError, TypeError)."""
    return max(1, min(int(str(value)), _LARGEST))
