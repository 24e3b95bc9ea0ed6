"""The bodies of the loopback Azure have the fields of recorded ones: no more, no fewer, for every type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from stocktake.demo.azure.job_views import history_body, mlflow_run
from tests.azure.asking import asking, small
from tests.azure.recordings import Recordings
from tests.needs import need

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "azureml"
ML = "Microsoft.MachineLearningServices/workspaces"

#: Fields that only newer API versions have than those that were recorded, or that were recorded in another of them.
_NEWER: Mapping[str, frozenset[str]] = {
    f"{ML}": frozenset({"encryption", "managedNetwork", "azureOpenAI", "featureStoreSettings"}),
    f"{ML}/jobs": frozenset({"notificationSetting", "queueSettings", "secretsConfiguration"}),
    f"{ML}/data/versions": frozenset({"autoDeleteSetting", "stage", "intellectualProperty"}),
    f"{ML}/environments/versions": frozenset(
        {"autoDeleteSetting", "autoRebuild", "provisioningState", "stage", "intellectualProperty"}
    ),
    f"{ML}/connections": frozenset({"createdByWorkspaceArmId", "group"}),
    f"{ML}/computes": frozenset({"identity"}),
    f"{ML}/onlineEndpoints/deployments": frozenset({"sku.capacity"}),
}


def _items(body: Any) -> Iterator[Mapping[str, Any]]:
    """The resources in an answer: one, or those of a list."""
    rows = body.get("value") if isinstance(body, dict) else None
    for item in rows if isinstance(rows, list) else [body]:
        if isinstance(item, dict) and isinstance(item.get("properties"), dict) and item.get("name"):
            yield item


def _group(item: Mapping[str, Any], path: str) -> tuple[str, str]:
    """What has the same fields: the type, and what tells its variants apart."""
    properties = item["properties"]
    kind = item.get("type") or (f"{ML}/schedules" if "/schedules" in path else f"{ML}/outboundRules")
    variant = next((properties[name] for name in ("jobType", "computeType", "datastoreType") if name in properties), "")
    return kind, str(properties.get("dataType", variant)) if "/data" in kind else str(variant)


def _fields(item: Mapping[str, Any]) -> set[str]:
    return set(item) | {f"properties.{name}" for name in item["properties"]}


def _within(item: Mapping[str, Any]) -> set[str]:
    """One level further down, where a service and not a person decides what is there."""
    found = set()
    for name in ("systemData", "sku", "identity"):
        found |= {f"{name}.{field}" for field in item.get(name) or ()}
    inner = item["properties"].get("properties")
    if "computeType" in item["properties"] and isinstance(inner, dict):
        found |= {f"properties.properties.{field}" for field in inner}
    return found


@pytest.fixture(scope="module")
def recorded() -> dict[tuple[str, str], tuple[set[str], set[str]]]:
    """Of each type and variant: the fields that every recorded item has, and those that any has."""
    need(SHARED.is_dir(), "the recorded exchanges are not here (../shared/data/azureml)")
    found: dict[tuple[str, str], tuple[set[str], set[str]]] = {}
    for one in Recordings(SHARED / "recordings").all:
        if one.status != 200 or "management.azure.com" not in one.uri or "OperationsStatus" in one.uri:
            continue
        for item in _items(one.body):
            group, fields = _group(item, one.uri), _fields(item) | _within(item)
            always, ever = found.get(group, (fields, set()))
            found[group] = (always & fields, ever | fields)
    return found


@pytest.fixture(scope="module")
def ours() -> dict[tuple[str, str], set[str]]:
    """The same of what the server says."""
    estate, workspace = small(jobs=300, computes=4, data=6)
    found: dict[tuple[str, str], set[str]] = {}
    with asking(estate) as ask:
        scope, around = workspace.scope, workspace.scope.rpartition("/")[0]
        lists = [around, around.replace("/workspaces", "/registries")]
        plain = ("jobs", "computes", "datastores", "schedules", "connections", "outboundRules")
        lists += [f"{scope}/{kind}" for kind in plain]
        for kind, below in (("models", "versions"), ("data", "versions"), ("environments", "versions"),
                            ("components", "versions"), ("codes", "versions"), ("onlineEndpoints", "deployments"),
                            ("batchEndpoints", "deployments")):  # fmt: skip
            names = ask.names(f"{scope}/{kind}", listViewType="All")
            lists += [f"{scope}/{kind}", *(f"{scope}/{kind}/{name}/{below}" for name in names)]
        for path in lists:
            link = f"{ask.server.arm}{path}?api-version=2024-04-01&listViewType=All"
            while link:
                body = ask.http.get(link).json()
                for item in _items(body):
                    found.setdefault(_group(item, path), set()).update(_fields(item) | _within(item))
                link = body.get("nextLink")
    return found


def test_every_recorded_type_that_we_serve_has_the_recorded_fields(
    recorded: Mapping[tuple[str, str], tuple[set[str], set[str]]], ours: Mapping[tuple[str, str], set[str]]
) -> None:
    both = recorded.keys() & ours.keys()
    assert {kind.rsplit("/", 1)[-1] for kind, _ in both} >= {
        "workspaces", "jobs", "computes", "datastores", "schedules", "connections", "models", "versions", "data",
        "environments", "components", "onlineEndpoints", "deployments", "batchEndpoints", "registries",
    }  # fmt: skip
    assert {variant for kind, variant in both if kind.endswith("/jobs")} == {"Command", "Sweep", "Pipeline", "AutoML"}
    wrong = list[str]()
    for group in both:
        always, ever = recorded[group]
        newer = {f"{place}{name}" for name in _NEWER.get(group[0], ()) for place in ("", "properties.")}
        missing, extra = always - ours[group] - newer, ours[group] - ever - newer
        wrong += [f"{' '.join(group)} lacks {name}" for name in missing]
        wrong += [f"{' '.join(group)} has {name}" for name in extra]
    assert not wrong, "\n".join(wrong)


def test_runs_of_the_history_have_the_recorded_fields() -> None:
    need(SHARED.is_dir(), "the recorded exchanges are not here (../shared/data/azureml)")
    ever: set[str] = set()
    always: set[str] | None = None
    for one in Recordings(SHARED / "recordings").all:
        if one.status == 200 and one.uri.endswith("/children"):
            for item in one.body["value"]:
                ever |= set(item)
                always = set(item) if always is None else always & set(item)
    _, workspace = small()
    job = workspace.jobs.at(0)
    mine = set(history_body(workspace.place, job))
    assert always is not None
    assert always <= mine <= ever


def test_a_run_of_mlflow_has_the_fields_that_mlflow_s_own_message_has() -> None:
    from mlflow.entities import Run

    _, workspace = small()
    body = mlflow_run(workspace.place, workspace.jobs.at(0))
    from mlflow.protos.service_pb2 import Run as Message
    from mlflow.utils.proto_json_utils import parse_dict

    message = Message()
    parse_dict(body, message)  # type: ignore[no-untyped-call] # raises at an unknown field
    run = Run.from_proto(message)
    assert run.info.run_id == workspace.jobs.at(0).name
    assert run.data.params.keys() == {"lr", "epochs"}
