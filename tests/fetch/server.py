"""A web server that misbehaves on demand, and enough of the hub's API for the real client.

server.files["/m/config.json"] = b"..."        served with an ETag, Range and If-Range
server.faults["/m/config.json"] = [Drop(10)]   one fault per request, the first first
server.requests                                what was asked, in order
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass(frozen=True)
class Drop:
    """Promise the whole body, send `after` bytes of it, close."""

    after: int


@dataclass(frozen=True)
class Status:
    """Answer with a status and maybe headers, and no file."""

    code: int
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Length:
    """Say the file is so long; send what fits into that."""

    length: int


@dataclass(frozen=True)
class IgnoreRange:
    """Send all of it, whatever part was asked for."""


@dataclass(frozen=True)
class IgnoreIfRange:
    """Send the part asked for although the file is another one by now."""


@dataclass(frozen=True)
class NoLength:
    """Send `after` bytes without saying how many there are, and close."""

    after: int


@dataclass(frozen=True)
class Hold:
    """Send `after` bytes, tell `reached`, and go on when `go` is set."""

    after: int
    reached: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Raw:
    """Answer with these very bytes, and close."""

    answer: bytes


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]


class Server:
    """What it serves and what it was asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.etags: dict[str, str | None] = {}
        """Other than the content's hash; None: neither ETag nor date."""
        self.redirects: dict[str, str] = {}
        self.faults: dict[str, list[Any]] = defaultdict(list)
        self.requests: list[Asked] = []
        self.models: dict[str, HubModel] = {}
        self.url = ""

    def bodies(self, path: str) -> int:
        """How often the file at `path` was asked for with GET."""
        return sum(asked.method == "GET" and asked.path == path for asked in self.requests)

    def etag(self, path: str) -> str | None:
        if path in self.etags:
            return self.etags[path]
        return f'"{hashlib.md5(self.files[path], usedforsecurity=False).hexdigest()}"'


@dataclass
class HubModel:
    """A repository: commits, and what their names are."""

    commits: dict[str, dict[str, bytes]]
    """Files by commit."""
    refs: dict[str, str]
    """`main`, tags, `refs/pr/1` -> commit."""
    discussions: list[dict[str, Any]] = field(default_factory=list)
    token: str | None = None
    """Needed to read it."""
    large: tuple[str, ...] = (".safetensors", ".bin")
    """Kept in LFS: redirected to another path, with sha256."""


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are killed reset their connections."""


@contextmanager
def serving() -> Iterator[Server]:
    """A server on a free port of this machine, until the block ends."""
    state = Server()
    handler = type("Handler", (_Handler,), {"state": state})
    http = _Quiet(("127.0.0.1", 0), handler)
    state.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        for faults in state.faults.values():
            for fault in faults:
                if isinstance(fault, Hold):
                    fault.go.set()
        http.shutdown()
        http.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    state: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = urlsplit(self.path).path
        state = self.state
        state.requests.append(Asked(self.command, path, dict(self.headers.items())))
        faults = state.faults[path]
        fault = faults.pop(0) if faults else None
        if isinstance(fault, Status):
            self._plain(fault.code, fault.headers)
        elif isinstance(fault, Raw):
            self.wfile.write(fault.answer)
            self.close_connection = True
        elif path in state.redirects:
            self._plain(302, {"Location": state.redirects[path]})
        elif path in state.files:
            self._file(state.files[path], state.etag(path), fault, body=body)
        elif not self._hub(path, fault, body=body):
            self._plain(404, {})

    def _plain(self, code: int, headers: dict[str, str], content: bytes = b"") -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, value: Any) -> None:
        self._plain(200, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def _file(
        self,
        content: bytes,
        etag: str | None,
        fault: Any,
        *,
        body: bool,
        headers: dict[str, str] | None = None,
    ) -> None:
        if etag is not None and self.headers.get("If-None-Match") == etag:
            self._plain(304, {"ETag": etag})
            return
        start, total = 0, len(content)
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        fresh = self.headers.get("If-Range") in (None, etag) or isinstance(fault, IgnoreIfRange)
        if asked and fresh and not isinstance(fault, IgnoreRange):
            start = int(asked[1])
            if start >= total:
                self._plain(416, {"Content-Range": f"bytes */{total}"})
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        else:
            self.send_response(200)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if etag is not None:
            self.send_header("ETag", etag)
        rest = content[start:]
        self._send(rest, fault, body=body)

    def _send(self, rest: bytes, fault: Any, *, body: bool) -> None:
        if isinstance(fault, NoLength):
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(rest[: fault.after])
            self.close_connection = True
            return
        length = fault.length if isinstance(fault, Length) else len(rest)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if not body:
            return
        if isinstance(fault, Drop):
            self.wfile.write(rest[: fault.after])
            self.close_connection = True
        elif isinstance(fault, Hold):
            self._held(rest, fault)
        else:
            self.wfile.write(rest[:length])
            self.close_connection = self.close_connection or length > len(rest)

    def _held(self, rest: bytes, fault: Hold) -> None:
        self.wfile.write(rest[: fault.after])
        self.wfile.flush()
        fault.reached.set()
        fault.go.wait(60)
        try:
            self.wfile.write(rest[fault.after :])
        except OSError:  # the one who asked was killed meanwhile
            self.close_connection = True

    # The hub: what model_info, get_repo_discussions and downloads ask for.

    def _hub(self, path: str, fault: Any, *, body: bool) -> bool:
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(.*))?", path)
        if api:
            return self._hub_api(api[1], api[2] or "")
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if file and file[1] in self.state.models:
            return self._hub_file(file[1], unquote(file[2]), file[3], fault, body=body)
        large = re.fullmatch(r"/lfs/([0-9a-f]{64})", path)
        if large:
            return self._large(large[1], fault, body=body)
        return False

    def _hub_api(self, repo: str, rest: str) -> bool:
        model = self.state.models.get(repo)
        if model is None or not self._may_read(model):
            self._plain(401, {"X-Error-Code": "RepoNotFound"})
            return True
        what, _, revision = rest.partition("/")
        if what == "discussions":
            status = parse_qs(urlsplit(self.path).query).get("status", [None])[0]
            found = [
                {**item, "repo": {"name": repo, "type": "model"}}
                for item in model.discussions
                if status in (None, item["status"])
            ]
            self._json({"count": len(found), "start": 0, "discussions": found})
            return True
        name = unquote(revision) or "main"
        commit = model.refs.get(name, name)
        if commit not in model.commits:
            self._plain(404, {"X-Error-Code": "RevisionNotFound"})
        else:
            with_files = "blobs" in parse_qs(urlsplit(self.path).query)
            self._json(self._info(repo, model, commit, with_files=with_files))
        return True

    def _may_read(self, model: HubModel) -> bool:
        return model.token is None or self.headers.get("Authorization") == f"Bearer {model.token}"

    def _info(self, repo: str, model: HubModel, commit: str, *, with_files: bool) -> dict[str, Any]:
        siblings = []
        for name, content in model.commits[commit].items():
            sibling: dict[str, Any] = {"rfilename": name}
            if with_files:
                sibling |= {"size": len(content), "blobId": git_hash(content)}
                if name.endswith(model.large):
                    sha256 = hashlib.sha256(content).hexdigest()
                    sibling["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
            siblings.append(sibling)
        return {"id": repo, "modelId": repo, "sha": commit, "private": False, "siblings": siblings}

    def _hub_file(self, repo: str, revision: str, name: str, fault: Any, *, body: bool) -> bool:
        model = self.state.models[repo]
        if not self._may_read(model):
            self._plain(401, {"X-Error-Code": "GatedRepo"})
            return True
        commit = model.refs.get(revision, revision)
        content = model.commits.get(commit, {}).get(name)
        headers = {"X-Repo-Commit": commit}
        if content is None:
            code = "EntryNotFound" if commit in model.commits else "RevisionNotFound"
            self._plain(404, {**headers, "X-Error-Code": code})
        elif name.endswith(model.large):
            sha256 = hashlib.sha256(content).hexdigest()
            headers |= {"X-Linked-Size": str(len(content)), "X-Linked-Etag": f'"{sha256}"'}
            self._plain(302, {**headers, "Location": f"{self.lfs_host()}/lfs/{sha256}"})
        else:
            self._file(content, f'"{git_hash(content)}"', fault, body=body, headers=headers)
        return True

    def lfs_host(self) -> str:
        """Another origin than the hub's, as on the real one."""
        return self.state.url.replace("127.0.0.1", "localhost")

    def _large(self, sha256: str, fault: Any, *, body: bool) -> bool:
        for model in self.state.models.values():
            for files in model.commits.values():
                for content in files.values():
                    if hashlib.sha256(content).hexdigest() == sha256:
                        self._file(content, f'"{sha256}"', fault, body=body)
                        return True
        return False


def git_hash(content: bytes) -> str:
    """As git names a file's content."""
    header = f"blob {len(content)}\0".encode()
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()
