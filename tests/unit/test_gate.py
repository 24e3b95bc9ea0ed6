"""The gate before a release, over values: a check passes on what was seen, and on nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stocktake.core.assets import Kind
from stocktake.core.covering import Covering
from stocktake.core.gate import (
    CHECKS,
    Check,
    Compared,
    Edits,
    End,
    Facts,
    Files,
    Look,
    Presence,
    Result,
    Thing,
    Told,
    gate,
    verdict,
)
from stocktake.core.waivers import Waiver

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
RUN = Thing(
    kind=Kind.RUN, key="r1", state="FINISHED", artifact_uri="s3://b/r1", ended_at=NOW - 48 * HOUR, tags={"team": "risk"}
)
VERSION = Thing(kind=Kind.MODEL_VERSION, key="m/1", artifact_uri="runs:/r1/model", document={"status": "READY"})
MODEL = Thing(kind=Kind.REGISTERED_MODEL, key="m", owner="ada")
FILES = Files(blobs=2, bytes=10, newest=NOW - 48 * HOUR, place="https://a/c/")
GOOD = Facts(
    workspace="w",
    subject=VERSION,
    registered=MODEL,
    run_key="r1",
    run=RUN,
    made_from={"code": "c0ffee", "data": "d@1", "environment": "e/1", "parameters": "3 of them"},
    looks=[Look(kind=Kind.RUN, state="complete", at=NOW - HOUR)],
    required={"team": "*"},
    compared=Compared(name="q4", parameters=["seed"], own={"seed": "1"}, others={"r2": {"seed": "1"}}),
    files=FILES,
)


def results(facts: Facts, *waivers: Waiver) -> dict[str, Result]:
    return {one.id: one.result for one in gate(facts, waivers, NOW)}


def the(facts: Facts, check: str, *waivers: Waiver) -> Check:
    return next(one for one in gate(facts, waivers, NOW) if one.id == check)


def test_what_is_as_it_should_be_passes_every_check() -> None:
    assert results(GOOD) == dict.fromkeys(CHECKS, Result.PASS)


NOT_RUN = replace(RUN, presence=Presence.DELETED)


@pytest.mark.parametrize(
    ("check", "changes", "result"),
    [
        ("subject", {"subject": replace(VERSION, presence=Presence.GONE)}, Result.FAIL),
        ("subject", {"subject": replace(VERSION, document={"status": "FAILED_REGISTRATION"})}, Result.FAIL),
        ("seen", {"looks": [Look(kind=Kind.RUN, state="partial", at=NOW)]}, Result.UNKNOWN),
        ("seen", {"looks": [Look(kind=Kind.RUN, state="permission-filtered", at=None)]}, Result.UNKNOWN),
        ("seen", {"looks": [Look(kind=Kind.RUN, state="complete", at=NOW - 25 * HOUR)]}, Result.UNKNOWN),
        ("seen", {"looks": [Look(kind=Kind.RUN, state="never listed", at=None)]}, Result.UNKNOWN),
        ("lineage", {"run_key": None, "run": None}, Result.FAIL),
        ("lineage", {"ends": [End(kind=Kind.RUN, key="r0", standing="purged", gone=True)]}, Result.FAIL),
        ("lineage", {"ends": [End(kind=Kind.RUN, key="r0", standing="never observed", gone=False)]}, Result.UNKNOWN),
        ("lineage", {"cut": True}, Result.UNKNOWN),
        ("run-finished", {"run": replace(RUN, state="RUNNING")}, Result.FAIL),
        ("run-finished", {"run": replace(RUN, state="FAILED")}, Result.FAIL),
        ("run-finished", {"run": replace(RUN, state=None)}, Result.UNKNOWN),
        ("run-finished", {"run": None}, Result.UNKNOWN),
        ("run-finished", {"run": None, "run_key": None}, Result.FAIL),
        ("run-unedited", {"edits": Edits(fields=[{"path": "params.lr"}])}, Result.FAIL),
        ("run-unedited", {"edits": Edits(observed=False, since=NOW)}, Result.UNKNOWN),
        ("run-unedited", {"edits": Edits(fields=[{"path": "tags.x"}], observed=False)}, Result.FAIL),
        ("run-unedited", {"run": None}, Result.UNKNOWN),
        ("reproducible", {"made_from": {"code": "c", "data": None}}, Result.FAIL),
        ("reproducible", {"run": None}, Result.UNKNOWN),
        ("tags", {"required": {"team": "credit"}}, Result.FAIL),
        ("tags", {"required": {"team": "risk"}}, Result.PASS),
        ("tags", {"required": {"reviewed": "*"}}, Result.FAIL),
        ("tags", {"required": {"reviewed": "*"}, "run": None}, Result.UNKNOWN),
        ("owner", {"registered": None}, Result.FAIL),
        ("owner", {"registered": None, "run": replace(RUN, owner="bo")}, Result.PASS),
        ("artifacts", {"files": None}, Result.UNKNOWN),
        ("artifacts", {"files": replace(FILES, error="refused")}, Result.UNKNOWN),
        ("artifacts", {"files": replace(FILES, blobs=0)}, Result.FAIL),
        ("artifacts", {"files": replace(FILES, newest=NOW - HOUR)}, Result.FAIL),
        ("artifacts", {"run": NOT_RUN}, Result.FAIL),
        ("artifacts", {"moved": [{"path": "source", "before": "a", "after": "b"}]}, Result.FAIL),
        ("artifacts", {"run": replace(RUN, ended_at=None)}, Result.UNKNOWN),
        ("comparison", {"compared": None}, Result.PASS),
        ("comparison", {"compared": replace(GOOD.compared, others={"r2": {"seed": "2"}})}, Result.FAIL),  # type: ignore[type-var]
        ("comparison", {"compared": replace(GOOD.compared, others={"r2": {}})}, Result.FAIL),  # type: ignore[type-var]
        ("comparison", {"compared": replace(GOOD.compared, parameters=[])}, Result.UNKNOWN),  # type: ignore[type-var]
        ("comparison", {"compared": replace(GOOD.compared, whole=False)}, Result.UNKNOWN),  # type: ignore[type-var]
    ],
)
def test_what_is_wrong_fails_and_what_is_not_known_is_unknown(
    check: str, changes: dict[str, Any], result: Result
) -> None:
    assert the(replace(GOOD, **changes), check).result == result


def finding(**more: Any) -> Told:
    given: dict[str, Any] = {
        "id": 1, "rule": "some-rule", "severity": "warning", "state": "open", "kind": Kind.RUN, "key": "r1"
    }  # fmt: skip
    return Told(**(given | more))


@pytest.mark.parametrize(
    ("found", "result"),
    [
        ([finding()], Result.FAIL),
        ([finding(severity="info")], Result.PASS),
        ([finding(state="acknowledged")], Result.FAIL),
        ([finding(settled=True)], Result.PASS),  # of a change that was meant
        ([finding(state="waived")], Result.WAIVED),
        ([finding(state="stale")], Result.UNKNOWN),
        ([finding(workspace_wide=True, kind=Kind.WORKSPACE, key="w")], Result.UNKNOWN),
        ([finding(), finding(state="stale")], Result.FAIL),
    ],
)
def test_findings_block_by_their_weight_and_their_state(found: list[Told], result: Result) -> None:
    assert the(replace(GOOD, findings=found), "findings").result == result


def waiver(rule: str, asset: str = "*") -> Waiver:
    return Waiver(
        covering=Covering(rules=(rule,), assets=(asset,)),
        owner="ada",
        reason="CHG-1",
        until=NOW + HOUR,
        source="waiver 1",
    )


def test_what_is_excepted_says_so_and_by_whom() -> None:
    facts = replace(GOOD, files=None, edits=Edits(fields=[{"path": "params.lr", "before": "1", "after": "2"}]))
    assert the(facts, "artifacts", waiver("check-artifacts", "m/1")).result == Result.WAIVED
    edited = the(facts, "run-unedited", waiver("run-edited-after-finish", "r1"))
    assert edited.result == Result.WAIVED
    assert "CHG-1" in edited.details[-1]
    assert the(facts, "run-unedited", waiver("run-edited-after-finish", "r2")).result == Result.FAIL


def test_an_edit_is_told_to_people_and_one_finding_is_one() -> None:
    metric = {"path": "metrics.f1", "before": None, "after": {"step": 0, "timestamp": 1, "value": 0.87}}
    assert the(replace(GOOD, edits=Edits(fields=[metric])), "run-unedited").details == ["metrics.f1: nothing -> 0.87"]
    assert the(replace(GOOD, findings=[finding()]), "findings").words == "1 finding is open"


def test_a_waiver_of_a_rule_excepts_no_ignorance() -> None:
    facts = replace(GOOD, edits=Edits(observed=False))
    assert the(facts, "run-unedited", waiver("run-edited-after-finish")).result == Result.UNKNOWN
    assert the(facts, "run-unedited", waiver("check-run-unedited")).result == Result.WAIVED


def test_all_that_fails_must_be_excepted() -> None:
    found = [finding(), finding(id=2, key="r2")]
    facts = replace(GOOD, findings=found)
    assert the(facts, "findings", waiver("check-findings", "r1")).result == Result.FAIL
    assert the(facts, "findings", waiver("check-findings")).result == Result.WAIVED


def test_a_verdict_is_the_worst_of_its_checks() -> None:
    def made(*those: Result) -> Result:
        return verdict(Check(id="x", result=one, words="") for one in those)

    assert made(Result.PASS, Result.WAIVED) == Result.WAIVED
    assert made(Result.PASS, Result.UNKNOWN, Result.WAIVED) == Result.UNKNOWN
    assert made(Result.UNKNOWN, Result.FAIL) == Result.FAIL
    assert made() == Result.UNKNOWN


def test_where_nothing_is_known_nothing_of_it_passes() -> None:
    """But for what is not asked for, and what nobody found."""
    nothing = Facts(workspace="w", subject=Thing(kind=Kind.RUN, key="r1"), run_key="r1", required={"team": "*"})
    passing = {check for check, result in results(nothing).items() if result == Result.PASS}
    assert passing == {"subject", "comparison", "findings"}
