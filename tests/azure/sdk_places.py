"""How Microsoft's client (azure-ai-ml 1.35) calls what the resource manager answers: names, places, spellings. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from stocktake.core.assets import Kind

_TAGS = (r"tags\.(.*)", r"properties.tags.\1")
_DATA = r"(training|validation|test)_data"

#: Path of the client -> path in the body, or several that one body or another has; the first row that fits. What no row
#: fits is looked for under the same name in `properties`, in `properties.properties` and in the body itself.
PLACES: Mapping[Kind, tuple[tuple[str, ...], ...]] = {
    Kind.WORKSPACE: ((r"display_name", r"properties.friendlyName"),),
    Kind.COMPUTE: (
        (r"type", r"properties.computeType"),
        (r"location", r"properties.computeLocation"),
        (r"(created_on|provisioning_state|description|resource_id|disable_local_auth)", r"properties.\1"),
        (r"identity\.user_assigned_identities\..*", r"identity.userAssignedIdentities"),
        (r"((?:identity|tags)\..*)", r"\1"),
        (r"size", r"properties.properties.vmSize"),
        (r"tier", r"properties.properties.vmPriority"),
        (r"(min|max)_instances", r"properties.properties.scaleSettings.\1NodeCount"),
        (r"idle_time_before_scale_down", r"properties.properties.scaleSettings.nodeIdleTimeBeforeScaleDown"),
        (r"services\.(.*)", r"properties.properties.applications.\1"),
        (r"network_settings\.(.*)", r"properties.properties.connectivityEndpoints.\1"),
        (r"ssh_public_access_enabled", r"properties.properties.remoteLoginPortPublicAccess",
         r"properties.properties.sshSettings.sshPublicAccess"),
        (r"ssh_settings\.admin_username", r"properties.properties.userAccountCredentials.adminUserName",
         r"properties.properties.sshSettings.adminUserName"),
        (r"ssh_settings\.(.*)", r"properties.properties.sshSettings.\1"),
        (r"(.*)", r"properties.properties.\1"),
    ),
    Kind.DATASTORE: ((r"type", r"properties.datastoreType"), _TAGS),
    Kind.CONNECTION: (
        (r"type", r"properties.category"),
        (r"credentials\.type", r"properties.authType"),
        (r"(?:tags|metadata)\.(.*)", r"properties.metadata.\1"),
    ),
    Kind.DATA_VERSION: ((r"path", r"properties.dataUri"), (r"type", r"properties.dataType"), _TAGS),
    Kind.MODEL_VERSION: ((r"path", r"properties.modelUri"), (r"type", r"properties.modelType"), _TAGS),
    Kind.ENVIRONMENT_VERSION: (_TAGS,),
    Kind.COMPONENT_VERSION: (
        _TAGS,
        (r"creation_context\.(.*)", r"systemData.\1"),
        (r"(.*)", r"properties.componentSpec.\1"),
    ),
    Kind.SCHEDULE: (
        _TAGS,
        (r"trigger\.type", r"properties.trigger.triggerType"),
        (r"import_data\.name", r"properties.action.dataImportDefinition.assetName"),
        (r"import_data\.path", r"properties.action.dataImportDefinition.dataUri"),
        (r"import_data\.type", r"properties.action.dataImportDefinition.dataType"),
        (r"import_data\.source\.type", r"properties.action.dataImportDefinition.source.sourceType"),
        (r"import_data\.(.*)", r"properties.action.dataImportDefinition.\1"),
    ),
    Kind.BATCH_DEPLOYMENT: (
        (r"model", r"properties.model.assetId"),
        (r"environment", r"properties.environmentId"),
        (r"code_configuration\.code", r"properties.codeConfiguration.codeId"),
        (r"settings\.(.*)", r"properties.\1"),
        (r"component", r"properties.deploymentConfiguration.componentId.assetId"),
    ),
    Kind.ONLINE_DEPLOYMENT: (
        (r"type", r"properties.endpointComputeType"),
        (r"environment", r"properties.environmentId"),
        (r"code_configuration\.code", r"properties.codeConfiguration.codeId"),
        (r"request_settings\.request_timeout_ms", r"properties.requestSettings.requestTimeout"),
        (r"scale_settings\.type", r"properties.scaleSettings.scaleType"),
        (r"instance_count", r"sku.capacity"),
    ),
    Kind.JOB: (
        # A command job says everything twice, for itself and as the component that it is.
        (r"(?:component\.)?tags\.(.*)", r"properties.tags.\1"),
        (r"(?:component\.)?creation_context\.(.*)", r"systemData.\1"),
        (r"(?:component\.)?(in|out)puts\.([^.]+)\.path", r"properties.\1puts.\2.uri", r"properties.\1puts.\2.value"),
        (r"(?:component\.)?(in|out)puts\.([^.]+)\.type", r"properties.\1puts.\2.job\1putType"),
        (r"inputs\.([^.]+)", r"properties.inputs.\1.value"),
        (r"(?:component\.)?type", r"properties.jobType"),
        (r"(compute)", r"properties.\1Id"),
        (r"trial\.(code|environment)", r"properties.trial.\1Id"),
        (r"(?:component\.)?(code|environment)", r"properties.\1Id"),
        (r"(?:component\.)?distribution\.type", r"properties.distribution.distributionType"),
        (r"component\.(.*)", r"properties.\1"),
        (r"identity.type", r"properties.identity.identityType"),
        (r"services\.([^.]+)\.type", r"properties.services.\1.jobServiceType"),
        # A job that imports data is a command job to the resource manager.
        (r"source\.(.*)", r"properties.inputs.\1.value"),
        (r"output\.path", r"properties.outputs.output.uri"),
        (r"output\.type", r"properties.outputs.output.jobOutputType"),
        (r"output\.(.*)", r"properties.outputs.output.\1"),
        # AutoML.
        (r"task", r"properties.taskDetails.taskType"),
        (rf"{_DATA}\.path", r"properties.taskDetails.\1Data.uri"),
        (rf"{_DATA}\.type", r"properties.taskDetails.\1Data.jobInputType"),
        (r"training\.ensemble_model_download_timeout_minutes",
         r"properties.taskDetails.trainingSettings.ensembleModelDownloadTimeout"),
        (r"training\.(.*)", r"properties.taskDetails.trainingSettings.\1"),
        (r"limits\.((?:trial_)?timeout)_minutes", r"properties.taskDetails.limitSettings.\1"),
        (r"forecasting\.forecast_horizon", r"properties.taskDetails.forecastingSettings.forecastHorizon.value"),
        (r"forecasting\.(.*)", r"properties.taskDetails.forecastingSettings.\1"),
        (r"n_cross_validations", r"properties.taskDetails.nCrossValidations.value"),
        (r"featurization\.(.*)", r"properties.taskDetails.featurizationSettings.\1"),
        (r"sweep\.early_termination\.type", r"properties.taskDetails.sweepSettings.earlyTermination.policyType"),
        (r"sweep\.(.*)", r"properties.taskDetails.sweepSettings.\1"),
        (r"(primary_metric|target_column_name|log_verbosity)", r"properties.taskDetails.\1"),
        # Sweep.
        (r"sampling_algorithm\.type", r"properties.samplingAlgorithm.samplingAlgorithmType"),
        (r"early_termination\.type", r"properties.earlyTermination.policyType"),
        # Steps of a pipeline.
        (r"jobs\.([^.]+)\.component", r"properties.jobs.\1.componentId"),
        (r"jobs\.([^.]+)\.compute", r"properties.jobs.\1.computeId"),
        (r"jobs\.([^.]+)\.inputs\.([^.]+)(?:\.path)?", r"properties.jobs.\1.inputs.\2.value"),
        (r"jobs\.([^.]+)\.outputs\.([^.]+)\.path", r"properties.jobs.\1.outputs.\2.uri"),
        (r"jobs\.([^.]+)\.outputs\.([^.]+)\.type", r"properties.jobs.\1.outputs.\2.job_output_type"),
        (r"limits\.(.*)", r"properties.limits.\1", r"properties.taskDetails.limitSettings.\1"),
    ),
}  # fmt: skip
#: Fields whose value is one of a few words, which the client writes in its own way (rw_mount, CreatedByType.USER).
_WORDS = frozenset(
    {
        "type", "status", "provisioning_state", "mode", "auth_mode", "goal", "created_by_type", "tier", "rule", "state",
        "output_action", "logging_level", "primary_metric", "task", "os_type", "log_verbosity", "job_tier", "condition",
        "egress_public_network_access", "isolation_mode", "training_mode", "feature_lags", "use_stl", "operator",
        "short_series_handling_config", "target_aggregate_function", "sampling_algorithm", "ssh_public_access_enabled",
        "last_modified_by_type", "blocked_training_algorithms", "enable_node_public_ip",
    }
)  # fmt: skip
_SAID = {"romount": "readonlymount", "rwmount": "readwritemount", "true": "enabled", "false": "disabled"}
_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?")
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT[\d:]{8})(\.\d{1,6})?\d*(?:Z|\+00:?00)?")
_UNITS = {"_minutes": 60.0, "_ms": 0.001}
_HERE = re.compile(r"/subscriptions/[^/]+/resourcegroups/[^/]+/providers/[^/]+/workspaces/[^/]+/", re.IGNORECASE)


def places(kind: Kind, path: str) -> Iterator[str]:
    """Where in a body what the client calls so may be."""
    if kind is Kind.SCHEDULE and path.startswith("create_job."):
        for place in places(Kind.JOB, path.removeprefix("create_job.")):
            yield place.replace("properties.", "properties.action.jobDefinition.", 1)
        return
    for pattern, *there in PLACES.get(kind, ()):
        if found := re.fullmatch(pattern, path):
            yield from map(found.expand, there)
            break
    if path.startswith("creation_context."):
        yield path.replace("creation_context", "systemData")
    yield from (f"properties.{path}", f"properties.properties.{path}", path)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is no map, with its path; a list of plain values is one. Nothing is what is null or empty."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from leaves(item, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        for number, item in enumerate(value):
            yield from leaves(item, f"{path}.{number}")
    elif value is not None and value != []:
        yield path, value


def same_name(path: str) -> str:
    """A path as it is compared: created_at is createdAt."""
    return path.replace("_", "").lower()


def plain(path: str, value: Any) -> Any:
    """A value as it is compared: times, durations, words and references in one spelling; else as it is."""
    name = path.rpartition(".")[2]
    if isinstance(value, list):
        return [plain(path, item) for item in value]
    if name in _WORDS:
        word = re.sub(r"[^a-z0-9]", "", str(value).rpartition(".")[2].lower())
        return _SAID.get(word, word)
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return value * next((unit for end, unit in _UNITS.items() if name.endswith(end)), 1.0)
    if not isinstance(value, str):
        return value
    if found := _TIME.fullmatch(value):
        return found[1] + (found[2] or "").rstrip("0").rstrip(".")
    if value != "P" and (found := _DURATION.fullmatch(value)):
        days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    return _short(value)


def _short(reference: str) -> str:
    """azureml:NAME:VERSION of an ARM id in this workspace, which the client writes in either way."""
    bare = reference if reference.startswith("azureml://") else reference.removeprefix("azureml:")
    below = _HERE.sub("", bare)
    match below.split("/") if below != bare else []:
        case [_, name, "versions", version]:
            return f"{name}:{version}"
        case [_, name]:
            return name
    return bare
