"""`orchestra tui --web`: the monitor's screens in a browser of this machine, read-only.

Serves on loopback alone. Every request passes the Door (door.py) before anything else looks at
it; the pages come from textual-serve's files and page/, none from elsewhere. Each tab has a
monitor process of its own (process.py).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from importlib.resources import files
from pathlib import Path
from string import Template

from aiohttp import WSCloseCode, WSMsgType, web

from orchestra.tui.web.door import PAGE, WEBSOCKET, Asked, Door
from orchestra.tui.web.process import ServedMonitor, cells
from orchestra.wire.errors import UsageError
from orchestra.workspace import Workspace

HOST = "127.0.0.1"
MOST_TABS = 8
_BEAT_S = 15.0
"""Between two looks whether the browser is still there."""
_MESSAGE_BYTES = 2**20
_OWN_FILES = Path(__file__).parent / "page"

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def serve_monitor(workspace: Workspace, port: int, say: Callable[[str], None]) -> None:
    """Until Ctrl-C. `say` gets the URL that opens it; port 0: any that is free.

    Raises:
        UsageError: the port can't be had.
    """
    with _listen(port) as listener:
        door = Door(listener.getsockname()[1])
        say(door.url)
        web.run_app(
            WebMonitor(workspace, door).application(),
            sock=listener,
            print=None,
            access_log=None,
            shutdown_timeout=1.0,  # its sockets are closed before that
        )


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server((HOST, port))
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"cannot serve on port {port} of {HOST} ({error}): name another one with --port"
        ) from error


class WebMonitor:
    """The pages and the tabs that are open."""

    def __init__(self, workspace: Workspace, door: Door) -> None:
        self._workspace = workspace
        self._door = door
        self._tabs: set[web.WebSocketResponse] = set()

    def application(self) -> web.Application:
        """For aiohttp to run."""
        made = web.Application(middlewares=[self._guard])
        made.on_response_prepare.append(self._no_traces)
        made.on_shutdown.append(self._close_tabs)
        made.router.add_get(PAGE, self._page)
        made.router.add_get(WEBSOCKET, self._tab)
        made.router.add_static("/page", _OWN_FILES)
        made.router.add_static("/static", Path(str(files("textual_serve"))) / "static")
        return made

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Before any route, also those that are not there."""
        refusal = self._door.admit(
            Asked(
                request.method,
                request.path,
                request.headers.get("Host", ""),
                request.headers.get("Origin"),
                request.query.get("token"),
                request.cookies,
            )
        )
        if refusal is not None:
            return web.Response(status=403, text=f"403: {refusal}\n")
        try:
            return await handler(request)
        except web.HTTPException as error:
            return web.Response(status=error.status, text=f"{error.status}: {error.reason}\n")

    async def _no_traces(self, request: web.Request, response: web.StreamResponse) -> None:
        """No other page may frame, read or keep what is here."""
        socket_url = f"ws://{request.headers.get('Host', '')}"
        admitted = request.headers.get("Host") in self._door.hosts
        response.headers.update(
            {
                "Content-Security-Policy": "default-src 'none'; script-src 'self'; "
                "style-src 'self' 'unsafe-inline'; font-src 'self'; img-src 'self' data:; "
                f"connect-src 'self'{f' {socket_url}' if admitted else ''}; "
                "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
                "Cache-Control": "no-store",
                "Referrer-Policy": "no-referrer",
                "X-Frame-Options": "DENY",
                "X-Content-Type-Options": "nosniff",
                "Cross-Origin-Resource-Policy": "same-origin",
                "Cross-Origin-Opener-Policy": "same-origin",
                "Permissions-Policy": "clipboard-read=()",
            }
        )

    async def _page(self, request: web.Request) -> web.StreamResponse:
        """No redirect hides the token: a strict cookie would not come along from a link elsewhere.
        page.js takes it out of the address bar."""
        text = Template((_OWN_FILES / "index.html").read_text(encoding="utf-8"))
        page = text.substitute(websocket=f"ws://{request.host}{WEBSOCKET}")
        response = web.Response(text=page, content_type="text/html")
        response.set_cookie(
            self._door.cookie, self._door.session, httponly=True, samesite="Strict", path="/"
        )
        return response

    async def _tab(self, request: web.Request) -> web.StreamResponse:
        """A monitor, for as long as the browser stays."""
        if len(self._tabs) >= MOST_TABS:
            return web.Response(status=503, text=f"503: {MOST_TABS} tabs are open already\n")
        try:
            size = cells(request.query.get("width", 80)), cells(request.query.get("height", 24))
        except ValueError:
            return web.Response(status=400, text="400: width and height are numbers\n")
        tab = web.WebSocketResponse(heartbeat=_BEAT_S, max_msg_size=_MESSAGE_BYTES)
        await tab.prepare(request)
        self._tabs.add(tab)
        monitor = ServedMonitor(self._workspace, tab)
        try:
            await monitor.start(*size)
            async for message in tab:
                if message.type is WSMsgType.TEXT:
                    await monitor.receive(message.data)
        finally:
            # Shielded: this task is cancelled when the browser goes, the process must go as well.
            await asyncio.shield(monitor.stop())
            self._tabs.discard(tab)
        return tab

    async def _close_tabs(self, _: web.Application) -> None:
        """At the end: each `_tab` then stops its monitor."""
        await asyncio.gather(*(tab.close(code=WSCloseCode.GOING_AWAY) for tab in list(self._tabs)))
        while self._tabs:  # bounded: a monitor that does not leave is killed
            await asyncio.sleep(0.05)
