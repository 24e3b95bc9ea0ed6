"""What rules go by: parameters out of the configuration, written into their statements; and rules about single changes
on values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from stocktake.core.assets import ChangeType, Kind
from stocktake.core.rules import Asks, ChangeRule, Seen, StateRule, bound
from stocktake.rules import RULES, production_model_changed, run_edited_after_finish
from stocktake.settings import Settings
from stocktake.settings.hygiene import HygieneSettings, RequiredTags
from stocktake.settings.parameters import parameters

AT = datetime(2026, 5, 1, tzinfo=UTC)


def settings(**parts: Any) -> Settings:
    watched = [{"name": "w", "mlflow": {"uri": "http://127.0.0.1:5000"}}]
    return Settings.model_validate({"workspaces": watched, **parts})


def seen(kind: Kind, *fields: tuple[str, Any, Any], **more: Any) -> Seen:
    changed: Sequence[Mapping[str, Any]] = [{"path": path, "before": a, "after": b} for path, a, b in fields]
    known: dict[str, Any] = {"type": ChangeType.UPDATED, "state_before": None} | more
    return Seen(
        id=1, workspace="w", kind=kind, key="k", name=None, fields=changed, not_before=AT, not_after=AT, scan=1, **known
    )


# ---- parameters ------------------------------------------------------------------------------------------------------


def test_a_parameter_is_written_as_a_literal_that_nothing_can_leave() -> None:
    asks = Asks(
        template="SELECT :name, :names, :long, :on, :now, a::text, 'x:namely'",
        parameters={"name": "plain", "names": [], "long": timedelta(hours=1), "on": True},
    )
    assert asks.statement() == (
        "SELECT E'plain', CAST(ARRAY[] AS text[]), interval '3600.0 seconds', true, :now, a::text, 'x:namely'"
    )
    told = asks.statement({"name": "'; DROP TABLE x --", "names": ["a:b", "\\", "$$"], "on": False, "unknown": 1})
    assert "DROP TABLE x" in told
    assert told.count("'") == len("E'' E'' E'' E'' '' ''".replace("E", "").replace(" ", ""))
    assert "a\\x3ab" in told


def test_the_configuration_gives_every_parameter_that_a_rule_asks_for() -> None:
    given = parameters(settings(), settings().workspaces[0])
    for rule in RULES:
        wanted = rule.parameters if isinstance(rule, ChangeRule) else rule.asks.parameters if rule.asks else ()
        assert set(wanted) <= set(given), rule.id


def test_what_is_configured_by_default_is_what_rules_have_of_their_own() -> None:
    given = parameters(settings(), settings().workspaces[0])
    for rule in bound(RULES, given):
        if isinstance(rule, StateRule) and rule.asks is not None:
            assert rule.statement == rule.asks.statement(), rule.id


def test_a_workspace_with_a_schedule_of_its_own_is_judged_by_it() -> None:
    watched = {"name": "w", "mlflow": {"uri": "http://127.0.0.1:5000"}, "schedule": {"sweep": "7d", "splay": 0}}
    made = Settings.model_validate({"workspaces": [watched]})
    assert parameters(made, made.workspaces[0])["sweep_every"] == timedelta(days=7)


@pytest.mark.parametrize(
    ("glob", "pattern"), [("prod-*", r"^prod\-.*$"), ("a?.(x)", r"^a.\.\(x\)$"), ("größe 1", "^größe\\ 1$")]
)
def test_a_name_with_stars_is_a_pattern(glob: str, pattern: str) -> None:
    assert RequiredTags(experiments=glob, tags=("owner",)).pattern == pattern


def test_required_tags_without_tags_are_refused() -> None:
    with pytest.raises(ValidationError, match="names no tags"):
        HygieneSettings.model_validate({"required_tags": [{"experiments": "*"}]})


# ---- what is production ----------------------------------------------------------------------------------------------


def production(change: Seen, held: Mapping[str, Any] | None = None, **given: Any) -> bool | None:
    verdict = production_model_changed.check(change, held, **given)
    return None if verdict is None else verdict.holds


def test_traffic_that_moves_from_one_deployment_to_another_changes_production() -> None:
    moved = seen(Kind.ONLINE_ENDPOINT, ("properties.traffic.blue", 100, 0), ("properties.traffic.green", 0, 100))
    assert production(moved) is True
    assert production(moved, production_traffic=False) is None
    shifted = seen(Kind.ONLINE_ENDPOINT, ("properties.traffic.blue", 90, 80), ("properties.traffic.green", 10, 20))
    assert production(shifted) is None  # the same two serve: the rule about traffic says it


def test_the_default_deployment_of_a_batch_endpoint_is_production() -> None:
    moved = seen(Kind.BATCH_ENDPOINT, ("properties.defaults.deploymentName", "blue", "green"))
    assert production(moved) is True
    assert production(moved, production_batch_default=False) is None
    first = seen(Kind.BATCH_ENDPOINT, ("properties.defaults.deploymentName", None, "green"))
    assert production(first) is None


def test_an_endpoint_that_is_deleted_while_it_serves_is_production_lost() -> None:
    gone: dict[str, Any] = {"type": ChangeType.PURGED}
    serving = {"properties": {"traffic": {"blue": 100, "green": 0}}}
    assert production(seen(Kind.ONLINE_ENDPOINT, document=serving, **gone)) is True
    idle = {"properties": {"traffic": {"blue": 0}}}
    assert production(seen(Kind.ONLINE_ENDPOINT, document=idle, **gone)) is None


def test_a_tag_that_means_production() -> None:
    tagged = seen(Kind.MODEL_VERSION, ("tags.stage", "prod", "old"))
    assert production(tagged) is None
    assert production(tagged, production_tags=["stage=prod"]) is True
    azure = seen(Kind.MODEL_VERSION, ("properties.tags['a b']", None, "x"))
    assert production(azure, production_tags=["a b=x"]) is True
    assert production(azure, production_tags=["a b=y"]) is None


def test_an_alias_with_an_odd_name_that_means_production() -> None:
    moved = seen(Kind.REGISTERED_MODEL, ("aliases['the one']", "1", "2"))
    assert production(moved) is None
    assert production(moved, production_aliases=["the one"]) is True


def test_what_was_production_and_is_back_ends_the_finding_where_it_is_so_again() -> None:
    gone = seen(Kind.REGISTERED_MODEL, document={"aliases": {"champion": "3"}}, type=ChangeType.PURGED)
    lost = production_model_changed.check(gone, None)
    assert lost is not None
    assert lost.evidence["fields"] == [{"path": "aliases.champion", "before": "3", "after": None}]
    for aliases, fields in (
        ({"champion": "3", "other": "1"}, []),
        ({"champion": "1"}, [{"path": "aliases.champion", "before": "3", "after": "1"}]),
        ({}, [{"path": "aliases.champion", "before": "3", "after": None}]),
    ):
        back = seen(Kind.REGISTERED_MODEL, document={"aliases": aliases}, type=ChangeType.RESTORED)
        assert production_model_changed.check(back, None) is None
        verdict = production_model_changed.check(back, lost.evidence)
        assert verdict is not None
        assert (verdict.holds, verdict.evidence["fields"]) == (bool(fields), fields)


def test_what_moved_and_is_then_deleted_remembers_where_it_was_at_first() -> None:
    moved = production_model_changed.check(seen(Kind.REGISTERED_MODEL, ("aliases.champion", "1", "2")), None)
    assert moved is not None
    gone = seen(Kind.REGISTERED_MODEL, document={"aliases": {"champion": "2"}}, type=ChangeType.PURGED)
    verdict = production_model_changed.check(gone, moved.evidence)
    assert verdict is not None
    assert verdict.evidence["fields"] == [{"path": "aliases.champion", "before": "1", "after": None}]


def test_a_version_that_is_deleted_in_its_stage_is_production_lost() -> None:
    gone = seen(Kind.MODEL_VERSION, document={"stage": "Production", "aliases": ["champion"]}, type=ChangeType.DELETED)
    verdict = production_model_changed.check(gone, None)
    assert verdict is not None
    assert verdict.evidence["fields"] == [{"path": "stage", "before": "Production", "after": None}]


# ---- a finished run that is edited -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "counts"),
    [
        ("tags.review", True),
        ("tags['azureml.git.commit']", True),
        ("params.lr", True),
        ("tags._aml_system_ComputeTargetStatus", False),
        ("tags['_azureml.ComputeTargetType']", False),
        ("tags['azureml.runsource']", False),
        ("tags['mlflow.runName']", False),
        ("tags.azureml_owner", True),
    ],
)
def test_what_azure_notes_for_itself_is_no_edit(path: str, counts: bool) -> None:
    change = seen(Kind.RUN, (path, "a", "b"), state_before="FINISHED")
    assert (run_edited_after_finish.check(change, None) is not None) == counts
