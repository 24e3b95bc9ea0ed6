"""How rules are asked: each alone, in a transaction that cannot write, and only what differs is touched."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from stocktake import pipeline
from stocktake.core import findings as machine
from stocktake.core.assets import Kind, Mode
from stocktake.core.findings import Policy, State
from stocktake.core.rules import Rule, Seen, Severity, StateRule, Verdict
from stocktake.core.statements import asks_now, bindable, in_schema
from stocktake.pipeline import judging as pipeline_judging
from stocktake.rules import RULES, missing_owner, run_edited_after_finish
from stocktake.store import finding_list, findings
from tests.integration.registry import Registry, found, history, look, stands

WORDS = missing_owner.RULE.words


def rule(statement: str, name: str = "own-rule", **changes: Any) -> StateRule:
    """A rule of an operator about registered models."""
    return replace(
        StateRule(id=name, severity=Severity.INFO, words=WORDS, kinds=(Kind.REGISTERED_MODEL,), statement=statement),
        **changes,
    )


EVERY = "SELECT workspace, 'registered_model' AS kind, key, '{}'::jsonb AS evidence FROM inventory.registered_model"
NOBODYS = EVERY + " WHERE owner IS NULL"


@pytest.fixture
def world() -> Registry:
    made = Registry()
    made.add_run("run0")
    made.registered = {"m": {"name": "m", "aliases": {}}, "n": {"name": "n", "aliases": {}, "owner": "ada"}}
    return made


def failures(engine: Engine) -> dict[str, str]:
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT DISTINCT rule, error FROM inventory.judging WHERE error IS NOT NULL AND failed_since < now()")
        )
        return {row.rule: row.error for row in rows}


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("SELECT * FORM inventory.run", 'syntax error at or near "FORM"'),
        (EVERY.replace("key,", "nonsense AS key,"), 'column "nonsense" does not exist'),
        ("SELECT workspace, key FROM inventory.run", 'column "kind" does not exist'),
        (EVERY.replace("'{}'::jsonb", "'[1]'::jsonb"), "yields evidence that is no object"),
        (EVERY.replace("key,", "NULL::text AS key,"), "yields a row without a key"),
        (EVERY.replace("key,", "(1 / (length(key) - 1))::text AS key,"), "division by zero"),
        (EVERY + " WHERE (SELECT count(*) FROM generate_series(1, 100000000000)) > 0", "takes longer than it may"),
        ("WITH gone AS (DELETE FROM public.finding RETURNING 1) " + EVERY, "data-modifying"),
        (EVERY + ", (SELECT set_config('transaction_read_only', 'off', true)) AS s (s)", "read-write mode"),
        (EVERY + ", (SELECT setval('public.finding_finding_id_seq', 7)) AS s (s)", "read-only transaction"),
        ("SELECT 1) AS yielded; DROP TABLE finding; --", "syntax error"),
    ],
)
def test_a_rule_that_fails_fails_alone(engine: Engine, world: Registry, statement: str, why: str) -> None:
    bad = rule(statement, "bad-rule")
    good = rule(NOBODYS, "good-rule")
    judged_by = pipeline.RuleSet(rules=[bad, good], timeout=timedelta(seconds=1))
    assert look(engine, world, judged_by=judged_by).state == "complete"
    assert stands(engine, "good-rule") == {"m": "open"}
    (error,) = failures(engine).values()
    assert why in error
    assert found(engine, "bad-rule") == []
    look(engine, world, judged_by=pipeline.RuleSet(rules=[rule(NOBODYS, "bad-rule"), good]))
    assert failures(engine) == {}
    assert stands(engine, "bad-rule") == {"m": "open"}


def test_the_findings_of_a_rule_that_fails_stay_and_become_stale_with_time(engine: Engine, world: Registry) -> None:
    look(engine, world, rules=[rule(NOBODYS)])
    world.registered["m"]["owner"] = "ada"
    broken = pipeline.RuleSet(rules=[rule("nonsense")])
    look(engine, world, judged_by=broken)
    assert stands(engine, "own-rule") == {"m": "open"}
    unreadable = pipeline.RuleSet(rules=[], broken={"own-rule": "own-rule.sql, line 3: has no title"})
    look(engine, world, judged_by=unreadable)
    assert stands(engine, "own-rule") == {"m": "open"}
    assert failures(engine) == {"own-rule": "own-rule.sql, line 3: has no title"}
    impatient = Policy(stale_after=timedelta(0))
    look(engine, world, judged_by=replace(unreadable, policy=impatient))
    assert stands(engine, "own-rule") == {"m": "stale"}
    look(engine, world, rules=[rule(NOBODYS)])
    assert stands(engine, "own-rule") == {"m": "resolved"}
    assert failures(engine) == {}


def test_a_rule_that_was_never_readable_is_named_and_begins_where_it_was_first_seen(
    engine: Engine, world: Registry
) -> None:
    world.add_run("run1")
    look(engine, world, rules=[])
    world.runs["run0"]["params"]["lr"] = "1"
    look(engine, world, rules=[])
    look(engine, world, judged_by=pipeline.RuleSet(rules=[], broken={"own-rule": "is empty"}))
    world.runs["run1"]["params"]["lr"] = "1"
    look(engine, world, judged_by=pipeline.RuleSet(rules=[], broken={"own-rule": "is empty"}))
    assert failures(engine) == {"own-rule": "is empty"}
    look(engine, world, rules=[replace(run_edited_after_finish.RULE, id="own-rule")])
    assert stands(engine, "own-rule") == {"run1": "open"}
    assert failures(engine) == {}


def test_a_rule_about_changes_that_raises_fails_alone_and_judges_them_once_it_is_repaired(
    engine: Engine, world: Registry
) -> None:
    def raises(change: Seen, held: Any) -> Verdict | None:
        if change.key == "run1":
            raise ZeroDivisionError("by zero")
        return run_edited_after_finish.check(change, held)

    edits = run_edited_after_finish.RULE
    world.add_run("run1")
    bad = [replace(edits, id="own-rule", check=raises), edits]
    look(engine, world, rules=bad)
    world.runs["run0"]["params"]["lr"] = "1"
    world.runs["run1"]["params"]["lr"] = "1"
    look(engine, world, rules=bad)
    assert stands(engine, "own-rule") == {}
    assert stands(engine, edits.id) == {"run0": "open", "run1": "open"}
    (error,) = failures(engine).values()
    assert "ZeroDivisionError: by zero" in error
    look(engine, world, rules=[replace(edits, id="own-rule"), edits])
    assert stands(engine, "own-rule") == {"run0": "open", "run1": "open"}
    assert failures(engine) == {}


def test_a_rule_that_is_there_no_more_ends_its_findings_and_claims_nothing(engine: Engine, world: Registry) -> None:
    patient = rule(NOBODYS, "patient", opens_after=9)
    look(engine, world, rules=[rule(NOBODYS), patient])
    look(engine, world, judged_by=pipeline.RuleSet(rules=[patient], off={"own-rule": "rules: disable"}))
    (one,) = found(engine, states=["resolved"])
    with engine.connect() as connection:
        shown = finding_list.shown(connection, one.id)
    assert shown is not None
    last = shown.history[-1]
    assert (last.before, last.after, last.actor) == ("open", "resolved", "stocktake")
    assert last.reason == "the rule is switched off (rules: disable); nothing is said of the asset"
    look(engine, world, rules=[])
    assert [one.rule for one in found(engine)] == []  # what never opened leaves nothing
    look(engine, world, rules=[rule(NOBODYS)])
    (again,) = found(engine)
    assert (again.id, again.state, again.inherited) == (one.id, "open", True)


def test_a_judging_by_some_rules_alone_ends_nothing_of_the_others(engine: Engine, world: Registry) -> None:
    rules: list[Rule] = [rule(NOBODYS), rule(NOBODYS, "other"), run_edited_after_finish.RULE]
    look(engine, world, rules=rules)
    world.registered["m"]["owner"] = "ada"
    world.runs["run0"]["params"]["lr"] = "1"
    look(engine, world, judged_by=pipeline.RuleSet(rules=rules, only={"other"}))
    assert (stands(engine, "own-rule"), stands(engine, "other")) == ({"m": "open"}, {"m": "resolved"})
    assert stands(engine, run_edited_after_finish.RULE.id) == {}
    look(engine, world, rules=rules)
    assert stands(engine, "own-rule") == {"m": "resolved"}
    assert stands(engine, run_edited_after_finish.RULE.id) == {"run0": "open"}


def test_a_rule_about_the_ledger_that_is_added_inherits_what_stands_as_any_other(
    engine: Engine, world: Registry
) -> None:
    every = (
        "SELECT workspace, 'workspace' AS kind, kind AS key, '{}'::jsonb AS evidence FROM inventory.scope"
        " WHERE state = 'complete'"
    )
    ours = rule(every, kinds=())
    look(engine, world, rules=[])
    look(engine, world, rules=[ours])
    with engine.begin() as connection:
        connection.execute(text("UPDATE finding SET state = 'resolved', resolved_at = now() WHERE key = 'run'"))
    look(engine, world, rules=[ours])
    assert {one.key: one.inherited for one in found(engine, "own-rule")} == {
        "experiment": True, "logged_model": True, "model_version": True, "registered_model": True, "run": False,
    }  # fmt: skip


def test_a_kind_that_a_rule_is_about_no_more_ends_the_findings_about_it(engine: Engine, world: Registry) -> None:
    world.experiments["2"] = {"name": "nobody's", "lifecycle_stage": "active"}
    world.experiments["1"]["owner"] = "ada"
    look(engine, world)
    assert stands(engine, "missing-owner") == {"2": "open", "m": "open"}
    look(engine, world, rules=[replace(missing_owner.RULE, kinds=(Kind.EXPERIMENT,))])
    assert stands(engine, "missing-owner") == {"2": "open", "m": "resolved"}


def test_where_the_rules_of_operators_could_not_be_looked_for_none_is_gone(engine: Engine, world: Registry) -> None:
    look(engine, world, rules=[rule(NOBODYS), rule(NOBODYS, "other")])
    blind = pipeline.RuleSet(rules=[], unread="the folder is not there", off={"other": "rules: disable"})
    look(engine, world, judged_by=blind)
    assert (stands(engine, "own-rule"), stands(engine, "other")) == ({"m": "open"}, {"m": "resolved"})
    assert failures(engine) == {"own-rule": "the folder is not there"}
    look(engine, world, judged_by=replace(blind, policy=Policy(stale_after=timedelta(0))))
    assert stands(engine, "own-rule") == {"m": "stale"}


def test_a_rule_that_another_version_dismissed_meanwhile_is_left_out(engine: Engine, world: Registry) -> None:
    def dismissed(page: int) -> None:
        if page == 0:
            with engine.begin() as connection:
                connection.execute(text("DELETE FROM judging WHERE rule <> 'other'"))

    rules: list[Rule] = [rule(NOBODYS), rule(NOBODYS, "other"), run_edited_after_finish.RULE]
    world.during = dismissed
    assert look(engine, world, rules=rules).state == "complete"
    assert (stands(engine, "own-rule"), stands(engine, "other")) == ({}, {"m": "open"})


def test_a_severity_that_changes_is_that_of_its_findings_too(engine: Engine, world: Registry) -> None:
    look(engine, world, rules=[rule(NOBODYS)])
    look(engine, world, rules=[rule(NOBODYS, severity=Severity.CRITICAL)])
    (one,) = found(engine)
    assert (one.severity, history(engine, one)) == ("critical", [(None, "open")])


def test_a_rule_yields_an_asset_twice_and_says_the_same_of_it_each_time(engine: Engine, world: Registry) -> None:
    another = NOBODYS.replace("'{}'", "jsonb_build_object('n', 1)")
    twice = f"{NOBODYS} UNION ALL {another}"
    for _ in range(3):
        look(engine, world, rules=[rule(twice)])
    (one,) = found(engine)
    assert history(engine, one) == [(None, "open")]


def test_who_is_asked_to_stop_stops_between_rules(engine: Engine, world: Registry) -> None:
    asked: list[bool] = []

    def stop() -> bool:
        asked.append(True)
        with engine.connect() as connection:
            return bool(connection.execute(text("SELECT 1 FROM finding")).first())

    rules = [rule(NOBODYS, "one"), rule(NOBODYS, "two")]
    look(engine, world, rules=rules, stop=stop)
    assert (stands(engine, "one"), stands(engine, "two")) == ({"m": "open"}, {})
    look(engine, world, rules=rules)
    assert (stands(engine, "one"), stands(engine, "two")) == ({"m": "open"}, {"m": "open"})


def test_more_than_is_held_at_once_is_judged_once_each(
    engine: Engine, world: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stocktake.store.findings._AT_ONCE", 3)
    monkeypatch.setattr(pipeline_judging, "_BATCH", 2)
    world.registered |= {f"m{number}": {"name": "x", "aliases": {}} for number in range(9)}
    patient = rule(NOBODYS, opens_after=2, resolves_after=2)
    states = []
    for owner in (None, None, "ada", "ada"):
        for one in world.registered.values():
            one["owner"] = owner
        look(engine, world, rules=[patient])
        states.append(set(stands(engine, "own-rule").values()))
    assert states == [{"pending"}, {"open"}, {"open"}, {"resolved"}]


def test_what_another_pass_judged_meanwhile_is_newer(engine: Engine, world: Registry) -> None:
    """A hot pass that judges between a sweep's asking and its writing wins."""
    look(engine, world, rules=[rule(NOBODYS)])
    world.registered["k"] = {"name": "k", "aliases": {}}

    class Overtaken(pipeline_judging.Judging):
        def _stand(self, *given: Any) -> None:
            raise AssertionError("it was overtaken")

    real = findings.ask

    def asked(*given: Any) -> Any:
        yielded = list(real(*given))
        with engine.begin() as connection:
            connection.execute(text("UPDATE judging SET looked_at = clock_timestamp()"))
        return iter(yielded)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stocktake.pipeline.judging.findings.ask", asked)
        patch.setattr("stocktake.pipeline.story.Judging", Overtaken)
        look(engine, world, rules=[rule(NOBODYS)])
    assert stands(engine, "own-rule") == {"m": "open"}
    look(engine, world, rules=[rule(NOBODYS)])
    assert stands(engine, "own-rule") == {"m": "open", "k": "open"}


def test_the_database_leaves_out_what_is_quiet_and_nothing_else(engine: Engine, world: Registry) -> None:
    """Every state of a finding, with and without what people decided, against core/findings.quiet."""
    now = datetime.now(UTC)
    ways = [
        (state, taken, waived, clear, same)
        for state in State
        for taken in (None, now)
        for waived in (None, now - timedelta(hours=1), now + timedelta(hours=1))
        for clear in (0, 1)
        for same in (True, False)
    ]
    world.registered = {f"m{number}": {"name": "x", "aliases": {}} for number in range(len(ways))}
    look(engine, world, rules=[rule(NOBODYS)])
    expected = set()
    with engine.begin() as connection:
        for number, (state, taken, waived, clear, same) in enumerate(ways):
            evidence = "{}" if same else '{"n":1}'
            connection.execute(
                text(
                    "UPDATE finding SET state = :state, acknowledged_at = :taken, waived_until = :waived,"
                    " clear = :clear, evidence = :evidence, resolved_at = CASE WHEN :state = 'resolved' THEN"
                    " clock_timestamp() END WHERE key = :key"
                ),
                {"state": state, "taken": taken, "waived": waived, "clear": clear, "evidence": evidence,
                 "key": f"m{number}"},
            )  # fmt: skip
        for row in connection.execute(text("SELECT * FROM finding")):
            held = findings.one(row)
            if not machine.quiet(held.finding, {}, now):
                expected.add(held.subject.key)
    asked: set[str] = set()
    real = findings.ask

    def noted(*given: Any) -> Any:
        for one in real(*given):
            asked.add(one.subject.key)
            yield one

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stocktake.pipeline.judging.findings.ask", noted)
        # These were waived by no waiver: they would be opened again before anything is asked.
        patch.setattr("stocktake.pipeline.judging.Governing.begin", lambda *_: None)
        look(engine, world, Mode.HOT, rules=[rule(NOBODYS)])
    assert asked == expected
    assert 0 < len(expected) < len(ways)


def test_what_is_quoted_in_a_statement_is_left_alone() -> None:
    written = """SELECT ':now', "inventory.x", -- :now inventory.y
        a::text FROM Inventory . run WHERE t < :now AND 'inventory.z' <> ''; """
    assert asks_now(written)
    assert not asks_now("SELECT ':now' /* :now */, b::now")
    moved = in_schema(written, "other")
    assert "FROM other.run" in moved
    assert moved.count("inventory") == 3
    assert str(text(bindable(written))).count(":now") == 3
    assert list(text(bindable(written))._bindparams) == ["now"]
    assert bindable("SELECT 1 -- words").endswith("\n")


def test_a_rule_is_not_planned_anew_at_every_pass(engine: Engine, world: Registry) -> None:
    for _ in range(8):
        look(engine, world)
    kept = "SELECT coalesce(sum(generic_plans), 0) FROM pg_prepared_statements WHERE statement LIKE '%WITH said AS%'"
    with engine.connect() as one, engine.connect() as other:  # the scan's, and the one that asks
        assert sum(connection.execute(text(kept)).scalar_one() for connection in (one, other)) > 10


def test_every_rule_that_is_shipped_can_be_asked(engine: Engine, world: Registry) -> None:
    for _ in range(2):
        look(engine, world, rules=RULES)
    assert failures(engine) == {}
    with engine.connect() as connection:
        assert {row.rule for row in connection.execute(text("SELECT rule FROM judging"))} == {one.id for one in RULES}
