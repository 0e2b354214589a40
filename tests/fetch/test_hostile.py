"""Answers that no server should give: none of them makes a file, a traceback or a secret told."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from orchestra.fetch.cache import Cache, key_of
from orchestra.fetch.download import Download, Expected, Received
from orchestra.fetch.lock import only_one
from orchestra.fetch.partial import Partial
from orchestra.fetch.places import whole_blob
from orchestra.fetch.web import MissingError
from orchestra.wire.errors import DataError, NotFoundError, OrchestraError
from tests.fetch.conftest import Told
from tests.fetch.server import Drop, Raw, Server, Status

CONTENT = bytes(range(256)) * 2000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PATH = "/model.safetensors"


def download(server: Server, told: Told, cache: Cache, **expected: Any) -> Received:
    url = server.url + PATH
    received = Download(told.web(), cache, key_of(url), url, Expected(**expected)).run()
    assert received is not None
    return received


def left_behind(cache: Cache) -> list[Path]:
    return [path for name in ("partial", "blobs") for path in (cache.root / name).glob("*")]


def answer(status: str, *headers: str, body: bytes = b"") -> Raw:
    lines = [f"HTTP/1.1 {status}", *headers, "Connection: close", "", ""]
    return Raw("\r\n".join(lines).encode("latin-1") + body)


@pytest.mark.parametrize(
    "span", ["bytes 5-7/*", "bytes 5-9/" + "9" * 5000, "bytes 5-9", "pages 5-9/10", ""]
)
def test_a_part_of_who_knows_how_much_is_never_the_end(
    server: Server, told: Told, own_cache: Cache, span: str
) -> None:
    server.files[PATH] = CONTENT
    part = answer("206 Partial", f"Content-Range: {span}", "Content-Length: 3", body=b"xyz")
    server.faults[PATH] = [Drop(100_000), part]
    assert download(server, told, own_cache).sha256 == SHA256
    assert [asked.headers.get("Range") for asked in server.requests] == [
        None,
        "bytes=100000-",
        None,
    ]


def test_a_file_that_changed_is_noticed_by_its_date_alone(
    server: Server, told: Told, own_cache: Cache
) -> None:
    old, new = (f"Last-Modified: {day} Jan 2024 00:00:00 GMT" for day in ("Mon, 01", "Tue, 02"))
    server.faults[PATH] = [
        answer("200 OK", old, "Content-Length: 10", body=b"hello"),
        answer("206 Part", new, "Content-Range: bytes 5-9/10", "Content-Length: 5", body=b"WORLD"),
        answer("200 OK", new, "Content-Length: 10", body=b"HELLOWORLD"),
    ]
    assert download(server, told, own_cache).path.read_bytes() == b"HELLOWORLD"


def test_a_kill_between_two_versions_leaves_no_mix(
    server: Server, told: Told, own_cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The note of the newer version must not lie beside bytes of the older one."""
    server.files[PATH] = CONTENT
    server.faults[PATH] = [Drop(100_000), *[Drop(0)] * 9]
    with pytest.raises(NotFoundError):
        download(server, told, own_cache)
    server.files[PATH], server.faults[PATH] = CONTENT[::-1], []
    litter = own_cache.partial(f".{key_of(server.url + PATH)}.json.42.tmp")
    litter.write_text("half a note")
    begin = Partial.begin

    def killed(self: Partial, *version: Any) -> None:
        begin(self, *version)
        raise KeyboardInterrupt

    with monkeypatch.context() as at_once:
        at_once.setattr(Partial, "begin", killed)
        with pytest.raises(KeyboardInterrupt):
            download(server, told, own_cache)
    received = download(server, told, own_cache)
    assert received.path.read_bytes() == CONTENT[::-1]
    assert left_behind(own_cache) == [received.path]


def test_an_answer_that_does_not_end_is_left(server: Server, told: Told, own_cache: Cache) -> None:
    server.faults[PATH] = [answer("200 OK", body=b"x" * 1000)]
    with pytest.raises(DataError, match="more came than the 5 bytes promised"):
        download(server, told, own_cache, size=5)
    assert left_behind(own_cache) == []


@pytest.mark.parametrize("status", [304, 416])
def test_an_answer_to_another_question(
    server: Server, told: Told, own_cache: Cache, status: int
) -> None:
    server.files[PATH] = CONTENT
    server.faults[PATH] = [Status(status)]
    assert download(server, told, own_cache).sha256 == SHA256


def test_an_etag_that_cannot_be_sent_back_is_none(
    server: Server, told: Told, own_cache: Cache
) -> None:
    server.files[PATH], server.etags[PATH] = CONTENT, '"\u00e9"'
    server.faults[PATH] = [Drop(100_000)]
    received = download(server, told, own_cache)
    assert (received.sha256, received.etag) == (SHA256, None)


@pytest.mark.parametrize(
    "last",
    [Status(403), Status(404), Status(418), Status(302), Status(302, {"Location": "file:///x"})],
)
def test_what_a_redirect_is_signed_with_is_not_told(
    server: Server, told: Told, own_cache: Cache, last: Status
) -> None:
    """As the hub's redirects to its stores are."""
    server.redirects[PATH] = "/store?X-Amz-Signature=secret&Key-Pair-Id=secret"
    server.faults["/store"] = [last]
    with pytest.raises((OrchestraError, MissingError), match="/store") as caught:
        download(server, told, own_cache)
    assert "secret" not in str([caught.value, told.sentences])


def test_nor_is_it_logged(
    server: Server, told: Told, own_cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    server.files["/store"] = CONTENT
    server.redirects[PATH] = "/store?token=secret"
    with caplog.at_level(logging.INFO):
        assert download(server, told, own_cache).sha256 == SHA256
    assert "secret" not in caplog.text


def test_redirects_without_end_are_told_without_their_secrets(
    server: Server, told: Told, own_cache: Cache
) -> None:
    server.redirects[PATH] = server.redirects["/store"] = "/store?token=secret"
    with pytest.raises(OrchestraError, match="/store: more than 10 redirects") as caught:
        download(server, told, own_cache)
    assert "secret" not in str(caught.value)


def test_a_damaged_blob_is_not_deleted_under_another_process(own_cache: Cache) -> None:
    """That may just have put a good one in its place."""
    blob = own_cache.blob(SHA256)
    own_cache.make(blob.parent)
    blob.write_bytes(CONTENT[1:])
    assert whole_blob(own_cache, SHA256) is None
    assert blob.exists()


def test_a_lock_is_for_all_whom_the_umask_lets_in(own_cache: Cache) -> None:
    """Users may share a cache."""
    before = os.umask(0o002)
    try:
        with only_one(own_cache.lock("x"), "x", print):
            pass
    finally:
        os.umask(before)
    assert own_cache.lock("x").stat().st_mode & 0o777 == 0o664


def test_a_disk_without_locks(own_cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(OrchestraError, match=r"No locks available; ORCHESTRA_CACHE chooses"),
        only_one(own_cache.lock("x"), "x", print),
    ):
        pass
