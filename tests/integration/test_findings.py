"""Rules over a real Postgres: each fires on its fault and not on a near miss; nothing is claimed that was not seen."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from stocktake.core.assets import Mode
from stocktake.core.errors import Trouble
from stocktake.core.redact import Redactor
from stocktake.core.rules import Rule, Severity, StateRule
from stocktake.pipeline import judging
from stocktake.rules import missing_owner as missing_owner_rule
from stocktake.store import finding_list, retention
from tests.integration.registry import JUDGED, Registry, found, history, look, stands
from tests.integration.scripted import KEY, twelve_runs


@pytest.fixture
def world() -> Registry:
    made = Registry()
    for number in range(4):
        made.add_run(f"run{number}")
    made.experiments["1"]["owner"] = "ada"
    made.registered["m"] = {"name": "m", "owner": "ada", "aliases": {"champion": "1"}}
    made.versions["m/1"] = {"run_id": "run0", "aliases": ["champion"]}
    made.versions["m/2"] = {"run_id": "", "aliases": []}
    return made


# ---- each rule on its fault, and not on a near miss ------------------------------------------------------------------


def test_a_finished_run_that_is_edited(engine: Engine, world: Registry) -> None:
    world.add_run("moving", status="RUNNING")
    look(engine, world)
    world.runs["run0"]["params"]["lr"] = "0.1"
    world.runs["run1"]["tags"]["mlflow.note.content"] = "words"  # a description
    world.runs["run2"]["info"]["run_name"] = "another name"
    world.runs["moving"]["metrics"]["loss"] = 1  # it has not ended
    world.runs["moving"]["info"]["status"] = "FINISHED"
    look(engine, world)
    (one,) = found(engine, "run-edited-after-finish")
    assert (one.key, one.state, one.inherited) == ("run0", "open", False)
    assert one.evidence["fields"] == [{"path": "params.lr", "before": None, "after": "0.1"}]
    assert one.evidence["not_before"] is not None
    assert (one.actor, one.actor_source) == ("unknown", None)
    with engine.begin() as connection:  # the activity log tells late
        connection.execute(
            text("UPDATE change SET actor = 'ada', actor_source = 'a log' WHERE change_id = :id"), {"id": one.change}
        )
    (one,) = found(engine, "run-edited-after-finish")
    assert (one.actor, one.actor_source) == ("ada", "a log")


def test_an_edit_that_is_taken_back_resolves_and_another_opens_it_again(engine: Engine, world: Registry) -> None:
    world.runs["run0"]["tags"]["review"] = "pending"
    look(engine, world)
    for value in ("approved", "denied", "pending", "approved"):
        world.runs["run0"]["tags"]["review"] = value
        look(engine, world)
    (one,) = found(engine, "run-edited-after-finish")
    assert history(engine, one) == [(None, "open"), ("open", "open"), ("open", "resolved"), ("resolved", "open")]
    assert one.evidence["fields"] == [{"path": "tags.review", "before": "pending", "after": "approved"}]


def test_a_finding_that_is_over_still_says_what_it_was(engine: Engine, world: Registry) -> None:
    for value in ("pending", "approved", "pending"):
        world.runs["run0"]["tags"]["review"] = value
        look(engine, world)
    (one,) = found(engine, "run-edited-after-finish", states=["resolved"])
    assert one.evidence["fields"] == [{"path": "tags.review", "before": "pending", "after": "approved"}]


def test_a_deleted_run_and_its_restoring(engine: Engine, world: Registry) -> None:
    look(engine, world)
    world.runs["run1"]["info"]["lifecycle_stage"] = "deleted"
    del world.runs["run2"]
    look(engine, world)
    assert stands(engine, "run-deleted") == {"run1": "open", "run2": "open"}
    assert {one.key: one.evidence["what"] for one in found(engine, "run-deleted")} == {
        "run1": "deleted",
        "run2": "purged",
    }
    world.runs["run1"]["info"]["lifecycle_stage"] = "active"
    look(engine, world)
    assert stands(engine, "run-deleted") == {"run1": "resolved", "run2": "open"}


def test_a_deleted_experiment_is_one_finding_and_not_one_for_each_run(engine: Engine, world: Registry) -> None:
    look(engine, world)
    world.experiments["1"]["lifecycle_stage"] = "deleted"
    for run in world.runs.values():
        run["info"]["lifecycle_stage"] = "deleted"
    look(engine, world)
    (one,) = found(engine, "experiment-deleted", "run-deleted")
    assert (one.rule, one.key, one.owner, one.evidence["with_it"]) == ("experiment-deleted", "1", "ada", 4)


def test_an_alias_that_moves_or_is_taken_away_and_not_one_that_is_new(engine: Engine, world: Registry) -> None:
    world.registered["other"] = {"name": "other", "owner": "ada", "aliases": {}}
    look(engine, world)
    world.registered["m"]["aliases"] = {"champion": "2"}
    world.registered["other"]["aliases"] = {"champion": "1"}
    look(engine, world, Mode.HOT)
    (one,) = found(engine, "model-alias-moved")
    assert one.key == "m"
    assert one.evidence["fields"] == [{"path": "aliases.champion", "before": "1", "after": "2"}]
    world.registered["m"]["aliases"] = {"champion": "1"}
    look(engine, world, Mode.HOT)
    assert stands(engine, "model-alias-moved") == {"m": "resolved"}


def test_a_model_version_that_lost_its_run(engine: Engine, world: Registry) -> None:
    world.versions["m/3"] = {"run_id": "run3", "aliases": []}
    look(engine, world)
    assert found(engine, "model-version-lost-its-run") == []
    world.runs["run0"]["info"]["lifecycle_stage"] = "deleted"
    del world.runs["run3"]
    look(engine, world)
    assert {one.key: one.evidence["run_is"] for one in found(engine, "model-version-lost-its-run")} == {
        "m/1": "deleted",
        "m/3": "gone",
    }
    world.versions["m/3"]["aliases"] = ["champion"]  # touched after the runs were listed
    look(engine, world)
    assert stands(engine, "model-version-lost-its-run") == {"m/1": "open", "m/3": "open"}
    world.runs["run0"]["info"]["lifecycle_stage"] = "active"
    del world.versions["m/3"]
    look(engine, world)
    assert stands(engine, "model-version-lost-its-run") == {"m/1": "resolved", "m/3": "resolved"}


def test_what_has_no_owner(engine: Engine, world: Registry) -> None:
    world.experiments["0"] = {"name": "Default", "lifecycle_stage": "active"}
    world.experiments["2"] = {"name": "nobody's, deleted", "lifecycle_stage": "deleted"}
    look(engine, world)
    assert stands(engine, "missing-owner") == {}
    world.experiments["3"] = {"name": "nobody's", "lifecycle_stage": "active"}
    del world.registered["m"]["owner"]
    look(engine, world)
    assert stands(engine, "missing-owner") == {"3": "open", "m": "open"}
    world.registered["m"]["owner"] = "ada"
    look(engine, world, Mode.HOT)
    assert stands(engine, "missing-owner") == {"3": "open", "m": "resolved"}


def test_a_run_that_seems_to_run_for_ever(engine: Engine, world: Registry) -> None:
    world.add_run("dead", status="RUNNING")
    world.add_run("alive", status="RUNNING")
    look(engine, world)
    assert stands(engine, "stale-running") == {}
    with engine.begin() as connection:  # a day and an hour go by
        for table, column in (("version", "valid_from"), ("asset", "observed_at")):
            connection.execute(text(f"UPDATE {table} SET {column} = {column} - interval '25 hours'"))
    world.runs["alive"]["metrics"]["loss"] = 1
    look(engine, world)
    assert stands(engine, "stale-running") == {"dead": "open"}
    world.runs["dead"]["info"]["status"] = "KILLED"
    look(engine, world)
    assert stands(engine, "stale-running") == {"dead": "resolved"}


def test_access_that_is_lost_opens_after_two_looks_and_resolves_with_the_next(engine: Engine, world: Registry) -> None:
    look(engine, world)
    world.fail_identify = Trouble.PERMISSION
    look(engine, world)
    assert stands(engine, "access-lost") == {"w": "pending"}
    look(engine, world)
    (one,) = found(engine, "access-lost")
    assert (one.state, one.evidence["trouble"]) == ("open", "permission")
    world.fail_identify = None
    look(engine, world)
    assert stands(engine, "access-lost") == {"w": "resolved"}


def test_a_server_that_fails_once_lost_nobody_access(engine: Engine, world: Registry) -> None:
    look(engine, world)
    world.fail_identify = Trouble.UNREACHABLE
    look(engine, world)
    world.fail_identify = None
    look(engine, world)
    assert stands(engine, "access-lost") == {}


def test_removals_that_are_withheld(engine: Engine) -> None:
    world = twelve_runs()
    look(engine, world)
    world.runs.clear()
    look(engine, world)
    (one,) = found(engine, "mass-removal-withheld")
    assert (one.key, one.severity) == ("w", "critical")
    assert [(scope["kind"], scope["assets"]) for scope in one.evidence["scopes"]] == [("run", 12)]
    assert found(engine, "run-deleted") == []
    look(engine, world)  # confirmed by a second sweep
    assert stands(engine, "mass-removal-withheld") == {"w": "resolved"}
    assert len(found(engine, "run-deleted")) == 12


# ---- what may be claimed -------------------------------------------------------------------------------------------


def test_a_partial_scan_opens_and_resolves_nothing_of_what_needed_the_part(engine: Engine, world: Registry) -> None:
    for number in range(10):
        world.add_run(f"more{number}")
    world.runs["run0"]["info"]["lifecycle_stage"] = "deleted"
    look(engine, world)
    assert stands(engine, "model-version-lost-its-run") == {"m/1": "open"}
    world.runs["run0"]["info"]["lifecycle_stage"] = "active"  # it is on the first page, and is seen
    world.versions["m/9"] = {"run_id": "nowhere", "aliases": []}
    world.cut.add("1")
    look(engine, world)
    assert stands(engine, "model-version-lost-its-run") == {"m/1": "open"}
    world.cut.clear()
    look(engine, world)
    assert stands(engine, "model-version-lost-its-run") == {"m/1": "resolved", "m/9": "open"}


def test_through_a_permission_filter_no_rule_claims_an_absence(engine: Engine, world: Registry) -> None:
    world.filtered = True
    world.versions["m/9"] = {"run_id": "nowhere", "aliases": []}
    look(engine, world)
    look(engine, world)
    assert stands(engine, "model-version-lost-its-run") == {}
    with engine.connect() as connection:
        unasked = {(one.rule, one.kind) for one in finding_list.not_judged(connection)}
    assert ("model-version-lost-its-run", "model_version") in unasked


def test_a_hot_pass_that_lists_no_runs_judges_nothing_that_needs_them(engine: Engine, world: Registry) -> None:
    look(engine, world)
    world.versions["m/9"] = {"run_id": "nowhere", "aliases": []}
    look(engine, world, Mode.HOT)
    assert stands(engine, "model-version-lost-its-run") == {}
    look(engine, world)
    assert stands(engine, "model-version-lost-its-run") == {"m/9": "open"}


def test_a_version_registered_while_a_sweep_goes_on_has_not_lost_its_run(engine: Engine, world: Registry) -> None:
    def registered(page: int) -> None:
        if page == 0:  # the runs are being listed; the registry comes after
            world.versions["m/9"] = {"run_id": "young", "aliases": []}

    look(engine, world)
    world.during = registered
    look(engine, world)
    assert stands(engine, "model-version-lost-its-run") == {}
    world.during = None
    world.add_run("young")
    look(engine, world)
    assert stands(engine, "model-version-lost-its-run") == {}


def test_no_data_makes_a_finding_stale_and_never_resolves_it(engine: Engine, world: Registry) -> None:
    del world.registered["m"]["owner"]
    look(engine, world)
    world.fail_identify = Trouble.AUTHENTICATION
    del world.registered["m"]
    look(engine, world)
    assert stands(engine, "missing-owner") == {"m": "open"}
    with engine.begin() as connection:
        connection.execute(text("UPDATE judging SET looked_at = looked_at - interval '3 days'"))
        connection.execute(text("UPDATE scope SET last_complete_at = last_complete_at - interval '3 days'"))
        connection.execute(
            text(
                "UPDATE finding SET first_seen = first_seen - interval '3 days',"
                " last_seen = last_seen - interval '3 days'"
            )
        )
    look(engine, world)
    assert stands(engine, "missing-owner") == {"m": "stale"}
    world.fail_identify = None
    look(engine, world)
    assert stands(engine, "missing-owner") == {"m": "resolved"}


def test_what_the_first_complete_scan_finds_is_inherited_and_what_comes_later_is_not(
    engine: Engine, world: Registry
) -> None:
    del world.registered["m"]["owner"]
    look(engine, world)
    world.registered["n"] = {"name": "n", "aliases": {}}
    look(engine, world)
    assert {one.key: one.inherited for one in found(engine, "missing-owner")} == {"m": True, "n": False}


def test_what_another_normalisation_shows_first_is_inherited(engine: Engine, world: Registry) -> None:
    look(engine, world)
    del world.registered["m"]["owner"]
    another = Redactor(KEY, keys=["pet_name"])
    look(engine, world, redactor=another)
    world.registered["n"] = {"name": "n", "aliases": {}}
    look(engine, world, redactor=another)
    assert {one.key: one.inherited for one in found(engine, "missing-owner")} == {"m": True, "n": False}


def test_a_rule_that_is_added_inherits_what_stands_and_judges_no_past(engine: Engine, world: Registry) -> None:
    del world.registered["m"]["owner"]
    look(engine, world, rules=())
    world.runs["run0"]["params"]["lr"] = "1"
    look(engine, world, rules=())
    assert found(engine) == []
    world.runs["run1"]["params"]["lr"] = "1"
    look(engine, world)
    assert {(one.rule, one.key, one.inherited) for one in found(engine)} == {
        ("missing-owner", "m", True),
        ("run-edited-after-finish", "run1", False),
    }


def test_a_renamed_asset_keeps_its_finding(engine: Engine, world: Registry) -> None:
    world.experiments["3"] = {"name": "one", "lifecycle_stage": "active"}
    look(engine, world)
    (before,) = found(engine, "missing-owner")
    world.experiments["3"]["name"] = "two"
    look(engine, world)
    (after,) = found(engine, "missing-owner")
    assert (before.id, before.fingerprint) == (after.id, after.fingerprint)


# ---- transactions --------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The worker is gone."""


def _rows(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        tables = ("finding", "finding_event", "judging")
        return [
            row for name in tables for row in connection.execute(text(f"SELECT {name}::text FROM {name}")).scalars()
        ]


def test_killed_between_publishing_and_judging_nothing_is_lost_and_nothing_said_twice(
    engine: Engine, world: Registry
) -> None:
    look(engine, world)
    world.runs["run0"]["params"]["lr"] = "1"
    del world.registered["m"]["owner"]
    before = _rows(engine)

    def killed(*_: object) -> None:
        raise Killed

    edits, *others = JUDGED  # changes come first: where the first of them kills it, nothing was judged yet
    with pytest.raises(Killed):
        look(engine, world, rules=[_with(edits, check=killed), *others])
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM change WHERE kind = 'run'")).scalar() == 1
    assert _rows(engine) == before
    look(engine, world)
    assert {(one.rule, one.key) for one in found(engine)} == {
        ("run-edited-after-finish", "run0"),
        ("missing-owner", "m"),
    }
    assert all(history(engine, one) == [(None, "open")] for one in found(engine))


def test_killed_while_judging_leaves_findings_and_cursor_as_they_were(engine: Engine, world: Registry) -> None:
    look(engine, world)
    world.runs["run0"]["params"]["lr"] = "1"
    world.runs["run1"]["params"]["lr"] = "1"
    before = _rows(engine)
    checked: list[str] = []
    edits = next(rule for rule in JUDGED if rule.id == "run-edited-after-finish")
    assert not isinstance(edits, StateRule)

    def dies_at_the_second(change: Any, held: Any) -> Any:
        checked.append(change.key)
        if len(checked) == 2:
            raise Killed
        return edits.check(change, held)

    dying = _with(edits, check=dies_at_the_second)
    with pytest.raises(Killed):
        look(engine, world, rules=[dying if rule is edits else rule for rule in JUDGED])
    assert _rows(engine) == before
    look(engine, world)
    assert stands(engine, "run-edited-after-finish") == {"run0": "open", "run1": "open"}


def _with(rule: Rule, **changes: Any) -> Rule:
    values = {name: getattr(rule, name) for name in type(rule).__slots__}
    return type(rule)(**(values | changes))


def test_an_unchanged_workspace_writes_no_finding(engine: Engine, world: Registry) -> None:
    del world.registered["m"]["owner"]
    world.runs["run0"]["info"]["lifecycle_stage"] = "deleted"
    look(engine, world)

    def findings() -> list[tuple[Any, ...]]:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text("SELECT xmin::text, finding_id FROM finding"))]

    before = findings()
    assert before
    look(engine, world)
    assert findings() == before


def test_changes_are_judged_in_batches_without_losing_one(
    engine: Engine, world: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(10):
        world.add_run(f"more{number}")
    look(engine, world)
    for run in world.runs.values():
        run["params"]["lr"] = "1"
    monkeypatch.setattr(judging, "_BATCH", 3)
    look(engine, world)
    assert len(found(engine, "run-edited-after-finish")) == len(world.runs)


def test_a_statement_is_asked_of_one_workspace_alone(engine: Engine, world: Registry) -> None:
    del world.registered["m"]["owner"]
    look(engine, world)
    look(engine, world, workspace="another")
    assert sorted(one.workspace for one in found(engine, "missing-owner")) == ["another", "w"]


# ---- what people do, and what is kept ------------------------------------------------------------------------------


def test_an_acknowledged_finding_says_who_and_why_and_opens_again_when_it_happens_anew(
    engine: Engine, world: Registry
) -> None:
    look(engine, world)
    world.runs["run0"]["params"]["lr"] = "1"
    look(engine, world)
    (one,) = found(engine)
    taken = finding_list.acknowledged(engine, one.id, actor="me@here", reason="T-1")
    assert taken is not None
    assert (taken.state, taken.history[-1].actor, taken.history[-1].reason) == ("acknowledged", "me@here", "T-1")
    look(engine, world)
    assert stands(engine, "run-edited-after-finish") == {"run0": "acknowledged"}
    world.runs["run0"]["params"]["lr"] = "2"
    look(engine, world)
    assert stands(engine, "run-edited-after-finish") == {"run0": "open"}


def test_there_is_nothing_to_take_on_of_a_resolved_one(engine: Engine, world: Registry) -> None:
    del world.registered["m"]["owner"]
    look(engine, world)
    world.registered["m"]["owner"] = "ada"
    look(engine, world)
    (one,) = found(engine, "missing-owner", states=["resolved"])
    after = finding_list.acknowledged(engine, one.id, actor="me", reason="why")
    assert after is not None
    assert after.state == "resolved"
    assert len(after.history) == 2
    assert finding_list.acknowledged(engine, one.id + 1, actor="me", reason="why") is None


def test_retention_drops_what_is_resolved_and_keeps_what_is_open(engine: Engine, world: Registry) -> None:
    del world.registered["m"]["owner"]
    world.experiments["3"] = {"name": "nobody's", "lifecycle_stage": "active"}
    look(engine, world)
    world.registered["m"]["owner"] = "ada"
    look(engine, world)
    assert retention.prune(engine, keep=timedelta(days=1))["finding"] == 0
    assert retention.prune(engine, keep=timedelta(0))["finding"] == 1
    assert stands(engine, "missing-owner") == {"3": "open"}


def test_rules_of_an_operator_may_wait_for_several_looks(engine: Engine, world: Registry) -> None:
    patient = _with(missing_owner_rule.RULE, id="patient", opens_after=3, resolves_after=2, severity=Severity.WARNING)
    del world.registered["m"]["owner"]
    states = []
    for owner in (None, None, None, "ada", "ada"):
        if owner is not None:
            world.registered["m"]["owner"] = owner
        look(engine, world, rules=[patient])
        states.append(stands(engine, "patient")["m"])
    assert states == ["pending", "pending", "open", "open", "resolved"]
