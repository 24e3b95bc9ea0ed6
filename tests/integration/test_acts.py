"""A log of who did what, whatever place keeps it: how far it was read, what it says of changes, what is kept of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text

from stocktake import pipeline
from stocktake.core.actors import AZURE, CLOCKS, Line
from stocktake.core.assets import Kind, Mode, ScanState
from stocktake.core.errors import Trouble
from stocktake.pipeline.actors import KEPT, LATE
from stocktake.store import history, retention
from tests.integration.scripted import broken
from tests.integration.stated import Stock, scan

ADA, BO = "ada@team.example", "0b0b0b0b-0000-4000-8000-000000000000"
WRITE = "Microsoft.MachineLearningServices/workspaces/models/write"


@dataclass(slots=True)
class Log:
    """A log as a place keeps it: its lines, in pages of two, and which times were asked for."""

    lines: list[Line] = field(default_factory=list)
    asked: list[tuple[datetime, datetime]] = field(default_factory=list)
    fails: Callable[[datetime, datetime], bool] = lambda since, until: False
    number: int = 0

    def add(
        self,
        key: str,
        caller: str = ADA,
        *,
        at: datetime | None = None,
        operation: str = WRITE,
        accepted: bool = True,
        failed: bool = False,
    ) -> None:
        self.number += 1
        event = f"e{self.number}"
        at = at or datetime.now(UTC)
        self.lines.append(
            Line(Kind.REGISTERED_MODEL, key, operation, f"o{self.number}", event, caller, at, accepted, failed)
        )

    def __call__(self, since: datetime, until: datetime) -> Iterator[Sequence[Line]]:
        self.asked.append((since, until))
        there = [line for line in self.lines if since <= line.at <= until]
        for start in range(0, max(1, len(there)), 2):
            yield there[start : start + 2]
        if self.fails(since, until):
            raise broken()


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def stock(engine: Engine, log: Log) -> Stock:
    """Two models whose names differ in nothing but upper case, and one more; seen once."""
    stock = Stock(log=log)
    for key in ("fraud", "Fraud", "churn"):
        stock.put(Kind.REGISTERED_MODEL, key, {"tags": {"step": "0"}})
    scan(engine, stock)
    return stock


def actors(engine: Engine) -> dict[str, tuple[str, str | None]]:
    """Who made the last change of each model."""
    with engine.connect() as connection:
        return {row.key: (row.actor, row.actor_source) for row in history.changes(connection)}


def read_to(engine: Engine) -> tuple[datetime, datetime]:
    with engine.connect() as connection:
        row = connection.execute(text("SELECT read_from, read_to FROM act_log")).one()
        return row.read_from, row.read_to


def move_back(engine: Engine, by: timedelta) -> None:
    """Let all that was seen, and all that was read, be older by some time."""
    with engine.begin() as connection:
        for table, columns in {
            "change": ("at", "not_before", "not_after"),
            "scan": ("began_at", "last_began_at"),
            "scope": ("first_complete_at", "last_complete_at", "first_listed_at", "last_listed_at"),
            "asset": ("observed_at",),
            "version": ("valid_from", "valid_to"),
            "act_log": ("read_from", "read_to"),
        }.items():
            moved = ", ".join(f"{column} = {column} - :by" for column in columns)
            connection.execute(text(f"UPDATE {table} SET {moved}"), {"by": by})


def test_who_wrote_to_one_is_not_who_wrote_to_another_of_almost_the_same_name(
    engine: Engine, stock: Stock, log: Log
) -> None:
    for key, caller in (("fraud", ADA), ("Fraud", BO), ("CHURN", ADA)):
        log.add(key, caller)
    for key in stock.assets[Kind.REGISTERED_MODEL]:
        stock.change(Kind.REGISTERED_MODEL, key, {"tags": {"step": "1"}})
    scan(engine, stock)
    assert actors(engine) == {"fraud": (ADA, AZURE), "Fraud": (BO, AZURE), "churn": (ADA, AZURE)}


def test_an_act_that_names_neither_of_two_exactly_names_nobody_and_leaves_doubt(
    engine: Engine, stock: Stock, log: Log
) -> None:
    log.add("FRAUD")
    log.add("Fraud", BO)
    for key in ("fraud", "Fraud"):
        stock.change(Kind.REGISTERED_MODEL, key, {"tags": {"step": "1"}})
    scan(engine, stock)
    doubted = f"{AZURE}: one of {BO}, or somebody whom it does not name"
    assert actors(engine) == {"fraud": ("unknown", None), "Fraud": ("unknown", doubted)}


def test_the_log_knows_better_than_what_a_client_claims(engine: Engine, stock: Stock, log: Log) -> None:
    stock.put(Kind.REGISTERED_MODEL, "claimed", {"user_id": "somebody"})
    stock.put(Kind.REGISTERED_MODEL, "named", {"user_id": "somebody"})
    log.add("named", operation="Microsoft.MachineLearningServices/workspaces/models/versions/write")
    scan(engine, stock)
    assert actors(engine) == {
        "claimed": ("somebody", "user_id, as the client claimed"),
        "named": (ADA, AZURE),
    }


def test_lines_of_one_operation_are_one_act_from_the_first_to_the_last(engine: Engine, stock: Stock, log: Log) -> None:
    at = datetime.now(UTC)
    for number, accepted in enumerate((False, True, True)):
        log.add("fraud", at=at + timedelta(seconds=number - 20), accepted=accepted)
        log.lines[-1] = log.lines[-1]._replace(operation_id="one")
    scan(engine, stock)
    scan(engine, stock, mode=Mode.HOT)
    with engine.connect() as connection:
        (act,) = connection.execute(text("SELECT * FROM inventory.act")).all()
    assert (act.began_at, act.ended_at, act.accepted) == (at - timedelta(seconds=20), at - timedelta(seconds=18), True)
    assert (act.event_id, act.workspace, act.kind, act.key) == ("e3", "ml", "registered_model", "fraud")


def test_an_operation_that_lasted_for_hours_leaves_doubt_about_all_that_changed_meanwhile(
    engine: Engine, stock: Stock, log: Log
) -> None:
    begun = datetime.now(UTC) - timedelta(minutes=5)
    log.add("fraud", BO, at=begun)
    log.add("fraud", ADA)
    stock.change(Kind.REGISTERED_MODEL, "fraud", {"tags": {"step": "1"}})
    scan(engine, stock)
    assert actors(engine) == {"fraud": (ADA, AZURE)}
    hours = timedelta(hours=3)
    move_back(engine, hours)
    with engine.begin() as connection:
        connection.execute(text("UPDATE act SET began_at = began_at - :by, ended_at = ended_at - :by"), {"by": hours})
    log.lines = [line._replace(at=line.at - hours) for line in log.lines]
    scan(engine, stock, mode=Mode.HOT)
    log.lines.append(log.lines[0]._replace(event_id="end", at=datetime.now(UTC)))
    scan(engine, stock, mode=Mode.HOT)
    assert actors(engine) == {"fraud": ("unknown", f"{AZURE}: one of {BO}, {ADA}")}


def test_a_pass_reads_on_from_an_hour_before_the_last_one(engine: Engine, stock: Stock, log: Log) -> None:
    began = read_to(engine)
    log.asked.clear()
    scan(engine, stock, mode=Mode.HOT)
    ((since, until),) = log.asked
    assert since == began[1] - LATE - CLOCKS
    assert read_to(engine) == (began[0], until)


def test_a_long_time_is_read_day_by_day_and_a_day_that_failed_is_read_again(
    engine: Engine, stock: Stock, log: Log
) -> None:
    move_back(engine, timedelta(days=5))
    stopped = datetime.now(UTC) - timedelta(days=3)
    log.asked.clear()
    log.fails = lambda since, until: since <= stopped <= until
    report = scan(engine, stock, mode=Mode.HOT)
    assert report.state == ScanState.COMPLETE
    assert len(log.asked) == 3
    got = read_to(engine)[1]
    assert stopped - timedelta(days=1) <= got <= stopped
    with engine.connect() as connection:
        row = connection.execute(text("SELECT * FROM inventory.act_log")).one()
    assert (row.workspace, row.trouble, row.error) == ("ml", Trouble.SERVER, broken().what)
    assert row.next_step
    log.asked.clear()
    log.fails = lambda since, until: False
    scan(engine, stock, mode=Mode.HOT)
    assert log.asked[0][0] == got - LATE - CLOCKS
    assert all(until - since <= timedelta(days=1) + 2 * CLOCKS for since, until in log.asked)
    assert [since <= before for (since, _), (_, before) in zip(log.asked[1:], log.asked, strict=False)] == [
        True
    ] * 3  # no gap
    assert datetime.now(UTC) - read_to(engine)[1] < timedelta(minutes=1)


def test_a_change_that_was_seen_after_the_log_was_read_to_is_left_to_nobody(
    engine: Engine, stock: Stock, log: Log
) -> None:
    log.add("fraud")
    stock.change(Kind.REGISTERED_MODEL, "fraud", {"tags": {"step": "1"}})
    log.fails = lambda since, until: True
    scan(engine, stock)
    assert actors(engine) == {"fraud": ("unknown", None)}  # another's line may have been on the page that is missing
    log.fails = lambda since, until: False
    scan(engine, stock, mode=Mode.HOT)
    assert actors(engine) == {"fraud": (ADA, AZURE)}


def test_what_changed_before_the_log_is_first_read_is_told_from_as_far_back_as_it_goes(engine: Engine) -> None:
    stock, log = Stock(), Log()
    stock.put(Kind.REGISTERED_MODEL, "fraud", {"tags": {"step": "0"}})
    scan(engine, stock)
    log.add("fraud", at=datetime.now(UTC))
    stock.change(Kind.REGISTERED_MODEL, "fraud", {"tags": {"step": "1"}})
    scan(engine, stock)
    with engine.begin() as connection:  # the changes of three days ago
        connection.execute(
            text("UPDATE change SET at = at - :by, not_before = not_before - :by, not_after = not_after - :by"),
            {"by": timedelta(days=3)},
        )
    log.lines[0] = log.lines[0]._replace(at=log.lines[0].at - timedelta(days=3))
    stock.log = log
    scan(engine, stock, mode=Mode.HOT)
    assert actors(engine) == {"fraud": (ADA, AZURE)}
    assert len(log.asked) == 4


def test_what_the_log_has_forgotten_is_a_gap_and_a_change_across_it_is_left_to_nobody(
    engine: Engine, stock: Stock, log: Log
) -> None:
    move_back(engine, timedelta(days=120))
    log.asked.clear()
    log.add("fraud")
    stock.change(Kind.REGISTERED_MODEL, "fraud", {"tags": {"step": "1"}})
    while not log.asked or datetime.now(UTC) - read_to(engine)[1] > timedelta(minutes=1):
        scan(engine, stock, mode=Mode.HOT)  # some days in each
    assert datetime.now(UTC) - log.asked[0][0] < KEPT + timedelta(hours=1)
    assert len(log.asked) <= 92
    assert actors(engine) == {"fraud": ("unknown", None)}  # its look before is older than what could be read


def test_acts_go_with_the_rest_and_the_changes_keep_their_actors(engine: Engine, stock: Stock, log: Log) -> None:
    log.add("fraud")
    stock.change(Kind.REGISTERED_MODEL, "fraud", {"tags": {"step": "1"}})
    scan(engine, stock)
    assert retention.prune(engine, keep=timedelta(days=1))["act"] == 0
    with engine.begin() as connection:
        connection.execute(text("UPDATE act SET ended_at = ended_at - interval '2 days'"))
    assert retention.prune(engine, keep=timedelta(days=1))["act"] == 1
    assert actors(engine) == {"fraud": (ADA, AZURE)}


def test_a_place_without_a_log_is_asked_for_none(engine: Engine) -> None:
    stock = Stock()
    stock.put(Kind.REGISTERED_MODEL, "fraud", {})
    assert scan(engine, stock).state == ScanState.COMPLETE
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM act_log")).scalar() == 0


def test_a_pass_that_is_stopped_while_it_reads_the_log_is_left(engine: Engine, stock: Stock, log: Log) -> None:
    stopping = []

    def fails(since: datetime, until: datetime) -> bool:
        stopping.append(True)
        return True

    log.fails = fails
    with pytest.raises(pipeline.Stopped):
        scan(engine, stock, stop=lambda: bool(stopping))
