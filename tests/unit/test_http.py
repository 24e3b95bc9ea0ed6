"""The HTTP client against a loopback server that answers by rule."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from stocktake.core.errors import SourceError, Trouble
from stocktake.core.waiting import retry_after
from stocktake.sources.http import ForbiddenRequest, HttpClient, HttpConfig, PageTooLarge
from tests.servers.reading import Clock
from tests.servers.recording_proxy import RecordingProxy, Reply, cut, hang, recording_proxy, status, web_page

JSON = {"content-type": "application/json"}


@pytest.fixture
def server() -> Iterator[RecordingProxy]:
    """A server with nothing behind it: every answer is a rule's."""
    with recording_proxy("http://127.0.0.1:1") as proxy:
        yield proxy


@pytest.fixture
def clock() -> Clock:
    return Clock()


_opened: list[HttpClient] = []


@pytest.fixture(autouse=True)
def close_clients() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().close()


def opened(config: HttpConfig, clock: Clock) -> HttpClient:
    """A client that is closed after the test."""
    one = HttpClient(config, now=clock.now, sleep=clock.sleep, monotonic=clock.monotonic, jitter=lambda: 1.0)
    _opened.append(one)
    return one


def client(server: RecordingProxy, clock: Clock, **options: object) -> HttpClient:
    config = HttpConfig(base_url=server.uri, posts=frozenset({"/search"}), **options)  # type: ignore[arg-type]
    return opened(config, clock)


def trouble(server: RecordingProxy, clock: Clock, **options: object) -> SourceError:
    with pytest.raises(SourceError) as caught:
        client(server, clock, **options).get("/x").json()
    return caught.value


@pytest.mark.parametrize(
    ("code", "expected", "tries"),
    [
        (400, Trouble.SHAPE, 1),
        (401, Trouble.AUTHENTICATION, 1),
        (403, Trouble.PERMISSION, 1),
        (404, Trouble.NOT_FOUND, 1),
        (405, Trouble.UNSUPPORTED, 1),
        (429, Trouble.THROTTLED, 5),
        (500, Trouble.SERVER, 5),
        (501, Trouble.UNSUPPORTED, 1),
        (503, Trouble.SERVER, 5),
        (504, Trouble.SERVER, 5),
        (505, Trouble.SERVER, 1),
    ],
)
def test_every_status_is_one_trouble_with_a_next_step(
    server: RecordingProxy, clock: Clock, code: int, expected: Trouble, tries: int
) -> None:
    server.fault("/x", status(code, JSON, b'{"error_code": "SOME_CODE", "message": "lr=0.1 hunter2"}'))
    error = trouble(server, clock)
    assert (error.trouble, error.status, len(server.seen)) == (expected, code, tries)
    assert error.what == f"GET /x answered with status {code} SOME_CODE"
    assert error.next_step.endswith((".", "?"))


def test_a_busy_server_is_asked_again_with_growing_patience(server: RecordingProxy, clock: Clock) -> None:
    server.fault("/x", status(503), times=3)
    server.fault("/x", status(200, JSON, b'{"a": 1}'))
    one = client(server, clock)
    assert one.get("/x").json() == {"a": 1}
    assert clock.slept == [0.5, 1.0, 2.0]
    assert (one.traffic.requests, one.traffic.retries, one.traffic.throttled) == (4, 3, 3)
    assert one.traffic.by_status == {"503": 3, "200": 1}
    assert one.traffic.bytes == 8


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("Thu, 01 Jan 2026 00:00:30 GMT", 30.0),
        ("Wed, 31 Dec 2025 00:00:00 GMT", 0.0),
        ("86400", 120.0),
        ("Fri, 01 Jan 2027 00:00:00 GMT", 120.0),
        ("soon", 1.0),
        (None, 1.0),
    ],
)
def test_retry_after_is_honoured_and_capped(
    server: RecordingProxy, clock: Clock, header: str | None, wait: float
) -> None:
    server.fault("/x", status(429, {"retry-after": header} if header else {}), times=1)
    server.fault("/x", status(200, JSON, b"{}"))
    client(server, clock).get("/x")
    assert clock.slept == [wait]


def test_a_retry_after_of_nonsense_is_none() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert [retry_after(value, now) for value in (None, "", "x", "-1", "1e9", "99999999999999999999")] == [None] * 6


def test_the_total_budget_ends_the_patience(server: RecordingProxy, clock: Clock) -> None:
    server.fault("/x", status(429, {"retry-after": "50"}))
    assert trouble(server, clock, total_timeout=120.0).trouble is Trouble.THROTTLED
    assert clock.slept == [50.0, 50.0]


def test_a_broken_connection_is_tried_again(server: RecordingProxy, clock: Clock) -> None:
    server.fault("/x", cut(), times=1)
    server.fault("/x", status(200, JSON, b"[1]"))
    assert client(server, clock).get("/x").json() == [1]


def test_an_answer_that_breaks_off_is_never_taken_for_whole(server: RecordingProxy, clock: Clock) -> None:
    server.fault("/x", lambda seen, ask: Reply(headers=JSON, body=b'{"runs": []}      ', cut_after=12))
    error = trouble(server, clock)
    assert error.trouble is Trouble.UNREACHABLE
    assert "broke the connection off" in error.what


def test_a_server_that_says_nothing_runs_into_the_timeout(server: RecordingProxy, clock: Clock) -> None:
    released = threading.Event()
    server.fault("/x", hang(released))
    error = trouble(server, clock, read_timeout=0.05, retries=1)
    released.set()
    assert error.trouble is Trouble.UNREACHABLE
    assert "did not answer in time" in error.what
    assert len(server.seen) == 2


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("reused", [False, True], ids=["first request", "later request"])
def test_closing_cuts_a_request_that_another_thread_waits_for(
    tmp_path: Path, clock: Clock, secure: bool, reused: bool
) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    asked, released, caught = threading.Event(), threading.Event(), list[SourceError]()
    with recording_proxy("http://127.0.0.1:1", tls=context if secure else None) as proxy:
        proxy.fault("/before", status(200, JSON, b"{}"))
        proxy.fault("/x", hang(released, asked=asked))
        one = opened(HttpConfig(base_url=proxy.uri, ca_file=str(tmp_path / "ca.pem") if secure else None), clock)
        if reused:
            one.get("/before")

        def ask() -> None:
            with pytest.raises(SourceError) as error:
                one.get("/x")
            caught.append(error.value)

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        assert asked.wait(10)
        one.close()
        thread.join(5)  # the server would say nothing for half a minute, the timeout is a minute
        still_waiting = thread.is_alive()
        released.set()
    assert not still_waiting
    assert "was cut off: stocktake is stopping" in caught[0].what
    assert len(proxy.asked("/x")) == 1


def test_a_closed_client_asks_nothing_more(server: RecordingProxy, clock: Clock) -> None:
    one = client(server, clock)
    one.close()
    with pytest.raises(SourceError, match="stocktake is stopping"):
        one.get("/x")
    assert server.seen == []


def test_nobody_listening_is_unreachable(clock: Clock) -> None:
    one = opened(HttpConfig(base_url="http://127.0.0.1:1", retries=0), clock)
    with pytest.raises(SourceError, match="could not be connected to") as caught:
        one.get("/x")
    assert caught.value.trouble is Trouble.UNREACHABLE


@pytest.mark.parametrize(
    ("url", "words", "step"),
    [
        ("http://127.0.0.1:1", "the connection was refused", "that the server runs"),
        ("http://no-such-host.invalid:5000", "the name does not resolve", "DNS"),
    ],
)
def test_why_there_is_no_connection_is_told(clock: Clock, url: str, words: str, step: str) -> None:
    with pytest.raises(SourceError, match=words) as caught:
        opened(HttpConfig(base_url=url, retries=0), clock).get("/x")
    assert (caught.value.trouble, step in caught.value.next_step) == (Trouble.UNREACHABLE, True)


def test_https_to_a_server_of_http_says_to_write_http(server: RecordingProxy, clock: Clock) -> None:
    one = opened(HttpConfig(base_url=server.uri.replace("http:", "https:"), retries=0), clock)
    with pytest.raises(SourceError, match="does not speak TLS") as caught:
        one.get("/x")
    assert (caught.value.trouble, "write http://" in caught.value.next_step) == (Trouble.TLS, True)
    assert "ca_file" not in str(caught.value)


def test_a_login_page_with_status_200_is_named(server: RecordingProxy, clock: Clock) -> None:
    server.fault("/x", web_page())
    error = trouble(server, clock)
    assert error.trouble is Trouble.SHAPE
    assert "answered with a web page: is this the right URL, or is a login in front of it?" in error.what


@pytest.mark.parametrize("body", [b"", b'{"runs": [', b"\xff\xfe", b"[" * 100_000])
def test_what_is_not_json_is_a_shape(server: RecordingProxy, clock: Clock, body: bytes) -> None:
    server.fault("/x", status(200, JSON, body))
    assert trouble(server, clock).trouble is Trouble.SHAPE


def test_a_page_that_is_too_large_is_not_read_to_its_end(server: RecordingProxy, clock: Clock) -> None:
    server.fault("/x", status(200, JSON, b"[" + b" " * 5000 + b"]"))
    one = client(server, clock, page_bytes=1000)
    with pytest.raises(PageTooLarge):
        one.get("/x")
    assert one.get("/x", limit=10_000).json() == []


def test_a_token_is_sent_and_asked_for_each_time(server: RecordingProxy, clock: Clock) -> None:
    tokens = iter(["first", "second"])
    server.fault("/x", status(200, JSON, b"{}"))
    one = client(server, clock, token=lambda: next(tokens))
    one.get("/x")
    one.get("/x")
    assert [seen.headers["authorization"] for seen in server.seen] == ["Bearer first", "Bearer second"]
    assert all(seen.headers["user-agent"].startswith("stocktake/") for seen in server.seen)


def test_a_credential_that_fails_is_an_authentication_trouble_without_its_words(
    server: RecordingProxy, clock: Clock
) -> None:
    def provide() -> str:
        raise RuntimeError("client_secret=hunter2 expired")

    error = trouble(server, clock, token=provide)
    assert error.trouble is Trouble.AUTHENTICATION
    assert "hunter2" not in str(error)


def test_basic_auth_is_sent(server: RecordingProxy, clock: Clock) -> None:
    server.fault("/x", status(200, JSON, b"{}"))
    client(server, clock, username="ada", password="pä:ss").get("/x")
    assert server.seen[0].headers["authorization"] == "Basic YWRhOnDDpDpzcw=="


def test_secrets_are_not_in_the_config_as_text() -> None:
    config = HttpConfig(base_url="https://h", username="ada", password="hunter2", token="tok-1234")
    assert "hunter2" not in repr(config)
    assert "tok-1234" not in repr(config)


def test_a_redirect_on_the_same_host_is_followed(server: RecordingProxy, clock: Clock) -> None:
    server.fault("/x", status(308, {"location": "/y/x2"}), times=1)
    server.fault("/y/x2", status(200, JSON, b"[2]"))
    assert client(server, clock, token="t").get("/x").json() == [2]


def test_a_token_never_leaves_the_host(server: RecordingProxy, clock: Clock) -> None:
    with recording_proxy("http://127.0.0.1:1") as other:
        server.fault("/x", status(302, {"location": f"{other.uri}/login?next=secret"}))
        error = trouble(server, clock, token="t")
        assert error.trouble is Trouble.NOT_FOUND
        assert "another server" in error.what
        assert "next=secret" not in str(error)
        assert other.seen == []


def test_a_redirect_cannot_leave_the_list_of_searches(server: RecordingProxy, clock: Clock) -> None:
    server.fault("/search", status(307, {"location": "/runs/delete"}), method="POST")
    with pytest.raises(ForbiddenRequest):
        client(server, clock).post("/search", {})
    assert [seen.path for seen in server.seen] == ["/search"]


@pytest.mark.parametrize("path", ["/runs/delete", "/search/", "/searchx", "/search/../runs/delete", "/SEARCH"])
def test_nothing_but_a_listed_search_can_be_posted(server: RecordingProxy, clock: Clock, path: str) -> None:
    with pytest.raises(ForbiddenRequest):
        client(server, clock).post(path, {})
    assert server.seen == []


def test_a_path_in_the_base_url_is_kept(server: RecordingProxy, clock: Clock) -> None:
    server.fault("/a%20b/search", status(200, JSON, b"{}"))
    config = HttpConfig(base_url=f"{server.uri}/a%20b/", posts=frozenset({"/search"}))
    opened(config, clock).post("/search", {"q": 1})
    assert server.seen[0].path == "/a%20b/search"


@pytest.mark.parametrize("url", ["ftp://h", "h:5000", "https://", "http://u:p@h", "http://[::1", "databricks"])
def test_a_wrong_url_is_a_configuration_trouble(url: str, clock: Clock) -> None:
    with pytest.raises(SourceError) as caught:
        HttpClient(HttpConfig(base_url=url), now=clock.now)
    assert caught.value.trouble is Trouble.CONFIG


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[RecordingProxy, str]]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with recording_proxy("http://127.0.0.1:1", tls=context) as proxy:
        proxy.fault("/x", status(200, JSON, b"{}"))
        yield proxy, str(tmp_path / "ca.pem")


def test_an_unknown_authority_is_a_tls_trouble_and_is_not_tried_again(
    secure: tuple[RecordingProxy, str], clock: Clock
) -> None:
    error = trouble(secure[0], clock, token="t")
    assert error.trouble is Trouble.TLS
    assert "ca_file" in error.next_step
    assert "_ssl.c" not in str(error)
    assert (secure[0].seen, clock.slept) == ([], [])


def test_a_ca_file_is_trusted_and_its_host_name_checked(secure: tuple[RecordingProxy, str], clock: Clock) -> None:
    server, ca_file = secure
    assert client(server, clock, ca_file=ca_file).get("/x").json() == {}
    server.uri = server.uri.replace("127.0.0.1", "localhost")
    assert trouble(server, clock, ca_file=ca_file).trouble is Trouble.TLS
    assert client(server, clock, insecure_tls=True).get("/x").json() == {}


def test_a_ca_file_that_is_not_there_is_a_configuration_trouble(server: RecordingProxy, clock: Clock) -> None:
    assert trouble(server, clock, ca_file="/nowhere/ca.pem").trouble is Trouble.CONFIG


def test_closing_ends_a_wait_in_another_thread(server: RecordingProxy) -> None:
    server.fault("/x", status(429, {"retry-after": "100"}))
    config = HttpConfig(base_url=server.uri)
    one = HttpClient(config, now=lambda: datetime.now(UTC))
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            one.get("/x")
        except BaseException as exc:  # noqa: BLE001 - whatever it is, it must come soon
            failed.append(exc)

    thread = threading.Thread(target=ask)
    thread.start()
    while not server.seen:
        thread.join(0.01)
    one.close()
    thread.join(10)
    assert not thread.is_alive()
    assert failed
