"""What is production has changed or is lost: an alias, a stage, a tag or traffic that means production moved."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from stocktake.core.assets import ChangeType, Kind
from stocktake.core.diff import step
from stocktake.core.production import Meaning, shares
from stocktake.core.rules import ChangeRule, Seen, Severity, Verdict, Words, edited, facts

_DEFAULT = Meaning()
_ENDPOINTS = (Kind.ONLINE_ENDPOINT, Kind.BATCH_ENDPOINT)


def check(
    change: Seen,
    held: Mapping[str, Any] | None,
    *,
    production_aliases: Collection[str] = _DEFAULT.aliases,
    production_stages: Collection[str] = _DEFAULT.stages,
    production_tags: Collection[str] = (),
    production_traffic: bool = True,
    production_batch_default: bool = True,
) -> Verdict | None:
    """From, to, between which two looks. What means production stands in the configuration."""
    meaning = Meaning(
        aliases=production_aliases,
        stages=production_stages,
        tags=[(name, value) for name, _, value in (one.partition("=") for one in production_tags)],
        traffic=production_traffic,
        batch_default=production_batch_default,
    )
    if change.type == ChangeType.UPDATED:
        return edited(change, held, partial(_matters, change.kind, meaning))
    known = {one["path"]: one["before"] for one in (held or {}).get("fields", ())}
    says = dict(_says(change.kind, change.document or {}, meaning))
    if change.type == ChangeType.RESTORED:  # what is back may say something else than what was lost
        left = [(path, before, says.get(path)) for path, before in known.items() if says.get(path) != before]
        return _verdict(change, left) if held is not None else None
    lost = [(path, before, None) for path, before in {**says, **known}.items() if before is not None]
    return _verdict(change, lost) if says or held is not None else None


def _verdict(change: Seen, differs: Collection[tuple[str, Any, Any]]) -> Verdict:
    fields = [{"path": path, "before": before, "after": after} for path, before, after in differs]
    return Verdict(holds=bool(fields), evidence=facts(change) | {"fields": fields})


def _says(kind: Kind, document: Mapping[str, Any], meaning: Meaning) -> Iterator[tuple[str, Any]]:
    """What of a document makes something production, by the paths under which it would change."""
    properties = document.get("properties")
    layers = [("", document), *([("properties", properties)] if isinstance(properties, Mapping) else [])]
    if kind == Kind.REGISTERED_MODEL:
        aliases = document.get("aliases")
        yield from (
            (step("aliases", alias), aliases[alias])
            for alias in meaning.aliases
            if isinstance(aliases, Mapping) and alias in aliases
        )
    elif kind == Kind.MODEL_VERSION:  # of its aliases the registered model tells
        for path, layer in layers:
            if layer.get("stage") in meaning.stages:
                yield step(path, "stage"), layer["stage"]
            tags = layer.get("tags")
            for name, value in _pairs(meaning):
                if isinstance(tags, Mapping) and tags.get(name) == value:
                    yield step(step(path, "tags"), name), value
    elif kind == Kind.ONLINE_ENDPOINT and isinstance(properties, Mapping) and meaning.traffic:
        yield from ((step("properties.traffic", name), share) for name, share in shares(properties))
    else:
        yield from (("properties.defaults.deploymentName", name) for name in meaning.of_endpoint(kind, document))


def _pairs(meaning: Meaning) -> Iterable[tuple[str, str]]:
    return meaning.tags.items() if isinstance(meaning.tags, Mapping) else meaning.tags


def _matters(kind: Kind, meaning: Meaning, field: Mapping[str, Any]) -> bool:
    path, before, after = field["path"], field.get("before"), field.get("after")
    if kind == Kind.REGISTERED_MODEL:  # one that is new was nobody's to load by
        return before is not None and path in {step("aliases", alias) for alias in meaning.aliases}
    if kind == Kind.MODEL_VERSION:
        layers = ("", "properties")
        if path in {step(layer, "stage") for layer in layers}:
            return before in meaning.stages or after in meaning.stages
        return any(
            path in {step(step(layer, "tags"), name) for layer in layers} and value in (before, after)
            for name, value in _pairs(meaning)
        )
    if kind == Kind.ONLINE_ENDPOINT:
        return meaning.traffic and path.startswith("properties.traffic") and _sent(before) != _sent(after)
    return meaning.batch_default and path == "properties.defaults.deploymentName" and before is not None


def _sent(share: Any) -> bool:
    """Whether a share of traffic, or any of several, is one."""
    if isinstance(share, Mapping):
        return any(_sent(one) for one in share.values())
    return isinstance(share, (int, float)) and share > 0


RULE = ChangeRule(
    id="production-model-changed",
    severity=Severity.CRITICAL,
    kinds=(Kind.REGISTERED_MODEL, Kind.MODEL_VERSION, *_ENDPOINTS),
    types=(ChangeType.UPDATED, ChangeType.DELETED, ChangeType.PURGED, ChangeType.RESTORED),
    check=check,
    parameters=(
        "production_aliases",
        "production_stages",
        "production_tags",
        "production_traffic",
        "production_batch_default",
    ),
    words=Words(
        title="What is production has changed",
        why="Whoever loads the model now, or calls the endpoint, gets another one, or none. What means production"
        " stands in the configuration (`production`): by default the aliases champion and production, the stage"
        " Production, traffic above 0, and the default deployment of a batch endpoint. An alias that is new was"
        " nobody's to load by and is no change; a version that enters a stage is one, for whoever loads by stage loads"
        " the newest in it.",
        cli="stocktake changes --key KEY; stocktake lineage KIND KEY; stocktake production",
        rest="GET /api/2.0/mlflow/registered-models/get?name=KEY (aliases, stages). Azure ML: GET"
        " .../onlineEndpoints/KEY (properties.traffic).",
        portal="MLflow: Models, the model's page. Azure ML studio: Endpoints, the endpoint, Traffic.",
        fix="Ask who is responsible for the model whether the release was meant; `stocktake lineage KIND KEY`"
        " says from which run the new version came. If it was meant, acknowledge with the ticket.",
        rollback="Set back what stands under `before`: POST /api/2.0/mlflow/registered-models/alias with the version,"
        " or model-versions/transition-stage; Azure ML: az ml online-endpoint update --name KEY --traffic"
        " DEPLOYMENT=100. Then restart what loads the model at its start. Of a model that is deleted stocktake keeps"
        " the documents: `stocktake history KIND KEY`.",
        signal="It resolves when all is again as it was before. It opens again with the next change. Another model"
        " under the same deployment is the rule about the deployment's configuration.",
    ),
)
