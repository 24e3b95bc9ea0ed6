"""Turns one job of Azure ML into one Asset: a root job as the resource manager lists it, a child as run-history does.

Pure. A job of a type that is not known here is kept as it came; nothing of it is lifted that is not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stocktake.core.assets import Asset, Kind
from stocktake.sources.azureml_left_out import WHILE_RUNNING, kept
from stocktake.sources.azureml_lifting import home_of, key_of, lifecycle, mapping, moment, reference, tagged
from stocktake.sources.mlflow_values import digest, first, required_text, text, without

#: States that a job does not leave any more.
ENDED = frozenset({"Completed", "Failed", "Canceled"})

#: Types that never have children: there is nothing to ask about one.
CHILDLESS = frozenset({"Command", "Spark", "Import", "Labeling"})

#: What run-history tells of a root job, put beside the body that the resource manager tells.
HISTORY = "runHistory"

_COMMIT = ("azureml.git.commit", "mlflow.source.git.commit")
#: Where the artifacts of runs are; the outputs of a job name it in the same way.
_ARTIFACTS = "azureml://datastores/workspaceartifactstore/ExperimentRun"
_OURS = frozenset({HISTORY})
_CLOCKS = frozenset(row.path for row in WHILE_RUNNING)


def parse_job(body: Mapping[str, Any], owner_tags: Sequence[str] = ()) -> Asset:
    """A root job, or a child that was asked for by name. Its name is the id of its MLflow run.

    Its times come from run-history where that was asked (HISTORY). They stand beside the document: which jobs are asked
    about changes from pass to pass, and must not look like a change of the job.
    """
    key = key_of(body, "job")
    properties, system = mapping(body.get("properties")), mapping(body.get("systemData"))
    tags, facts = mapping(properties.get("tags")), mapping(properties.get("properties"))
    document, history = kept(Kind.JOB, without(body, _OURS)), mapping(body.get(HISTORY))
    parameters, state, home = _parameters(properties), text(properties.get("status")), home_of(body)
    return Asset(
        kind=Kind.JOB,
        key=key,
        document=document,
        aside=dict(history),
        name=text(properties.get("displayName")) or key,
        state=state,
        lifecycle=lifecycle(properties.get("isArchived")),
        owner=first((tagged(tags, owner_tags), text(system.get("createdBy")))),
        parent=first((text(properties.get("parentJobName")), text(facts.get("azureml.parentrunid")))),
        created_at=moment(system.get("createdAt")),
        started_at=moment(history.get("startTimeUtc")),
        ended_at=moment(history.get("endTimeUtc")) if state in ENDED else None,
        artifact_uri=text(mapping(mapping(properties.get("outputs")).get("default")).get("uri")),
        code_version=first((*_commits(facts), reference(properties.get("codeId"), home))),
        data_version=", ".join(sorted(set(_data(properties, home)))) or None,
        params_digest=digest(parameters) if parameters else None,
    )


def parse_child_job(run: Mapping[str, Any], owner_tags: Sequence[str] = ()) -> Asset:
    """A step, trial or iteration as run-history has it, with its times and the container of its artifacts.

    `dataContainerId` names the folder of the artifacts; a step that was reused has that of the run it was reused from
    (its property azureml.reusedrunid). Both stay in the document.
    """
    key = required_text(run, "runId", "child_job")
    tags, facts = mapping(run.get("tags")), mapping(run.get("properties"))
    state = text(run.get("status"))
    document = kept(Kind.CHILD_JOB, run)
    if state not in ENDED:
        document = without(document, _CLOCKS)
    snapshot, container = text(facts.get("ContentSnapshotId")), text(run.get("dataContainerId"))
    parameters = mapping(document.get("parameters"))
    return Asset(
        kind=Kind.CHILD_JOB,
        key=key,
        document=document,
        name=first((text(run.get("displayName")), text(run.get("name")))) or key,
        state=state,
        lifecycle=lifecycle(run.get("hidden")),
        owner=first((tagged(tags, owner_tags), text(mapping(run.get("createdBy")).get("userName")))),
        parent=text(run.get("parentRunId")) or None,
        created_at=moment(run.get("createdUtc", run.get("createdTimeUtc"))),
        started_at=moment(run.get("startTimeUtc")),
        ended_at=moment(run.get("endTimeUtc")),
        artifact_uri=f"{_ARTIFACTS}/{container}" if container else None,
        code_version=first((*_commits(facts), f"snapshot:{snapshot}" if snapshot else None)),
        data_version=", ".join(sorted(set(_datasets(run)))) or None,
        params_digest=digest(parameters) if parameters else None,
    )


def times(run: Mapping[str, Any]) -> dict[str, Any]:
    """What run-history tells of a root job and nobody else does: times, the container, whose output it shows."""
    reused = mapping(run.get("properties")).get("azureml.reusedrunid")
    names = ("startTimeUtc", "endTimeUtc", "computeDuration", "dataContainerId")
    found = {name: run[name] for name in names if run.get(name) is not None}
    return found | ({"reusedRunId": reused} if reused else {})


def _commits(facts: Mapping[str, Any]) -> Iterator[str | None]:
    return (text(facts.get(name)) for name in _COMMIT)


def _inputs(properties: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, value in mapping(properties.get("inputs")).items():
        if isinstance(value, dict):
            yield name, value


def _data(properties: Mapping[str, Any], home: str | None) -> Iterator[str]:
    """What a job reads: assets as NAME/VERSION, anything else by its address. AutoML names its data elsewhere."""
    for _, value in _inputs(properties):
        if value.get("jobInputType") != "literal" and (found := reference(value.get("uri"), home)):
            yield found
    task = mapping(properties.get("taskDetails"))
    for name in ("trainingData", "validationData", "testData"):
        if found := reference(mapping(task.get(name)).get("uri"), home):
            yield found


def _parameters(properties: Mapping[str, Any]) -> dict[str, Any]:
    """What a job is told: its literal inputs, and what it had logged as parameters."""
    literal = {
        name: value.get("value") for name, value in _inputs(properties) if value.get("jobInputType") == "literal"
    }
    return {**mapping(properties.get("parameters")), **literal}


def _datasets(run: Mapping[str, Any]) -> Iterator[str]:
    for item in run.get("inputDatasets") or ():
        identifier = mapping(mapping(item).get("identifier"))
        if identifier.get("registeredId") and identifier.get("registeredVersion"):
            yield f"{identifier['registeredId']}/{identifier['registeredVersion']}"
        elif saved := text(identifier.get("savedId")):
            yield saved
    inputs = run.get("inputs")
    for value in inputs.values() if isinstance(inputs, dict) else ():
        if found := reference(mapping(value).get("assetId"), None):
            yield found
