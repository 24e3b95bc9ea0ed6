"""What a rule would have said over the past is what it did say: the replay against the events that judging wrote."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from stocktake.core.assets import Kind, Mode, Scope
from stocktake.core.errors import Trouble
from stocktake.core.findings import Policy
from stocktake.core.rules import Rule, StateRule
from stocktake.pipeline.replaying import Move, Replay
from stocktake.rules import RULES, mass_removal_withheld, missing_owner
from stocktake.sources.protocol import Known, Listing, failing
from stocktake.store import retention
from stocktake.store.past import NoPast
from tests.integration.registry import Registry, WithRegistry, look
from tests.integration.scripted import broken
from tests.integration.test_cli import configured

LONG_AGO = timedelta(days=60)
BY_ID = {rule.id: rule for rule in RULES}


def a_day_goes_by(engine: Engine) -> None:
    """Every time that the database knows was a day and an hour earlier."""
    with engine.begin() as connection:
        rows = connection.execute(
            text(
                "SELECT c.relname, array_agg(quote_ident(attname))"
                " FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid"
                " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND attnum > 0"
                " AND atttypid = 'timestamptz'::regtype GROUP BY c.relname"
            )
        ).all()
        for table, columns in rows:
            moved = ", ".join(f"{one} = {one} - interval '25 hours'" for one in columns)
            connection.execute(text(f"UPDATE {table} SET {moved}"))


def replayed(engine: Engine, rule: Rule, since: datetime | None = None, **more: object) -> tuple[list[Move], Replay]:
    given = {"since": since or datetime.now(UTC) - LONG_AGO, "until": datetime.now(UTC), "policy": Policy()}
    one = Replay(engine=engine, rule=rule, timeout=timedelta(seconds=30), **(given | more))  # type: ignore[arg-type]
    return list(one.run(["w"])), one


def told(engine: Engine, rule: Rule) -> list[tuple[str, str, str | None, str]]:
    """What judging wrote, a row for each move: the day, the key, from, to."""
    with engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT e.at, f.key, e.before, e.after FROM finding_event e JOIN finding f USING (finding_id)"
                " WHERE f.rule = :rule AND e.before IS DISTINCT FROM e.after"
            ),
            {"rule": rule.id},
        )
        return sorted((_day(row.at), row.key, row.before, row.after) for row in rows)


def moves(found: list[Move]) -> list[tuple[str, str, str | None, str]]:
    """The same of a replay. What never opened left no finding, so no event either."""
    kept: list[Move] = []
    for one in found:
        if one.after is None:
            kept = [each for each in kept if (each.kind, each.key) != (one.kind, one.key) or each.after != "pending"]
        else:
            kept.append(one)
    return sorted((_day(one.at), one.key, one.before, str(one.after)) for one in kept)


def _day(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d}"


#: What these read is kept of the present alone, or read by a function: they are refused.
NO_PAST = {"mass-removal-withheld", "off-baseline", "job-without-run", "run-job-disagree"}


@pytest.fixture
def world() -> Registry:
    made = Registry()
    for number in range(4):
        made.add_run(f"run{number}")
    made.add_run("moving", status="RUNNING")
    made.registered = {"m": {"name": "m", "aliases": {"champion": "1"}}, "n": {"name": "n", "owner": "ada"}}
    made.versions = {"m/1": {"run_id": "run0"}, "m/2": {"run_id": "run1"}}
    return made


def acts(world: Registry, dice: random.Random) -> None:
    """Something happens on a day, or nothing does."""
    run = world.runs[dice.choice(sorted(world.runs))]
    model = dice.choice(list(world.registered.values()))
    some: list[Callable[[], object]] = [
        lambda: run["params"].update(lr=str(dice.randint(0, 2))),
        lambda: run["info"].update(lifecycle_stage=dice.choice(["active", "deleted"])),
        lambda: run["info"].update(status=dice.choice(["RUNNING", "FINISHED"])),
        lambda: model.update(owner=dice.choice([None, "ada", "bob"])),
        lambda: model.update(aliases={"champion": str(dice.randint(1, 2))}),
        lambda: world.experiments["1"].update(owner=dice.choice([None, "ada"])),
        lambda: setattr(world, "fail_identify", dice.choice([None, Trouble.SERVER, None])),
        lambda: world.cut.add("1") if dice.random() < 0.5 else world.cut.clear(),
        lambda: world.versions.pop("m/2", None),
        lambda: world.versions.update({"m/9": {"run_id": "nowhere"}}),
        lambda: None,
    ]
    for act in dice.sample(some, 3):
        act()


@pytest.mark.parametrize("seed", range(3))
def test_what_it_would_have_said_is_what_it_said(engine: Engine, world: Registry, seed: int) -> None:
    dice = random.Random(seed)
    patient = replace(missing_owner.RULE, id="patient", opens_after=2, resolves_after=2)
    rules = [*RULES, patient]
    for _ in range(9):
        look(engine, world, Mode.SWEEP if dice.random() < 0.7 else Mode.HOT, rules=rules)
        a_day_goes_by(engine)
        acts(world, dice)
    said = 0
    for rule in rules:
        if rule.id in NO_PAST:
            with pytest.raises(NoPast):
                replayed(engine, rule)
            continue
        live = told(engine, rule)
        assert moves(replayed(engine, rule)[0]) == live, rule.id
        said += len(live)
    assert said > 10


def test_it_writes_nothing_and_leaves_the_views_as_they_are(engine: Engine, world: Registry) -> None:
    look(engine, world)
    tables = ("finding", "finding_event", "judging", "version", "scope", "scan")
    with engine.connect() as connection:
        before = [connection.execute(text(f"SELECT array_agg({one}::text) FROM {one}")).scalar() for one in tables]
    for rule in (missing_owner.RULE, BY_ID["access-lost"], BY_ID["run-deleted"]):
        replayed(engine, rule)
    with engine.connect() as connection:
        after = [connection.execute(text(f"SELECT array_agg({one}::text) FROM {one}")).scalar() for one in tables]
        assert after == before
        left = "SELECT count(*) FROM pg_class WHERE relnamespace::regnamespace::text LIKE 'pg_temp%'"
        assert connection.execute(text(left)).scalar() == 0
        assert connection.execute(text("SELECT count(*) FROM inventory.run")).scalar() == 5


def test_what_stood_at_the_beginning_is_inherited_and_what_came_later_is_not(engine: Engine, world: Registry) -> None:
    look(engine, world, rules=())
    a_day_goes_by(engine)
    begin = datetime.now(UTC) - timedelta(hours=3)
    del world.registered["n"]["owner"]
    look(engine, world, rules=())
    found, replay = replayed(engine, missing_owner.RULE, begin)
    assert {one.key: (one.at == begin, one.inherited) for one in found} == {
        "1": (True, True),
        "m": (True, True),
        "n": (False, False),
    }
    assert replay.unobserved == []


def test_what_was_not_observed_is_said(engine: Engine, world: Registry) -> None:
    world.filtered = True
    look(engine, world, rules=())
    a_day_goes_by(engine)
    _, replay = replayed(engine, missing_owner.RULE)
    (one,) = replay.unobserved
    assert (one.workspace, one.never) == ("w", ["experiment"])  # the registry was there to be seen
    world.filtered = False
    look(engine, world, rules=())
    _, replay = replayed(engine, missing_owner.RULE)
    (one,) = replay.unobserved
    assert one.never == []
    assert one.first is not None
    assert one.first > datetime.now(UTC) - timedelta(hours=1)


def test_a_list_that_belongs_to_no_experiment_leaves_no_gap_behind(engine: Engine, world: Registry) -> None:
    """Where not all experiments could be listed, the runs of the others are a list that fails: once, not for ever."""

    class Cut(WithRegistry):
        def listings(self, mode: Mode, known: Known) -> Iterator[Listing]:
            yield from super().listings(mode, known)
            yield Listing(scope=Scope(kind=Kind.RUN, partition="unlisted", covers=()), pages=failing(broken()))

    lost = BY_ID["model-version-lost-its-run"]
    look(engine, world, source=Cut)
    a_day_goes_by(engine)
    world.runs["run0"]["info"]["lifecycle_stage"] = "deleted"
    look(engine, world)
    assert [one[1] for one in told(engine, lost)] == ["m/1"]
    assert moves(replayed(engine, lost)[0]) == told(engine, lost)


def test_what_retention_dropped_is_said_and_not_answered_as_nothing(engine: Engine, world: Registry) -> None:
    look(engine, world, rules=())
    a_day_goes_by(engine)
    for number in range(4):
        world.runs[f"run{number}"]["params"]["lr"] = "1"
    world.runs["moving"]["info"]["status"] = "FINISHED"
    look(engine, world, rules=())
    a_day_goes_by(engine)
    stale = BY_ID["stale-running"]
    before, _ = replayed(engine, stale)
    retention.prune(engine, keep=timedelta(hours=2))
    after, replay = replayed(engine, stale)
    (one,) = replay.unobserved
    assert one.dropped_before is not None
    assert after == [move for move in before if move.at >= one.dropped_before]
    _, changes = replayed(engine, BY_ID["run-edited-after-finish"])
    assert changes.unobserved[0].dropped_before == one.dropped_before


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        (mass_removal_withheld.RULE.statement, "reads inventory.withheld, of which only the present is kept"),
        (
            "SELECT workspace, 'run' AS kind, key, '{}'::jsonb AS evidence FROM inventory.run_at('2026-01-01')",
            "calls inventory.run_at(), which reads the present",
        ),
    ],
)
def test_a_rule_over_what_has_no_past_is_refused(engine: Engine, world: Registry, statement: str, why: str) -> None:
    look(engine, world, rules=())
    rule = replace(mass_removal_withheld.RULE, statement=statement)
    with pytest.raises(NoPast, match=why.replace("(", r"\(").replace(")", r"\)")):
        replayed(engine, rule)


@pytest.mark.parametrize("view", ["job_run", "lineage", "coverage", "scope_scan", "act", "change", "workspace"])
def test_every_view_that_has_a_past_can_be_asked_of_it(engine: Engine, world: Registry, view: str) -> None:
    look(engine, world, rules=())
    statement = f"""
        SELECT workspace, 'run' AS kind, 'all' AS key, jsonb_build_object('rows', count(*)) AS evidence
        FROM inventory.{view} GROUP BY workspace"""
    rule = StateRule(id="a-view", severity=missing_owner.RULE.severity, words=missing_owner.RULE.words,
                     kinds=(Kind.RUN,), statement=statement)  # fmt: skip
    found, _ = replayed(engine, rule)
    with engine.connect() as connection:
        here = connection.execute(text(f"SELECT count(*) FROM inventory.{view} WHERE workspace = 'w'")).scalar()
    assert [one.evidence["rows"] for one in found] == ([here] if here else [])


def test_the_command_says_day_by_day_what_would_have_moved(
    engine: Engine, world: Registry, tmp_path: Path, database_url: str
) -> None:
    cli = configured(tmp_path, f'database: "{database_url}"\n')
    look(engine, world, rules=())
    a_day_goes_by(engine)
    world.registered["m"]["owner"] = "ada"
    look(engine, world, rules=())
    answer = cli("rules", "try", "missing-owner", "--since", "90 days ago")
    assert answer.code == 3
    assert "w: nothing is said of the time before" in answer.err
    lines = [line.split() for line in answer.out.splitlines()]
    assert lines[0][:4] == ["DAY", "(UTC)", "WORKSPACE", "OPENED"]
    assert [line[1:4] for line in lines[1:]] == [["w", "2", "2"], ["w", "1", "1"]]
    made = cli("rules", "try", "missing-owner", "--since", "26 hours ago", "-o", "json").json()
    assert [(one["key"], one["before"], one["after"]) for one in made] == [
        ("1", None, "open"),
        ("m", None, "open"),
        ("m", "open", "resolved"),
    ]
    assert cli("rules", "try", "missing-owner", "-o", "tsv").out.count("\n") == 4
    assert cli("rules", "try", "missing-owner", "--since", "40 days ago", "--until", "39 days ago").code == 5
    assert cli("rules", "try", "mass-removal-withheld").code == 4
    assert cli("rules", "try", "nonsense").code == 7
    assert cli("rules", "try", "run-deleted", "--since", "1 hour ago").err.startswith("It would have said nothing")
    own = tmp_path / "every-run.sql"
    own.write_text(
        "/*\nseverity: info\nkinds: [run]\ntitle: Any\nwhy: Any\nfix: Any\n*/\n"
        "SELECT workspace, 'run' AS kind, key, '{}'::jsonb AS evidence FROM run"
    )
    assert len(cli("rules", "try", str(own), "-o", "json").json()) == 5
