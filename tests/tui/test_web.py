"""`orchestra tui --web`: who may come in, what they see, and that nothing of it stays behind."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientSession, WSMsgType, WSServerHandshakeError

from orchestra.tui.web import process as web_process
from orchestra.tui.web.door import Asked, Door
from orchestra.tui.web.process import cells
from orchestra.tui.web.server import WebMonitor, serve_monitor
from orchestra.wire.errors import UsageError
from orchestra.workspace import Workspace
from tests.chaos.sandbox import wait_for
from tests.tui.monitor import add_runs

ROOT = Path(__file__).parents[2]
PORT = 8011
ROUTES = ("/", "/ws", "/static/js/textual.js", "/page/page.css", "/download/x", "/static/", "/no")
SERVE = """
import sys
from pathlib import Path
from orchestra.tui.web.server import serve_monitor
from orchestra.workspace import find_workspace
serve_monitor(find_workspace(Path(sys.argv[1])), 0, lambda url: print(url, flush=True))
"""
CHROMIUM = shutil.which("chromium")


def asked(**changed: Any) -> Asked:
    plain = {"method": "GET", "path": "/", "host": f"127.0.0.1:{PORT}", "origin": None}
    return Asked(**{**plain, "token": None, "cookies": {}, **changed})


def test_the_token_opens_once() -> None:
    door = Door(PORT)
    assert door.token is not None and len(door.token) > 40 and door.token in door.url
    by_token = asked(token=door.token)
    assert "good for one browser" in str(door.admit(asked()))
    assert door.admit(asked(token=door.token.swapcase())) is not None
    assert door.admit(asked(token=door.token, path="/static/js/textual.js")) is not None
    assert door.admit(by_token) is None
    assert "good for one browser" in str(door.admit(by_token)), "it is spent"
    assert door.admit(asked(token="None")) is not None


def test_the_cookie_opens_for_our_own_page_alone() -> None:
    door = Door(PORT)
    cookies = {door.cookie: door.session}
    ours = f"http://127.0.0.1:{PORT}"
    assert door.admit(asked(cookies=cookies)) is None
    assert door.admit(asked(cookies=cookies, path="/ws", origin=ours)) is None
    assert door.admit(asked(cookies={door.cookie: ""})) is not None
    assert door.admit(asked(cookies={"orchestra-1": door.session})) is not None
    for wrong in (
        {"path": "/ws"},
        {"path": "/ws", "origin": "http://evil.example"},
        {"path": "/ws", "origin": f"http://localhost:{PORT}"},
        {"path": "/ws", "origin": f"http://127.0.0.1:{PORT + 1}"},
        {"origin": "null"},
        {"host": f"evil.example:{PORT}"},
        {"host": "127.0.0.1"},
        {"host": f"127.0.0.1:{PORT}.evil.example"},
        {"host": ""},
        {"method": "POST"},
    ):
        assert door.admit(asked(cookies=cookies, **wrong)) is not None, wrong


def test_a_foreign_request_spends_no_token() -> None:
    door = Door(PORT)
    for wrong in ({"host": "evil.example"}, {"origin": "http://evil.example"}, {"method": "HEAD"}):
        assert door.admit(asked(token=door.token, **wrong)) is not None
    assert door.admit(asked(token=door.token)) is None


def test_sizes_are_bounded() -> None:
    assert [cells(value) for value in ("0", 120, 10**12)] == [1, 120, 1000]


def test_a_port_that_is_taken_is_a_sentence(workspace: Workspace) -> None:
    with pytest.raises(UsageError, match="--port"):
        serve_monitor(workspace, 1 << 20, print)


def served(test: Callable[[Site], Coroutine[Any, Any, None]]) -> Callable[[Workspace], None]:
    """The test gets the pages of a server in this process."""

    async def run(workspace: Workspace) -> None:
        async with site(workspace) as opened:
            await test(opened)

    def driven(workspace: Workspace) -> None:
        asyncio.run(run(workspace))

    return driven


class Site:
    """A server and a browser without a cookie."""

    def __init__(self, door: Door, session: ClientSession) -> None:
        self.door = door
        self.session = session
        self.base = f"http://127.0.0.1:{door.port}"

    async def get(self, path: str, **headers: str) -> aiohttp.ClientResponse:
        return await self.session.get(self.base + path, headers=headers)

    async def come_in(self) -> aiohttp.ClientResponse:
        return await self.get(f"/?token={self.door.token}")

    def socket(self, **headers: str) -> Awaitable[aiohttp.ClientWebSocketResponse]:
        url = f"{self.base}/ws?width=100&height=30"
        return self.session.ws_connect(url, headers={"Origin": self.base, **headers})


@asynccontextmanager
async def site(workspace: Workspace) -> AsyncIterator[Site]:
    door = Door(0)
    runner = aiohttp.web.AppRunner(WebMonitor(workspace, door).application(), shutdown_timeout=1)
    await runner.setup()
    await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
    door.port = runner.addresses[0][1]
    try:
        async with ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
            yield Site(door, session)
    finally:
        await runner.cleanup()


@served
async def test_nothing_is_shown_to_who_has_no_cookie(opened: Site) -> None:
    for path in ROUTES:
        answer = await opened.get(path)
        assert answer.status == 403, path
        assert opened.door.session not in str(answer.headers)
    with pytest.raises(WSServerHandshakeError) as refused:
        await opened.socket()
    assert refused.value.status == 403


@served
async def test_the_cookie_is_of_one_browser_and_out_of_reach_of_scripts(opened: Site) -> None:
    url = f"/?token={opened.door.token}"
    first = await opened.get(url)
    cookie = first.headers["Set-Cookie"]
    assert first.status == 200 and "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert opened.door.token is None and opened.door.session in cookie
    again = {path: (await opened.get(path)).status for path in ROUTES}
    assert again == {
        **dict.fromkeys(("/", "/static/js/textual.js", "/page/page.css"), 200),
        **{"/ws": 403, "/download/x": 404, "/static/": 403, "/no": 404},
    }
    opened.session.cookie_jar.clear()
    assert (await opened.get(url)).status == 403, "a token that was seen opens nothing"


@served
async def test_other_names_and_pages_get_nothing(opened: Site) -> None:
    await opened.come_in()
    assert (await opened.get("/", Host="evil.example")).status == 403
    assert (await opened.get("/", Origin="http://evil.example")).status == 403
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        with pytest.raises(WSServerHandshakeError) as refused:
            await opened.socket(**headers)
        assert refused.value.status == 403
    assert (await opened.session.post(opened.base + "/")).status == 403


@served
async def test_nothing_is_framed_kept_or_loaded_from_elsewhere(opened: Site) -> None:
    page = await opened.come_in()
    refused = await opened.get("/", Host="evil.example")
    for answer in (page, refused):
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
    text = await page.text()
    style = await (await opened.get("/page/page.css")).text()
    assert "http" not in (text + style).replace(f"ws://127.0.0.1:{opened.door.port}/ws", "")


async def said_until(socket: aiohttp.ClientWebSocketResponse, text: str) -> None:
    """What the monitor draws, until `text` was among it."""
    seen = ""
    async with asyncio.timeout(60):
        while text not in seen:
            message = await socket.receive()
            assert message.type is not WSMsgType.CLOSED, seen[-2000:]
            if message.type is WSMsgType.BINARY:
                seen += message.data.decode(errors="replace")


def children() -> set[int]:
    """Monitors that this process has started."""
    return {
        int(stat.parent.name)
        for stat in Path("/proc").glob("[0-9]*/stat")
        if b"orchestra.tui.web.served" in _read(stat.with_name("cmdline"))
    }


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def monitors_of(workspace: Workspace) -> list[int]:
    mark = os.fspath(workspace.root).encode()
    return [pid for pid in children() if mark in _read(Path(f"/proc/{pid}/cmdline")).split(b"\0")]


def test_a_tab_shows_the_runs_and_leaves_no_process(workspace: Workspace) -> None:
    add_runs(workspace, ["asr-in-a-browser"])

    async def look(opened: Site) -> None:
        await opened.come_in()
        tabs = [await opened.socket(), await opened.socket()]
        for tab in tabs:
            await said_until(tab, "asr-in-a-browser")
        assert len(monitors_of(workspace)) == 2
        for nonsense in ("", "{", "[]", '["resize"]', '["resize", {"width": "x"}]', '["stdin"]'):
            await tabs[0].send_str(nonsense)
        await tabs[0].send_json(["resize", {"width": 60, "height": 20}])
        await said_until(tabs[0], "asr-in-a-browser")
        await tabs[0].send_json(["stdin", "q"])
        async with asyncio.timeout(30):
            while (await tabs[0].receive()).type not in (WSMsgType.CLOSE, WSMsgType.CLOSED):
                pass
        await tabs[1].close()
        async with asyncio.timeout(30):
            while monitors_of(workspace):
                await asyncio.sleep(0.05)

    served(look)(workspace)


def test_a_monitor_that_does_not_leave_is_killed(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_process, "GRACE_S", 0.2)
    add_runs(workspace, ["asr"])

    async def look(opened: Site) -> None:
        await opened.come_in()
        tab = await opened.socket()
        await said_until(tab, "asr")
        (pid,) = monitors_of(workspace)
        os.kill(pid, signal.SIGSTOP)
        await tab.close()
        async with asyncio.timeout(30):
            while monitors_of(workspace):
                await asyncio.sleep(0.05)

    served(look)(workspace)


@contextmanager
def server(workspace: Workspace) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The real server, and the URL that opens it."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(workspace.root)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_the_end_of_the_server_is_the_end_of_its_monitors(
    workspace: Workspace, how: signal.Signals
) -> None:
    add_runs(workspace, ["asr"])

    async def look(process: subprocess.Popen[str], url: str) -> None:
        base = url.split("/?")[0]
        async with ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
            assert (await session.get(url)).status == 200
            tab = await session.ws_connect(f"{base}/ws", headers={"Origin": base})
            await said_until(tab, "asr")
            assert len(monitors_of(workspace)) == 1
            process.send_signal(how)
            async with asyncio.timeout(30):
                while (await tab.receive()).type is WSMsgType.BINARY:
                    pass

    with server(workspace) as (process, url):
        asyncio.run(look(process, url))
        assert process.wait(30) == (0 if how is signal.SIGINT else -how)
        wait_for("its monitor's end", lambda: not monitors_of(workspace))


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (Debian's package)")
def test_a_browser_shows_the_runs(workspace: Workspace, tmp_path: Path) -> None:
    add_runs(workspace, ["asr-in-chromium"])
    with server(workspace) as (_, url), chromium(tmp_path) as port:
        picture, address = asyncio.run(_picture(port, url))
    assert picture.startswith(b"\x89PNG")
    assert address == url.split("?")[0], "the spent token stays in no history"


@contextmanager
def chromium(folder: Path) -> Iterator[int]:
    """A browser without a window; the port at which it is driven."""
    process = subprocess.Popen(
        [
            *(str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--remote-debugging-port=0", f"--user-data-dir={folder / 'chromium'}"),
            *("--disable-dev-shm-usage", "--window-size=1200,720", "about:blank"),
        ],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    told = folder / "chromium" / "DevToolsActivePort"
    try:
        wait_for("the browser's port", lambda: told.is_file() and told.read_text())
        yield int(told.read_text().splitlines()[0])
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


_BINARY = 2
_DRAWN_BYTES = 15_000
"""A picture of the empty page has fewer."""


async def _picture(port: int, url: str) -> tuple[bytes, str]:
    """What a tab looks like once it was sent the run's name and has drawn; its address then."""
    async with ClientSession() as session:
        pages = await (await session.get(f"http://127.0.0.1:{port}/json")).json()
        (page,) = (each for each in pages if each["type"] == "page")
        async with session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as tools:
            frames: list[bytes] = []
            numbers = iter(range(1, 10_000))

            async def ask(method: str, **parameters: Any) -> dict[str, Any]:
                number = next(numbers)
                await tools.send_json({"id": number, "method": method, "params": parameters})
                while True:
                    message = json.loads((await tools.receive()).data)
                    if message.get("method") == "Network.webSocketFrameReceived":
                        frame = message["params"]["response"]
                        if frame["opcode"] == _BINARY:
                            frames.append(base64.b64decode(frame["payloadData"]))
                    if message.get("id") == number:
                        return dict(message.get("result", {}))

            async def photograph() -> bytes:
                shot = await ask("Page.captureScreenshot", format="png")
                return base64.b64decode(shot["data"])

            await ask("Network.enable")
            await ask("Page.navigate", url=url)
            async with asyncio.timeout(60):
                while not any(b"asr-in-chromium" in frame for frame in frames):
                    await ask("Runtime.evaluate", expression="0")
                while len(picture := await photograph()) < _DRAWN_BYTES:
                    pass
            where = await ask("Runtime.evaluate", expression="location.href")
            return picture, where["result"]["value"]
