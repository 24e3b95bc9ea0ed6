"""Every fault at every level of a scan: a real MLflow server behind a proxy that breaks its answers, one at a time.

A cell is one pass with one fault and a clean sweep after it. Whatever the fault was: no asset is reported as gone, none
is doubled, the ledger says what the command says, and the clean sweep finds the inventory as it was before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any

from sqlalchemy import Engine, text

from stocktake import pipeline
from stocktake.cli.exits import ExitCode, of_scans
from stocktake.core.assets import Mode, ScanState
from stocktake.core.guard import Guard
from stocktake.core.redact import Redactor
from stocktake.pipeline import ScanReport
from stocktake.sources.http import HttpConfig
from stocktake.sources.mlflow_rest import MlflowRest, MlflowRestConfig
from tests.servers.reading import Clock
from tests.servers.recording_proxy import (
    Action,
    RecordingProxy,
    Reply,
    Seen,
    cut,
    edit,
    first_page_again,
    half_json,
    status,
    web_page,
)

KEY = b"k" * 32
_STATUSES = (400, 401, 403, 404, 405, 408, 409, 410, 413, 422, 429, 500, 501, 502, 503, 504, 507)
_JSON = {"content-type": "application/json"}
_IDS = ("run_id", "run_uuid", "experiment_id", "model_id", "name", "version", "trace_id", "request_id", "webhook_id")
_LISTS = ("experiments", "runs", "models", "registered_models", "model_versions", "traces", "webhooks")
_COUNTED = ("created", "updated", "deleted", "restored", "purged")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way in which an answer is wrong. `seen` are the changes that it truly shows (of nothing else, by default)."""

    make: Callable[[], Action]
    seen: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Where in a scan: requests whose address matches, after so many of them."""

    pattern: str
    after: int = 0


def _items(page: Any) -> list[Any]:
    return next((page[name] for name in _LISTS if isinstance(page, dict) and page.get(name)), [])


def _emptied(page: Any) -> Any:
    """Nothing on a page that is not the last one."""
    return {"next_page_token": page["next_page_token"]} if page.get("next_page_token") else page


def _endless(page: Any) -> Any:
    return page | {"next_page_token": "again"} if _items(page) else page


def _of_pages(action: Action) -> Action:
    """Break searches alone: what is no page is answered as it is."""
    return lambda seen, ask: action(seen, ask) if "search" in seen.path or "/webhooks" in seen.path else ask()


def _nameless(page: Any) -> Any:
    for item in _items(page)[:1]:
        for part in (item, item.get("info", {})):
            for name in _IDS:
                part.pop(name, None)
    return page


def _torn() -> Action:
    """The first run without its params, metrics and tags: MLflow reads those later, and may find them purged.

    What is asked for by id is answered whole.
    """

    def tear(page: Any) -> Any:
        for item in page.get("runs", [])[:1]:
            item["data"] = {}
        return page

    return lambda seen, ask: ask() if b"IN (" in seen.body else edit(tear)(seen, ask)


def _quoted(value: Any) -> Any:
    """Whole numbers in quotes, as proto3 JSON may write them."""
    if isinstance(value, dict):
        return {key: _quoted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_quoted(item) for item in value]
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _swollen(page: Any) -> Any:
    """A tag of a megabyte on the first item."""
    for item in _items(page)[:1]:
        for part in (item, item.get("info", {}), item.get("data", {})):
            if isinstance(part.get("tags"), list):
                part["tags"].append({"key": "notes", "value": "word " * 200_000})
    return page


def _late(seen: Seen, ask: Callable[[], Reply]) -> Reply:
    threading.Event().wait(0.02)
    return ask()


def _dated(offset: timedelta) -> Action:
    def act(seen: Seen, ask: Callable[[], Reply]) -> Reply:
        reply = ask()
        name = next((name for name in reply.headers if name.lower() == "date"), "date")
        at = parsedate_to_datetime(reply.headers[name]) if name in reply.headers else datetime.now(UTC)
        return replace(reply, headers={**reply.headers, name: format_datetime(at + offset)})

    return act


def _tokens() -> Callable[[], str]:
    numbers = iter(range(10_000))
    return lambda: f"token-{next(numbers)}"


def _always(action: Action) -> Callable[[], Action]:
    return lambda: action


FAULTS: Mapping[str, Fault] = {
    **{f"status {code}": Fault(make=_always(status(code))) for code in _STATUSES},
    "429, Retry-After 9 s": Fault(make=_always(status(429, {"retry-after": "9"}))),
    "503, Retry-After a date": Fault(make=_always(status(503, {"retry-after": "Fri, 01 Jan 2027 00:00:00 GMT"}))),
    "half a page": Fault(make=half_json),
    "connection cut at once": Fault(make=cut),
    "connection cut in a page": Fault(make=lambda: cut(5)),
    "a login page, status 200": Fault(make=web_page),
    "a redirect to a login": Fault(make=_always(status(302, {"location": "https://login.example/"}))),
    "an empty object": Fault(make=_always(status(200, _JSON, b"{}"))),
    "an error, status 200": Fault(make=_always(status(200, _JSON, b'{"error": "no"}'))),
    "a list": Fault(make=_always(status(200, _JSON, b"[]"))),
    "an empty page in the middle": Fault(make=lambda: edit(_emptied)),
    "the same token for ever": Fault(make=lambda: edit(_endless)),
    "the same page for ever": Fault(make=lambda: _of_pages(first_page_again(_tokens()))),
    "an item without an id": Fault(make=lambda: edit(_nameless)),
    "a torn run": Fault(make=_torn),
    "numbers as strings": Fault(make=lambda: edit(_quoted)),
    "a tag of 1 MB": Fault(make=lambda: edit(_swollen), seen=frozenset({"updated"})),
    "every answer late": Fault(make=_always(_late)),
    "a clock 10 min ahead": Fault(make=lambda: _dated(timedelta(minutes=10))),
    "a clock 10 min behind": Fault(make=lambda: _dated(timedelta(minutes=-10))),
}

LEVELS: Mapping[str, Level] = {
    "everything": Level(pattern="/"),
    "server facts": Level(pattern="/version|server-info"),
    "experiments": Level(pattern="experiments/search.*order_by"),
    "experiments, page 2": Level(pattern="experiments/search.*order_by", after=1),
    "registered models": Level(pattern="registered-models/search"),
    "aliases": Level(pattern="registered-models/get"),
    "model versions": Level(pattern="model-versions/search"),
    "webhooks": Level(pattern="/webhooks"),
    "runs": Level(pattern="runs/search"),
    "runs, page 2": Level(pattern="runs/search", after=1),
    "runs, last page": Level(pattern="runs/search", after=2),
    "logged models": Level(pattern="logged-models/search"),
    "traces": Level(pattern="/traces"),
}

Documents = Mapping[tuple[str, str], bytes]


@dataclass(slots=True, kw_only=True)
class Bench:
    """A database with one workspace, behind a proxy in front of a server that nobody else writes to."""

    engine: Engine
    proxy: RecordingProxy
    before: Documents

    def cell(self, fault: str, level: str, mode: Mode = Mode.SWEEP) -> ExitCode:
        """Run one cell. Raises AssertionError, with the cell's name, on any false claim."""
        where, wrong = LEVELS[level], FAULTS[fault]
        self.proxy.clear()
        self.proxy.fault(where.pattern, wrong.make(), after=where.after)
        broken = scan(self.engine, self.proxy, mode)
        self.proxy.clear()
        clean = scan(self.engine, self.proxy, Mode.SWEEP)
        name = f"{fault} at {level}, {mode}"
        _honest(broken, name, wrong.seen, self.engine)
        _honest(clean, f"the clean sweep after {name}", wrong.seen, self.engine)
        assert clean.state == ScanState.COMPLETE, f"{name}: the clean sweep was {clean.state}: {clean.error}"
        assert documents(self.engine) == self.before, f"{name}: the inventory is another one afterwards"
        return of_scans([broken.state])


def prepared(engine: Engine, proxy: RecordingProxy) -> Bench:
    """Take the baseline."""
    first = scan(engine, proxy, Mode.SWEEP)
    assert first.state == ScanState.COMPLETE, first.error
    return Bench(engine=engine, proxy=proxy, before=documents(engine))


def scan(engine: Engine, proxy: RecordingProxy, mode: Mode) -> ScanReport:
    """One pass; waiting between attempts takes no time."""
    clock = Clock()
    config = MlflowRestConfig(http=HttpConfig(base_url=proxy.uri), page_size=2)
    return pipeline.scan(
        engine,
        lambda now: MlflowRest(config, now, sleep=clock.sleep, monotonic=clock.monotonic),
        workspace="w",
        source_name="mlflow_rest",
        uri="the server",
        mode=mode,
        redactor=Redactor(KEY),
        key=KEY,
        guard=Guard(),
    )


def documents(engine: Engine) -> Documents:
    """What is there: the digest of each asset's open version. Raises AssertionError when an asset has two."""
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT kind, key, v.digest FROM version v JOIN asset USING (asset_id, kind) WHERE valid_to IS NULL")
        ).all()
    found = {(kind, key): bytes(digest) for kind, key, digest in rows}
    assert len(found) == len(rows), "an asset stands twice"
    return found


def _honest(report: ScanReport, name: str, seen: frozenset[str], engine: Engine) -> None:
    claimed = {kind for kind in _COUNTED if report.counts.get(kind)} - seen
    assert not claimed, f"{name}: reported {claimed}, which did not happen"
    with engine.connect() as connection:
        row = connection.execute(
            text("SELECT state, error, next_step FROM inventory.scan WHERE scan = :scan"), {"scan": report.scan_id}
        ).one()
    told = (str(report.state), report.error, report.next_step)
    assert tuple(row) == told, f"{name}: the ledger says {tuple(row)}, the command {told}"
    if report.state == ScanState.COMPLETE:
        assert report.error is None, name
        return
    assert report.error, f"{name}: {report.state} without a reason"
    assert report.next_step, f"{name}: no next step"
    assert "\n" not in report.error + report.next_step, f"{name}: more than one line"
