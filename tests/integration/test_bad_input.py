"""Everything that can be wrong with a watched server: one clear message, and never a claim that something is gone."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trustme

from stocktake.core.assets import Kind
from stocktake.core.errors import SourceError, Trouble
from tests.servers.mlflow_server import free_port
from tests.servers.reading import Clock, mlflow_source, read
from tests.servers.recording_proxy import (
    Action,
    RecordingProxy,
    cut,
    edit,
    half_json,
    hang,
    recording_proxy,
    status,
    web_page,
)
from tests.servers.shared import filled_server

JSON = {"content-type": "application/json"}


@pytest.fixture
def proxy() -> Iterator[RecordingProxy]:
    with recording_proxy(filled_server().server.uri) as running:
        yield running


def refused(uri: str, clock: Clock | None = None, **options: Any) -> SourceError:
    """The error of a source that cannot say who it is."""
    with closing(mlflow_source(uri, clock, **options)) as source:
        with pytest.raises(SourceError) as caught:
            source.identify()
        return caught.value


#: What goes wrong, what it is called, words of its message.
WRONG: dict[str, tuple[Action, Trouble, str]] = {
    "401": (status(401), Trouble.AUTHENTICATION, "status 401"),
    "403": (status(403), Trouble.PERMISSION, "status 403"),
    "404": (status(404), Trouble.NOT_FOUND, "status 404"),
    "429 without Retry-After": (status(429), Trouble.THROTTLED, "status 429"),
    "429 with Retry-After": (status(429, {"retry-after": "9"}), Trouble.THROTTLED, "status 429"),
    "500": (status(500), Trouble.SERVER, "status 500"),
    "503": (status(503, {"retry-after": "9"}), Trouble.SERVER, "status 503"),
    "half a JSON page": (half_json(), Trouble.SHAPE, "not whole JSON"),
    "an answer cut short": (cut(5), Trouble.UNREACHABLE, "broke the connection off"),
    "no answer": (cut(), Trouble.UNREACHABLE, "broke the connection off"),
    "a login page with status 200": (web_page(), Trouble.SHAPE, "is a login in front of it?"),
    "a login elsewhere": (status(302, {"location": "https://login.example/"}), Trouble.NOT_FOUND, "login.example"),
    "a list": (status(200, JSON, b"[]"), Trouble.SHAPE, "not an object"),
    "an error with status 200": (status(200, JSON, b'{"error": "no"}'), Trouble.SHAPE, "answered without"),
    "nothing": (status(200, JSON, b""), Trouble.SHAPE, "0 bytes that are not whole JSON"),
    "bytes": (status(200, {"content-encoding": "gzip"}, b"no gzip"), Trouble.SHAPE, "damaged"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_server_that_cannot_be_used_says_why(proxy: RecordingProxy, wrong: str) -> None:
    action, trouble, words = WRONG[wrong]
    proxy.fault("/", action)
    error = refused(proxy.uri, token="tok-hunter2")
    assert error.trouble is trouble
    assert words in error.what
    assert error.next_step
    assert "hunter2" not in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize("wrong", WRONG)
def test_runs_that_cannot_be_read_are_no_complete_scope(proxy: RecordingProxy, wrong: str) -> None:
    action, trouble, words = WRONG[wrong]
    proxy.fault("runs/search", action, after=1)
    with closing(mlflow_source(proxy.uri, page_size=2)) as source:
        reading = read(source)
    for heard in reading.heard:
        if heard.scope.kind is Kind.RUN:
            assert heard.error is not None
            assert heard.error.trouble is trouble
            assert words in heard.error.what
            assert len(heard.assets) == 2  # what was seen before stays seen
        else:
            assert heard.error is None
            assert heard.problems == []


def test_waiting_follows_retry_after(proxy: RecordingProxy) -> None:
    proxy.fault("/", status(429, {"retry-after": "9"}), times=2)
    clock = Clock()
    with closing(mlflow_source(proxy.uri, clock)) as source:
        assert source.identify().name == "anonymous"
        assert (source.traffic.throttled, source.traffic.retries) == (2, 2)
    assert clock.slept == [9.0, 9.0]


def test_an_unknown_shape_of_one_item_is_one_problem(proxy: RecordingProxy) -> None:
    def change(page: Any) -> Any:
        page["experiments"][0] = {"id": 5, "title": "x"}
        return page

    proxy.fault("experiments/search.*order_by", edit(change))
    with closing(mlflow_source(proxy.uri)) as source:
        heard = read(source).only(Kind.EXPERIMENT)
    assert heard.error is None
    assert heard.problems == ["GET /api/2.0/mlflow/experiments/search: an item (experiment) without an id"]
    assert len(heard.assets) == 2


def test_a_server_that_hangs_runs_into_the_timeout(proxy: RecordingProxy) -> None:
    released = threading.Event()
    proxy.fault("/", hang(released))
    error = refused(proxy.uri, read_timeout=0.05, retries=1)
    released.set()
    assert (error.trouble, "did not answer in time" in error.what) == (Trouble.UNREACHABLE, True)


@pytest.mark.parametrize(
    ("uri", "trouble"),
    [
        ("http://127.0.0.1:{free}", Trouble.UNREACHABLE),
        ("http://no-such-host.invalid:5000", Trouble.UNREACHABLE),
        ("{server}/not/here", Trouble.NOT_FOUND),
        ("https://{host}", Trouble.TLS),
        ("ftp://{host}", Trouble.CONFIG),
        ("no url at all", Trouble.CONFIG),
    ],
)
def test_a_wrong_url_is_told_as_such(uri: str, trouble: Trouble) -> None:
    server = filled_server().server.uri
    wrong = uri.format(free=free_port(), server=server, host=server.removeprefix("http://"))
    with pytest.raises(SourceError) as caught, closing(mlflow_source(wrong, retries=1)) as source:
        source.identify()
    assert caught.value.trouble is trouble


def test_a_certificate_of_an_unknown_authority_is_told_and_a_known_one_is_trusted(tmp_path: Path) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    with recording_proxy(filled_server().server.uri, tls=context) as proxy:
        error = refused(proxy.uri, token="t")
        assert (error.trouble, "ca_file" in error.next_step, proxy.seen) == (Trouble.TLS, True, [])
        with closing(mlflow_source(proxy.uri, ca_file=str(ca_file))) as source:
            assert len(read(source).assets(Kind.RUN)) == 6
