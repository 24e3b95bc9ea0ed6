"""The HTTP endpoint over real sockets: what it answers, how it stops, what it never does."""

from __future__ import annotations

import logging
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import httpx
import pytest

from stocktake.core.errors import ConfigError
from stocktake.telemetry import TelemetryConfig, setup_telemetry
from stocktake.web import Check, WebServer, create_app, serve

FINE = (Check(name="database", ok=True), Check(name="first scan", ok=False, detail="not begun", required=False))


class View:
    """A health view whose answers a test sets."""

    version = "1.2.3"
    heartbeat_limit = 60.0

    def __init__(self) -> None:
        self.age: float | None = 1.0
        self.checks: Sequence[Check] = FINE
        self.hang: threading.Event | None = None
        self.asked = 0

    def heartbeat_age(self) -> float | None:
        return self.age

    def ready(self) -> Sequence[Check]:
        self.asked += 1
        if self.hang is not None:
            self.hang.wait(30)
        return self.checks


@pytest.fixture
def view() -> View:
    return View()


@contextmanager
def running(view: View, *, timeout: float = 2.0, port: int = 0) -> Iterator[WebServer]:
    with setup_telemetry(TelemetryConfig()) as telemetry:
        telemetry.beat()
        app = create_app(view, telemetry.prometheus, timeout=timeout)
        with serve(app, "127.0.0.1", port, threading.Event()) as server:
            yield server


@pytest.fixture
def http(view: View) -> Iterator[httpx.Client]:
    with running(view) as server, httpx.Client(base_url=server.url, trust_env=False) as client:
        yield client


@pytest.mark.parametrize(("age", "status"), [(0.0, 200), (60.0, 200), (60.1, 503), (None, 503)])
def test_alive_means_the_worker_turns(http: httpx.Client, view: View, age: float | None, status: int) -> None:
    view.age = age
    answer = http.get("/healthz")
    assert answer.status_code == status
    assert answer.json()["version"] == "1.2.3"


def test_ready_asks_for_what_is_required_only(http: httpx.Client, view: View) -> None:
    assert http.get("/readyz").status_code == 200
    view.checks = [
        Check(name="database", ok=True),
        Check(name="migrated", ok=False, detail="run 'stocktake db upgrade'"),
    ]
    answer = http.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"][1]["detail"] == "run 'stocktake db upgrade'"


def test_a_check_that_breaks_is_not_ready_and_tells_no_message(http: httpx.Client, view: View) -> None:
    def broken() -> Sequence[Check]:
        raise RuntimeError("postgresql://me:hunter2@db")

    view.ready = broken  # type: ignore[method-assign]
    answer = http.get("/readyz")
    assert answer.status_code == 503
    assert "hunter2" not in answer.text
    assert "RuntimeError" in answer.text


def test_a_database_that_hangs_holds_one_thread_and_no_probe(view: View) -> None:
    view.hang = threading.Event()
    with running(view, timeout=0.3) as server, httpx.Client(base_url=server.url, trust_env=False) as http:
        began = time.monotonic()
        answers = [http.get("/readyz").status_code for _ in range(5)]
        assert time.monotonic() - began < 2.5
        assert answers == [503] * 5
        assert view.asked == 1
        assert http.get("/healthz").status_code == 200
        assert http.get("/metrics").status_code == 200
        view.hang.set()
        view.hang = None
        for _ in range(100):
            if http.get("/readyz").status_code == 200:
                break
        assert http.get("/readyz").status_code == 200, "it must recover by itself"


def test_metrics_are_prometheus_text(http: httpx.Client) -> None:
    answer = http.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "stocktake_worker_heartbeat_age_seconds " in answer.text


def test_metrics_can_be_left_out(view: View) -> None:
    with serve(create_app(view, None), "127.0.0.1", 0, threading.Event()) as server:
        assert httpx.get(f"{server.url}/metrics", trust_env=False).status_code == 404
        assert httpx.get(server.url, trust_env=False).json()["look_at"] == ["/healthz", "/readyz"]


def test_the_first_page_says_what_this_is(http: httpx.Client) -> None:
    assert http.get("/").json()["look_at"] == ["/healthz", "/readyz", "/metrics"]
    page = http.get("/", headers={"Accept": "text/html,*/*"})
    assert page.headers["content-type"].startswith("text/html")
    assert "stocktake 1.2.3" in page.text


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/nothing"])
def test_nothing_else_is_there_and_every_answer_has_the_headers(http: httpx.Client, path: str) -> None:
    answer = http.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "server" not in answer.headers


def test_load_balancers_may_ask_with_head_and_nobody_may_write(http: httpx.Client) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/"):
        head = http.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert http.post(path).status_code == 405


def test_a_taken_port_says_what_where_and_what_next(view: View) -> None:
    with running(view) as server, pytest.raises(ConfigError, match=r"web\.port: port \d+ on 127\.0\.0\.1 is already"):
        serve(create_app(view, bytes), "127.0.0.1", server.port, threading.Event())


@pytest.mark.parametrize(
    ("host", "port", "words"),
    [("192.0.2.1", 0, "not an address of this machine"), ("127.0.0.1", 70000, "is not a port")],
)
def test_an_address_that_cannot_be_had_is_refused(view: View, host: str, port: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        serve(create_app(view, bytes), host, port, threading.Event())


def test_port_nought_reports_the_chosen_one_and_it_is_free_again_afterwards(view: View) -> None:
    with running(view) as server:
        port = server.port
        assert port > 0
        assert server.url == f"http://127.0.0.1:{port}"
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=2):
        raise AssertionError("it still listens")
    with running(view, port=port) as again:
        assert again.port == port


def test_it_stops_when_the_process_is_asked_to(view: View) -> None:
    stop = threading.Event()
    server = serve(create_app(view, bytes), "127.0.0.1", 0, stop)
    stop.set()
    server._thread.join(5)
    assert not server.alive
    server.close()


def test_it_takes_neither_signals_nor_the_set_up_of_logging(view: View) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), list(logging.getLogger().handlers)
    with running(view):
        now = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), list(logging.getLogger().handlers)
        assert now == before
        assert logging.getLogger("uvicorn").handlers == []
