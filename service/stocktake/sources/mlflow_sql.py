"""The questions put to MLflow's backend database, as SQL that PostgreSQL and SQLite both understand. Pure.

Pages go by key: `key > :after ORDER BY key LIMIT :limit`, so that rows that come and go while we read repeat or skip
nothing. `runs` has no index but its key (MLflow makes none), the tables that belong to a run have one on the run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stocktake.sources.mlflow_schema import Schema

Among = Callable[[str, str], str]


@dataclass(frozen=True, slots=True)
class Sql:
    """The questions for one schema revision, in the words of one database."""

    schema: Schema
    among: Among

    def here(self, table: str) -> str:
        """That a row belongs to the MLflow workspace we watch."""
        return f"{table}.workspace = :workspace" if self.schema.workspaces else "1 = 1"

    def _in_experiments(self, table: str) -> str:
        """The same for what lies in experiments."""
        if not self.schema.workspaces:
            return "1 = 1"
        return f"{table}.experiment_id IN (SELECT experiment_id FROM experiments WHERE workspace = :workspace)"

    # -- experiments

    def experiments(self, where: str) -> str:
        workspace = "workspace" if self.schema.workspaces else "NULL"
        return (
            f"SELECT experiment_id, name, artifact_location, lifecycle_stage, creation_time, {workspace}"
            f" FROM experiments WHERE {where} AND {self.here('experiments')} ORDER BY experiment_id LIMIT :limit"
        )

    def experiment_tags(self) -> str:
        return f"SELECT experiment_id, key, value FROM experiment_tags WHERE {self.among('experiment_id', 'keys')}"

    def counts(self, table: str) -> str:
        """How many items lie in each experiment."""
        return f"SELECT experiment_id, count(*) FROM {table} WHERE {self._in_experiments(table)} GROUP BY experiment_id"

    # -- runs

    def runs(self, where: str) -> str:
        return (
            "SELECT run_uuid, experiment_id, name, user_id, status, start_time, end_time, lifecycle_stage,"
            f" artifact_uri, deleted_time FROM runs WHERE {where} AND {self._in_experiments('runs')}"
            " ORDER BY run_uuid LIMIT :limit"
        )

    MOVING_RUNS = (
        "(start_time > :since OR end_time > :since OR deleted_time > :since OR status IN ('RUNNING', 'SCHEDULED'))"
    )

    def of_runs(self, table: str, columns: str = "value") -> str:
        """Params, tags or last metrics of some runs."""
        return f"SELECT run_uuid, key, {columns} FROM {table} WHERE {self.among('run_uuid', 'keys')} LIMIT :most"

    def dataset_inputs(self) -> str:
        return (
            "SELECT destination_id, source_id, input_uuid FROM inputs WHERE source_type = 'DATASET'"
            f" AND destination_type = 'RUN' AND {self.among('destination_id', 'keys')} LIMIT :most"
        )

    def datasets(self) -> str:
        return (
            "SELECT dataset_uuid, name, digest, dataset_source_type, dataset_source, dataset_schema, dataset_profile"
            f" FROM datasets WHERE {self.among('dataset_uuid', 'keys')}"
        )

    def input_tags(self) -> str:
        return f"SELECT input_uuid, name, value FROM input_tags WHERE {self.among('input_uuid', 'keys')}"

    def models_of_runs(self) -> str:
        """Models that runs took or made."""
        step = "step" if self.schema.steps else "0"
        return (
            f"SELECT source_id, source_type, destination_id, {step} FROM inputs WHERE source_type IN"
            " ('RUN_INPUT', 'RUN_OUTPUT') AND destination_type IN ('MODEL_INPUT', 'MODEL_OUTPUT')"
            f" AND {self.among('source_id', 'keys')} LIMIT :most"
        )

    # -- logged models

    def logged_models(self, where: str) -> str:
        return (
            "SELECT model_id, experiment_id, name, artifact_location, creation_timestamp_ms, status, lifecycle_stage,"
            f" model_type, source_run_id, status_message FROM logged_models WHERE {where}"
            f" AND {self._in_experiments('logged_models')} ORDER BY model_id LIMIT :limit"
        )

    MOVING_LOGGED_MODELS = "last_updated_timestamp_ms > :since"

    def of_logged_models(self, table: str, prefix: str) -> str:
        """Params or tags of some logged models."""
        return (
            f"SELECT model_id, {prefix}_key, {prefix}_value FROM {table}"
            f" WHERE {self.among('model_id', 'keys')} LIMIT :most"
        )

    def logged_model_metrics(self) -> str:
        """The last of each metric on each dataset, with its equals: which of them counts is decided where REST's is."""
        return (
            "SELECT model_id, metric_name, metric_value, metric_timestamp_ms, metric_step, dataset_name,"
            " dataset_digest, run_id FROM (SELECT m.*, rank() OVER (PARTITION BY model_id, metric_name, dataset_name,"
            " dataset_digest ORDER BY metric_timestamp_ms DESC, metric_step DESC) AS place FROM logged_model_metrics m"
            f" WHERE {self.among('model_id', 'keys')}) last WHERE place = 1 LIMIT :most"
        )

    # -- the registry

    def registered_models(self, where: str) -> str:
        return (
            f"SELECT name, creation_time, description FROM registered_models WHERE {where}"
            f" AND {self.here('registered_models')} ORDER BY name LIMIT :limit"
        )

    def registered_model_tags(self) -> str:
        return (
            "SELECT name, key, value FROM registered_model_tags"
            f" WHERE {self.here('registered_model_tags')} AND {self.among('name', 'keys')}"
        )

    def aliases(self) -> str:
        return (
            "SELECT name, alias, version FROM registered_model_aliases"
            f" WHERE {self.here('registered_model_aliases')} AND {self.among('name', 'keys')}"
        )

    def model_versions(self, where: str) -> str:
        storage = "storage_location" if self.schema.storage_location else "NULL"
        return (
            "SELECT name, version, creation_time, description, user_id, current_stage, source, run_id, run_link,"
            f" status, status_message, {storage} FROM model_versions WHERE {where}"
            f" AND {self.here('model_versions')} ORDER BY name, version LIMIT :limit"
        )

    def model_version_tags(self) -> str:
        return (
            f"SELECT name, version, key, value FROM model_version_tags WHERE {self.here('model_version_tags')}"
            f" AND {self.among('name', 'keys')} AND (name, version) >= (:first, :first_version)"
            " AND (name, version) <= (:last, :last_version)"
        )

    def webhooks(self, where: str) -> str:
        """Never the secret: a role need not be allowed to read that column."""
        return (
            "SELECT webhook_id, name, description, url, status, creation_timestamp FROM webhooks"
            f" WHERE {where} AND deleted_timestamp IS NULL AND {self.here('webhooks')} ORDER BY webhook_id LIMIT :limit"
        )

    def webhook_events(self) -> str:
        return f"SELECT webhook_id, entity, action FROM webhook_events WHERE {self.among('webhook_id', 'keys')}"

    def workspaces(self) -> str:
        return "SELECT name, description, default_artifact_root FROM workspaces ORDER BY name"

    # -- traces: never what a user asked or what was answered

    def traces(self, where: str) -> str:
        client = "client_request_id" if self.schema.client_request_id else "NULL"
        columns = ", ".join(TRACE_COLUMNS) if self.schema.trace_columns else ", ".join(["NULL"] * len(TRACE_COLUMNS))
        return (
            f"SELECT request_id, experiment_id, timestamp_ms, execution_time_ms, status, {client}, {columns}"
            f" FROM trace_info WHERE {where} AND {self._in_experiments('trace_info')}"
            " ORDER BY request_id LIMIT :limit"
        )

    MOVING_TRACES = "timestamp_ms > :since"

    def of_traces(self, table: str) -> str:
        """Tags or metadata of some traces."""
        return (
            f"SELECT request_id, key, value FROM {table} WHERE {self.among('request_id', 'keys')}"
            " AND key NOT IN ('mlflow.traceInputs', 'mlflow.traceOutputs') LIMIT :most"
        )


#: Name and session, then tokens, then costs, as they stand in mlflow_rows.TOKENS and COSTS.
TRACE_COLUMNS = (
    "trace_name", "session_id", "input_tokens", "output_tokens", "total_tokens", "cache_read_input_tokens",
    "cache_creation_input_tokens", "cache_creation_input_tokens_above_1hr", "input_cost", "output_cost", "total_cost",
)  # fmt: skip
