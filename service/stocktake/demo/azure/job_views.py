"""The three faces of a job: its ARM body, its MLflow run, and its document in the run history.

ARM tells no start and no end; the run history tells whose folder the outputs are in, which is another step's where a
step was reused. The field names are those of recorded exchanges.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from stocktake.demo.azure.jobs import Job
from stocktake.demo.azure.seeded import TENANT, Body, guid, millis, mix, stamp, system_data

_MLFLOW_STATUS = {
    "NotStarted": "SCHEDULED", "Queued": "SCHEDULED", "Preparing": "SCHEDULED", "Starting": "SCHEDULED",
    "Running": "RUNNING", "Finalizing": "RUNNING", "CancelRequested": "RUNNING", "Completed": "FINISHED",
    "Failed": "FAILED", "Canceled": "KILLED",
}  # fmt: skip
COMMIT = "mlflow.source.git.commit"


class Place:
    """What a job's bodies say about where it is: names that are the same in all bodies of a workspace."""

    def __init__(self, *, seed: int, scope: str, location: str, data_host: str, data_names: int) -> None:
        self.seed = seed
        self.scope = scope
        self.location = location
        self.data_host = data_host
        self.data_names = max(1, data_names)

    def experiment_name(self, number: int) -> str:
        return "Default" if number == 0 else f"experiment-{number:03d}"

    def experiment_id(self, number: int) -> str:
        return guid(self.seed, 501, number)

    def container(self, job: Job) -> str:
        """The folder of a job's outputs: that of the step it was reused from, if it was."""
        return f"dcid.{job.reused or job.name}"

    def code_id(self, job: Job) -> str:
        return f"{self.scope}/codes/{guid(self.seed, 3, job.index // 9)}/versions/1"

    def commit(self, job: Job) -> str:
        return f"{mix(self.seed, 9, job.index // 5):016x}{mix(self.seed, 10, job.index // 5):016x}{job.index // 5:08x}"

    def data_uri(self, job: Job) -> str:
        number = mix(self.seed, 4, job.index) % self.data_names
        return f"{self.scope}/data/dataset-{number:03d}/versions/{1 + mix(self.seed, 5, job.index) % 2}"


def arm_body(place: Place, job: Job) -> Body:
    """A job as ARM lists it."""
    services = {
        "Tracking": _service("Tracking", f"azureml://{place.data_host}/mlflow/v1.0{place.scope}?"),
        "Studio": _service("Studio", f"https://ml.azure.com/runs/{job.name}?wsid={place.scope}&tid={TENANT}"),
    }
    properties: Body = {
        "description": None,
        "tags": dict(job.tags),
        "properties": {"ContentSnapshotId": guid(place.seed, 6, job.index), COMMIT: place.commit(job)},
        "displayName": job.display or job.name,
        "status": job.status,
        "experimentName": place.experiment_name(job.experiment),
        "services": services,
        "computeId": None if job.type == "Pipeline" or not job.compute else f"{place.scope}/computes/{job.compute}",
        "isArchived": job.archived,
        "identity": None,
        "componentId": None,
        "notificationSetting": None,
        "jobType": job.type,
    }
    properties |= _TYPED.get(job.type, _bare)(place, job)
    return {
        "id": f"{place.scope}/jobs/{job.name}",
        "name": job.name,
        "type": "Microsoft.MachineLearningServices/workspaces/jobs",
        "properties": properties,
        "systemData": system_data(job.by, job.created, full=False),
    }


def history_body(place: Place, job: Job, root: str | None = None) -> Body:
    """A job or child as the run history tells it."""
    person = {
        "userObjectId": guid(sum(job.by.encode())), "userPuId": "10037FFE00000000", "userIdp": None,
        "userAltSecId": None, "userIss": f"https://sts.windows.net/{TENANT}/", "userTenantId": TENANT,
        "userName": job.by, "upn": None,
    }  # fmt: skip
    properties: dict[str, str] = {"ContentSnapshotId": guid(place.seed, 6, job.index), COMMIT: place.commit(job)}
    if job.type == "Step":
        properties |= {"azureml.runsource": "azureml.StepRun", "StepType": "PythonScriptStep",
                       "azureml.pipelinerunid": job.parent or "", "azureml.nodeid": f"{job.number:08x}"}  # fmt: skip
    if job.reused:
        properties |= {"azureml.isreused": "true", "azureml.reusedrunid": job.reused}
    spent = duration(job.started, job.ended)
    kind = {"Step": "azureml.StepRun", "Trial": "azureml.scriptrun", "Pipeline": "azureml.PipelineRun"}
    unique, above = guid(place.seed, 7, job.index, job.number), guid(place.seed, 7, job.index, 0)
    return {
        "runNumber": int(job.created.timestamp()), "rootRunId": root or job.parent or job.name,
        "createdUtc": stamp(job.created), "createdBy": person, "userId": person["userObjectId"], "token": None,
        "tokenExpiryTimeUtc": None, "error": None, "warnings": None, "revision": 3, "statusRevision": 1,
        "runUuid": unique, "parentRunUuid": above if job.parent else None, "rootRunUuid": above,
        "lastStartTimeUtc": None, "currentComputeTime": None, "computeDuration": spent, "effectiveStartTimeUtc": None,
        "lastModifiedBy": person, "lastModifiedUtc": stamp(job.ended or job.started or job.created),
        "duration": spent, "cancelationReason": None, "currentAttemptId": 1, "runId": job.name,
        "parentRunId": job.parent, "experimentId": place.experiment_id(job.experiment), "status": job.status,
        "startTimeUtc": stamp(job.started), "endTimeUtc": stamp(job.ended), "scheduleId": None,
        "displayName": job.display or job.name, "name": job.display or None, "dataContainerId": place.container(job),
        "description": None, "hidden": False, "runType": kind.get(job.type, "azureml.scriptrun"),
        "runTypeV2": {"orchestrator": None, "traits": [], "attribution": None, "computeType": "AmlcTrain"},
        "properties": properties, "parameters": {}, "actionUris": {}, "scriptName": None, "target": job.compute,
        "uniqueChildRunComputeTargets": [], "tags": dict(job.tags), "settings": {}, "services": {},
        "inputDatasets": [], "outputDatasets": [], "runDefinition": None, "jobSpecification": None,
        "primaryMetricName": None, "createdFrom": None, "cancelUri": None, "completeUri": None, "diagnosticsUri": "",
        "computeRequest": {"nodeCount": 1, "gpuCount": 0},
        "compute": {"target": job.compute, "targetType": "amlcompute", "vmSize": None, "instanceType": None,
                    "instanceCount": 1, "gpuCount": 0, "priority": None, "region": None, "armId": None,
                    "properties": None},
        "retainForLifetimeOfWorkspace": None, "queueingInfo": None, "inputs": None,
        "outputs": _became(place, job) or None,
    }  # fmt: skip


def _became(place: Place, job: Job) -> Body:
    """What the outputs with a name were registered as, in the words of the run history."""
    here = f"azureml://locations/{place.location}/workspaces/{guid(place.seed, 61)}"
    return {name: {"assetId": f"{here}/{path}", "type": "UriFolder"} for name, path in job.outputs.items()}


def mlflow_run(place: Place, job: Job) -> Body:
    """A job or child as the workspace's MLflow tells it."""
    number = mix(place.seed, 8, job.index, job.number)
    ended = millis(job.ended)
    tags = {"mlflow.rootRunId": job.parent or job.name, "mlflow.runName": job.display or job.name,
            "mlflow.user": job.by, COMMIT: place.commit(job)} | dict(job.tags)  # fmt: skip
    if job.parent:
        tags["mlflow.parentRunId"] = job.parent
    scores: list[Body] = []
    if job.status in ("Completed", "Running"):
        at = ended or millis(job.started or job.created)
        scores = [{"key": "accuracy", "value": 0.5 + number % 1000 / 2000, "timestamp": at, "step": 0}]
    info: Body = {
        "run_uuid": job.name, "run_id": job.name, "run_name": job.display or job.name,
        "experiment_id": place.experiment_id(job.experiment), "user_id": guid(sum(job.by.encode())),
        "status": job.run_status or _MLFLOW_STATUS[job.status],
        "start_time": millis(job.started or job.created), "lifecycle_stage": "deleted" if job.archived else "active",
        "artifact_uri": f"azureml://{place.data_host}/mlflow/v2.0{place.scope}/experiments/"
                        f"{place.experiment_id(job.experiment)}/runs/{job.name}/artifacts",
    }  # fmt: skip
    if ended is not None:
        info["end_time"] = ended
    params = [{"key": "lr", "value": str(0.001 * (1 + number % 90))}, {"key": "epochs", "value": str(1 + number % 40)}]
    pairs = [{"key": name, "value": value} for name, value in tags.items()]
    return {"info": info, "data": {"metrics": scores, "params": params, "tags": pairs}, "inputs": {}}


def duration(started: datetime | None, ended: datetime | None) -> str | None:
    """A length of time as the run history writes it."""
    if started is None or ended is None:
        return None
    hours, rest = divmod(ended - started, timedelta(hours=1))
    minutes, rest = divmod(rest, timedelta(minutes=1))
    return f"{hours:02d}:{minutes:02d}:{rest.total_seconds():010.7f}"


def _service(kind: str, endpoint: str) -> Body:
    return {"jobServiceType": kind, "port": None, "endpoint": endpoint, "status": None, "errorMessage": None,
            "properties": None, "nodes": None}  # fmt: skip


def _resources() -> Body:
    return {"instanceCount": 1, "instanceType": None, "properties": None, "shmSize": "2g", "dockerArgs": None}


def _environment(place: Place, job: Job) -> str:
    return f"{place.scope}/environments/environment-{job.index % 2:03d}/versions/1"


def _inputs(place: Place, job: Job) -> Body:
    return {"training_data": {"description": None, "uri": place.data_uri(job), "mode": "ReadOnlyMount",
                              "jobInputType": "uri_folder"}}  # fmt: skip


def _outputs(place: Place, job: Job) -> Body:
    uri = f"azureml://datastores/workspaceartifactstore/ExperimentRun/{place.container(job)}"
    # Of an output with a name ARM tells the type alone: what became of it, run history tells.
    return {name: {"description": None, "uri": uri if name == "default" else None, "assetName": None,
                   "assetVersion": None, "mode": "ReadWriteMount", "jobOutputType": "uri_folder"}
            for name in ("default", *job.outputs)}  # fmt: skip


def _command(place: Place, job: Job) -> Body:
    return {
        "resources": _resources(), "codeId": place.code_id(job), "command": "python train.py --lr 0.01",
        "environmentId": _environment(place, job), "inputs": _inputs(place, job), "outputs": _outputs(place, job),
        "distribution": None, "autologgerSettings": None, "limits": None, "environmentVariables": {},
        "parameters": {}, "queueSettings": None,
    }  # fmt: skip


def _sweep(place: Place, job: Job) -> Body:
    trial = {"codeId": place.code_id(job), "command": "python train.py --lr ${{search_space.lr}}",
             "environmentId": _environment(place, job), "environmentVariables": {}, "distribution": None,
             "resources": _resources()}  # fmt: skip
    return {
        "secretsConfiguration": None, "searchSpace": {"lr": ["uniform", [0.001, 0.1]]},
        "samplingAlgorithm": {"samplingAlgorithmType": "Random", "seed": None, "logbase": None, "rule": "Random"},
        "limits": {"timeout": "PT5M", "jobLimitsType": "Sweep", "maxTotalTrials": 4, "maxConcurrentTrials": 2,
                   "trialTimeout": None},
        "earlyTermination": None, "objective": {"primaryMetric": "accuracy", "goal": "Maximize"}, "trial": trial,
        "inputs": _inputs(place, job), "outputs": _outputs(place, job), "queueSettings": None,
    }  # fmt: skip


def _pipeline(place: Place, job: Job) -> Body:
    step = {"name": "train", "type": "command", "_source": "YAML.COMPONENT",
            "componentId": f"{place.scope}/components/component-000/versions/1"}  # fmt: skip
    return {"settings": {"_source": "YAML.JOB"}, "jobs": {"train": step}, "inputs": _inputs(place, job),
            "outputs": {}, "sourceJobId": None}  # fmt: skip


def _automl(place: Place, job: Job) -> Body:
    details = {
        "logVerbosity": "Info",
        "trainingData": {"description": None, "uri": place.data_uri(job), "mode": "ReadOnlyMount",
                         "jobInputType": "mltable"},
        "targetColumnName": "y", "taskType": "Classification", "primaryMetric": "Accuracy",
        "limitSettings": {"maxTrials": 2, "trialTimeout": "PT10M", "timeout": "PT10H", "maxConcurrentTrials": 1,
                          "maxCoresPerTrial": -1, "exitScore": None, "enableEarlyTermination": True},
    }  # fmt: skip
    return {"resources": _resources(), "environmentId": None, "environmentVariables": None, "taskDetails": details,
            "outputs": {}, "queueSettings": None}  # fmt: skip


def _spark(place: Place, job: Job) -> Body:
    entry = {"sparkJobEntryType": "SparkJobPythonEntry", "file": "prepare.py"}
    return {
        "codeId": place.code_id(job), "entry": entry, "args": None, "archives": None, "files": None, "jars": None,
        "pyFiles": None, "conf": {"spark.driver.cores": "1", "spark.executor.instances": "2"},
        "environmentId": None, "inputs": _inputs(place, job), "outputs": _outputs(place, job), "queueSettings": None,
        "resources": {"instanceType": "standard_e8s_v3", "runtimeVersion": "3.4"}, "environmentVariables": {},
    }  # fmt: skip


def _bare(place: Place, job: Job) -> Body:
    """A type that no client of today knows has fields that nobody expects."""
    return {"somethingNew": {"of": job.index, "place": place.experiment_name(job.experiment)}}


_TYPED: dict[str, Any] = {
    "Command": _command, "Sweep": _sweep, "Pipeline": _pipeline, "AutoML": _automl, "Spark": _spark,
}  # fmt: skip
