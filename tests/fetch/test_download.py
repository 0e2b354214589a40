"""One file from a server that drops, lies, redirects and changes its mind: whole or not there."""

from __future__ import annotations

import errno
import hashlib
import shutil
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from orchestra.fetch import partial
from orchestra.fetch.cache import Cache, key_of
from orchestra.fetch.download import Download, Expected, Received
from orchestra.fetch.hashing import safetensors_flaw
from orchestra.fetch.retry import Patience
from orchestra.fetch.web import MissingError, Web, retry_after_s
from orchestra.wire.errors import DataError, DiskFullError, NotFoundError, OrchestraError
from tests.fakes.disk import fill, mounted
from tests.fetch.conftest import Told, safetensors
from tests.fetch.server import (
    Drop,
    Hold,
    IgnoreIfRange,
    IgnoreRange,
    Length,
    NoLength,
    Server,
    Status,
    serving,
)

CONTENT = bytes(range(256)) * 2000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PATH = "/model.safetensors"


@pytest.fixture
def server_with_file(server: Server) -> Server:
    server.files[PATH] = CONTENT
    return server


def download(
    server: Server,
    told: Told,
    cache: Cache,
    path: str = PATH,
    *,
    expected: Expected | None = None,
    patience: dict[str, Any] | None = None,
    **more: Any,
) -> Received:
    url = server.url + path
    wanted = expected or Expected()
    web = told.web(**(patience or {}))
    received = Download(web, cache, key_of(url), url, wanted, **more).run()
    assert received is not None
    return received


def left_behind(cache: Cache) -> list[str]:
    """What lies beside whole files."""
    return sorted(path.name for path in (cache.root / "partial").glob("*"))


def blobs(cache: Cache) -> list[str]:
    return sorted(path.name for path in (cache.root / "blobs").glob("*"))


def test_a_file_comes_whole_under_its_hash(
    server_with_file: Server, told: Told, own_cache: Cache
) -> None:
    received = download(server_with_file, told, own_cache, expected=Expected(len(CONTENT), SHA256))
    assert (received.size, received.sha256, received.path.read_bytes()) == (
        len(CONTENT),
        SHA256,
        CONTENT,
    )
    assert received.path == own_cache.blob(SHA256)
    assert left_behind(own_cache) == [] and told.pauses_s == []


def test_dropped_connections_go_on_from_where_they_were(
    server_with_file: Server, told: Told, own_cache: Cache
) -> None:
    server_with_file.faults[PATH] = [Drop(100_000), Drop(150_000), Drop(0), Drop(0)]
    received = download(server_with_file, told, own_cache)
    assert received.sha256 == SHA256
    ranges = [asked.headers.get("Range") for asked in server_with_file.requests]
    assert ranges == [None, "bytes=100000-", "bytes=250000-", "bytes=250000-", "bytes=250000-"]
    etag = server_with_file.etag(PATH)
    assert all(asked.headers["If-Range"] == etag for asked in server_with_file.requests[1:])
    # Progress in between makes a failure the first again; without it pauses double.
    assert told.pauses_s == [1.0, 1.0, 2.0, 4.0]


def test_a_server_that_always_drops_is_given_up(
    server_with_file: Server, told: Told, own_cache: Cache
) -> None:
    server_with_file.faults[PATH] = [Drop(7), *[Drop(0)] * 9]
    with pytest.raises(NotFoundError, match=r"after 3 tries: .*run the command again"):
        download(server_with_file, told, own_cache, patience={"failures": 3})
    assert blobs(own_cache) == []
    server_with_file.faults[PATH] = []
    assert download(server_with_file, told, own_cache).sha256 == SHA256
    assert server_with_file.requests[-1].headers["Range"] == "bytes=7-"


def test_a_silent_server_is_left_and_gone_on_with(server: Server, own_cache: Cache) -> None:
    server.files[PATH] = CONTENT
    hold = Hold(100_000)
    server.faults[PATH] = [hold]
    web = Web(print, Patience(failures=9, silence_s=0.5), lambda seconds: None)
    url = server.url + PATH
    received = Download(web, own_cache, key_of(url), url, Expected()).run()
    hold.go.set()
    assert received is not None and received.sha256 == SHA256
    assert server.requests[-1].headers["Range"] == "bytes=100000-"


def test_a_file_that_changed_between_tries_comes_anew(
    server_with_file: Server, told: Told, own_cache: Cache
) -> None:
    server_with_file.faults[PATH] = [Drop(100_000), *[Drop(0)] * 9]
    with pytest.raises(NotFoundError):
        download(server_with_file, told, own_cache)
    newer = CONTENT[::-1]
    server_with_file.files[PATH], server_with_file.faults[PATH] = newer, []
    assert download(server_with_file, told, own_cache).path.read_bytes() == newer


def test_a_server_that_mixes_two_versions_is_noticed_by_the_etag(
    server_with_file: Server, told: Told, own_cache: Cache
) -> None:
    server_with_file.faults[PATH] = [Drop(100_000), *[Drop(0)] * 9]
    with pytest.raises(NotFoundError):
        download(server_with_file, told, own_cache)
    newer = CONTENT[::-1]
    server_with_file.files[PATH], server_with_file.faults[PATH] = newer, [IgnoreIfRange()]
    assert download(server_with_file, told, own_cache).path.read_bytes() == newer


def test_a_server_without_validators_is_only_resumed_if_a_hash_can_tell(
    server_with_file: Server, told: Told, own_cache: Cache
) -> None:
    server_with_file.etags[PATH] = None
    server_with_file.faults[PATH] = [Drop(100_000)]
    assert download(server_with_file, told, own_cache).sha256 == SHA256
    assert [asked.headers.get("Range") for asked in server_with_file.requests] == [None, None]
    own_cache.blob(SHA256).unlink()
    server_with_file.faults[PATH] = [Drop(100_000)]
    download(server_with_file, told, own_cache, expected=Expected(sha256=SHA256))
    assert server_with_file.requests[-1].headers["Range"] == "bytes=100000-"


def test_a_part_from_before_a_crash_of_the_machine_is_only_resumed_if_a_hash_can_tell(
    server_with_file: Server, told: Told, own_cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk may have kept the length of a file, and not its last bytes."""
    for expected, asked in ((Expected(), None), (Expected(sha256=SHA256), "bytes=100000-")):
        server_with_file.faults[PATH] = [Drop(100_000), *[Drop(0)] * 9]
        with pytest.raises(NotFoundError):
            download(server_with_file, told, own_cache)
        server_with_file.faults[PATH] = []
        with monkeypatch.context() as later:
            later.setattr(partial, "boot_id", lambda: "another")
            download(server_with_file, told, own_cache, expected=expected)
        assert server_with_file.requests[-1].headers.get("Range") == asked


def test_parts_that_do_not_fit_together_are_fetched_once_more(
    server_with_file: Server, told: Told, own_cache: Cache
) -> None:
    server_with_file.etags[PATH] = None
    server_with_file.files[PATH] = CONTENT[::-1]
    server_with_file.faults[PATH] = [Drop(100_000), *[Drop(0)] * 9]
    expected = Expected(sha256=SHA256)
    with pytest.raises(NotFoundError):
        download(server_with_file, told, own_cache, expected=expected)
    server_with_file.files[PATH], server_with_file.faults[PATH] = CONTENT, []
    assert download(server_with_file, told, own_cache, expected=expected).sha256 == SHA256


def test_a_server_that_ignores_range_sends_all_of_it(
    server_with_file: Server, told: Told, own_cache: Cache
) -> None:
    server_with_file.faults[PATH] = [Drop(100_000), IgnoreRange()]
    assert download(server_with_file, told, own_cache).path.read_bytes() == CONTENT


def test_what_had_come_whole_before_a_crash_is_not_fetched_again(
    server_with_file: Server, told: Told, own_cache: Cache
) -> None:
    server_with_file.faults[PATH] = [Drop(len(CONTENT) - 1), *[Drop(0)] * 9]
    with pytest.raises(NotFoundError):
        download(server_with_file, told, own_cache)
    (partial,) = (p for p in (own_cache.root / "partial").iterdir() if p.suffix != ".json")
    with partial.open("ab") as file:  # its last byte had come, its name had not
        file.write(CONTENT[-1:])
    server_with_file.faults[PATH] = []
    assert download(server_with_file, told, own_cache).sha256 == SHA256  # 416: nothing is left


@pytest.mark.parametrize("known", [Expected(len(CONTENT)), Expected(sha256=SHA256)])
def test_wrong_lengths_never_make_a_file(
    server_with_file: Server, told: Told, own_cache: Cache, known: Expected
) -> None:
    short, long = Length(len(CONTENT) - 5), Length(len(CONTENT) + 5)
    server_with_file.faults[PATH] = [short] * 99
    with pytest.raises((NotFoundError, DataError), match="promised"):
        download(server_with_file, told, own_cache, expected=known)
    server_with_file.faults[PATH] = [long] * 99
    with pytest.raises((NotFoundError, DataError)):
        download(server_with_file, told, own_cache, expected=known)
    assert blobs(own_cache) == []


def test_without_a_hash_the_file_itself_tells_that_it_is_cut(
    server: Server, told: Told, own_cache: Cache
) -> None:
    server.files[PATH] = whole = safetensors()
    server.faults[PATH] = [Length(len(whole) - 5)]
    with pytest.raises(DataError, match=r"299995|promises"):
        download(server, told, own_cache, flaw=safetensors_flaw)
    server.faults[PATH] = [NoLength(len(whole) - 5)]
    with pytest.raises(DataError, match="its header promises"):
        download(server, told, own_cache, flaw=safetensors_flaw)
    assert blobs(own_cache) == [] and left_behind(own_cache) == []
    assert download(server, told, own_cache, flaw=safetensors_flaw).size == len(whole)


def test_another_content_than_promised_is_refused(
    server_with_file: Server, told: Told, own_cache: Cache
) -> None:
    with pytest.raises(DataError, match=rf"sha256 {'0' * 64} was promised, {SHA256} came"):
        download(server_with_file, told, own_cache, expected=Expected(sha256="0" * 64))
    assert blobs(own_cache) == [] and left_behind(own_cache) == []


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_busy_servers_are_asked_again(
    server_with_file: Server, told: Told, own_cache: Cache, code: int
) -> None:
    server_with_file.faults[PATH] = [Status(code, {"Retry-After": "7"}), Status(code)]
    assert download(server_with_file, told, own_cache).sha256 == SHA256
    assert told.pauses_s == [7.0, 2.0]
    assert f"status {code}; next try in 7 s" in told.sentences[0]


def test_a_pause_without_end_is_not_made(
    server_with_file: Server, told: Told, own_cache: Cache
) -> None:
    server_with_file.faults[PATH] = [Status(503, {"Retry-After": "86400"})]
    with pytest.raises(NotFoundError, match=r"status 503 \(it asks to come back in 86400 s\)"):
        download(server_with_file, told, own_cache)
    assert told.pauses_s == []


def test_retry_after_may_be_a_date() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert 90 < (retry_after_s({"Retry-After": later}) or 0) <= 100
    assert retry_after_s({"Retry-After": "soon"}) is None and retry_after_s({}) is None
    # It is the server's clock that counts, and ours may be years off.
    then = {"Retry-After": "Wed, 01 Jan 2020 00:01:00 GMT", "Date": "Wed, 01 Jan 2020 00:00:00 GMT"}
    assert retry_after_s(then) == 60


@pytest.mark.parametrize(("code", "word"), [(401, "login"), (403, "login"), (418, "status 418")])
def test_refusals_are_told_and_not_repeated(
    server_with_file: Server, told: Told, own_cache: Cache, code: int, word: str
) -> None:
    server_with_file.faults[PATH] = [Status(code)]
    with pytest.raises(NotFoundError, match=word):
        download(server_with_file, told, own_cache)
    assert len(server_with_file.requests) == 1


def test_a_missing_file_is_missing(server: Server, told: Told, own_cache: Cache) -> None:
    with pytest.raises(MissingError):
        download(server, told, own_cache)


def test_redirects_are_followed(server_with_file: Server, told: Told, own_cache: Cache) -> None:
    server_with_file.redirects |= {"/a": "/b", "/b": server_with_file.url + PATH}
    assert download(server_with_file, told, own_cache, "/a").sha256 == SHA256


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("/a", "more than 10 redirects"),
        ("file:///etc/passwd", "refused a redirect to file"),
        ("ftp://localhost/x", "refused a redirect to ftp"),
    ],
)
def test_redirects_that_lead_nowhere_good(
    server: Server, told: Told, own_cache: Cache, target: str, said: str
) -> None:
    server.redirects["/a"] = target
    with pytest.raises(OrchestraError, match=said):
        download(server, told, own_cache, "/a")
    assert len(server.requests) <= 11


def test_a_redirect_from_https_to_http_is_refused() -> None:
    import httpx2

    from orchestra.fetch.web import _redirected

    response = httpx2.Response(302, headers={"Location": "http://lab.org/b"})
    with pytest.raises(OrchestraError, match=r"from https to http, lab\.org"):
        _redirected("https://lab.org/a", response)
    upgraded = httpx2.Response(302, headers={"Location": "https://lab.org/b"})
    assert _redirected("http://lab.org/a", upgraded) == "https://lab.org/b"


def test_a_token_stays_with_the_first_origin(server: Server, told: Told, own_cache: Cache) -> None:
    with serving() as other:
        other.files[PATH] = CONTENT
        server.redirects |= {"/a": "/b", "/b": other.url + PATH}
        download(server, told, own_cache, "/a", token="hf_secret")
        assert [asked.headers.get("Authorization") for asked in server.requests] == [
            "Bearer hf_secret",
            "Bearer hf_secret",
        ]
        assert other.bodies(PATH) == 1
        assert "secret" not in str(other.requests)
    written = [p.read_bytes() for p in own_cache.root.rglob("*") if p.is_file()]
    assert not any(b"secret" in content for content in written)


def test_no_room_is_told_before_anything_comes(
    server_with_file: Server, told: Told, own_cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DiskFullError, match=r"no room for .*ORCHESTRA_CACHE"):
        download(server_with_file, told, own_cache)


def test_a_disk_that_fills_up_keeps_what_has_come(
    server_with_file: Server, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mounted(tmp_path / "disk", 1) as disk:
        cache = Cache(disk / "cache")
        cache.partial("x")  # its folders
        (cache.root / "partial" / f"{key_of(server_with_file.url + PATH)}.json").write_text("{}")
        ballast = disk / "ballast"
        ballast.write_bytes(b"x" * 700_000)
        plenty = shutil.disk_usage("/")._replace(free=10**9)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: plenty)
        with pytest.raises(DiskFullError, match="no room for"):
            download(server_with_file, told, cache)
        ballast.unlink()
        assert download(server_with_file, told, cache).sha256 == SHA256
        assert "Range" in server_with_file.requests[-1].headers
        fill(disk).unlink()


def test_a_cache_that_cannot_be_written(
    server_with_file: Server, told: Told, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file" / "cache")
    with pytest.raises(OrchestraError, match=r"cannot write .*ORCHESTRA_CACHE"):
        download(server_with_file, told, cache)


def test_error_numbers_other_than_a_full_disk_name_the_file(
    server_with_file: Server, told: Told, own_cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, mode: str = "r", **more: Any) -> Any:
        raise OSError(errno.EACCES, "Permission denied", str(path))

    key = key_of(server_with_file.url + PATH)
    own_cache.partial(key)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(OrchestraError, match=r"cannot write .*Permission denied"):
        download(server_with_file, told, own_cache)
