"""Backend databases of older MLflows, made by the migrations of the installed one: python -m ... FOLDER REVISION...

A file for each revision, in the order given. What a revision brought is filled in when it comes, whole, and goes
through all later migrations: what was read of it before must be what is read of it after.
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from stocktake.sources.mlflow_schema import REVISIONS

_RUN = (
    "INSERT INTO runs (run_uuid, name, source_type, user_id, status, start_time, end_time, lifecycle_stage,"
    " artifact_uri, experiment_id, deleted_time) VALUES ('{}', 'r', 'LOCAL', 'ada', 'FINISHED', 5, 9, '{}', 's3://x',"
    " 1, {})"
)
_TRACE = (
    "INSERT INTO trace_info (request_id, experiment_id, timestamp_ms, execution_time_ms, status)"
    " VALUES ('tr-1', 1, 7, 3, 'OK')"
)
_COST = '{"input_cost": 0.1, "total_cost": 0.1}'
_TOKENS = '{"input_tokens": 12, "total_tokens": 12}'

#: What is filled in at a revision.
CONTENT: Mapping[str, Sequence[str]] = {
    REVISIONS[0]: (
        "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage, creation_time,"
        " last_update_time) VALUES (1, 'ü', 's3://x', 'active', 1, 2), (2, 'gone', 's3://y', 'deleted', 1, 2)",
        "INSERT INTO experiment_tags (key, value, experiment_id) VALUES ('team', 'vision', 1)",
        _RUN.format("a" * 32, "active", "NULL"),
        _RUN.format("b" * 32, "deleted", "77"),
        f"INSERT INTO params (key, value, run_uuid) VALUES ('lr', '0.1', '{'a' * 32}')",
        f"INSERT INTO tags (key, value, run_uuid) VALUES ('mlflow.user', 'ada', '{'a' * 32}')",
        "INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES"
        f" ('loss', 0.5, 6, 2, 0, '{'a' * 32}'), ('bad', 0, 6, 2, 1, '{'a' * 32}')",
        "INSERT INTO registered_models (name, creation_time, last_updated_time, description)"
        " VALUES ('m', 1, 2, 'words')",
        "INSERT INTO registered_model_tags (name, key, value) VALUES ('m', 'k', 'v')",
        "INSERT INTO model_versions (name, version, creation_time, last_updated_time, current_stage, source, run_id,"
        f" status) VALUES ('m', 1, 3, 4, 'Production', 's3://m', '{'a' * 32}', 'READY')",
        "INSERT INTO model_version_tags (name, version, key, value) VALUES ('m', 1, 'k', 'v')",
    ),
    "3500859a5d39": (
        "INSERT INTO registered_models (name, creation_time) VALUES ('aliased', 1)",
        "INSERT INTO model_versions (name, version, creation_time, current_stage, source, status)"
        " VALUES ('aliased', 1, 3, 'None', 's3://a', 'READY')",
        "INSERT INTO registered_model_aliases (name, alias, version) VALUES ('aliased', 'champion', 1)",
    ),
    "7f2a7d5fae7d": (
        _RUN.format("c" * 32, "active", "NULL"),
        "INSERT INTO datasets (dataset_uuid, experiment_id, name, digest, dataset_source_type, dataset_source)"
        " VALUES ('d-1', 1, 'iris', 'abc', 'local', '{}')",
        "INSERT INTO inputs (input_uuid, source_type, source_id, destination_type, destination_id)"
        f" VALUES ('i-1', 'DATASET', 'd-1', 'RUN', '{'c' * 32}')",
        "INSERT INTO input_tags (input_uuid, name, value) VALUES ('i-1', 'context', 'training')",
    ),
    "acf3f17fdcc7": ("UPDATE model_versions SET storage_location = 's3://kept' WHERE name = 'm'",),
    "867495a8f9d4": (
        _TRACE,
        "INSERT INTO trace_tags (request_id, key, value) VALUES ('tr-1', 'mlflow.traceName', 'answer'),"
        " ('tr-1', 'k', 'v')",
        "INSERT INTO trace_request_metadata (request_id, key, value) VALUES ('tr-1', 'mlflow.sourceRun', 'r'),"
        f" ('tr-1', 'mlflow.trace.session', 's'), ('tr-1', 'mlflow.trace.cost', '{_COST}'),"
        f" ('tr-1', 'mlflow.trace.tokenUsage', '{_TOKENS}'), ('tr-1', 'mlflow.traceInputs', 'what was asked')",
    ),
    "6953534de441": (
        "INSERT INTO logged_models (model_id, experiment_id, name, artifact_location, creation_timestamp_ms,"
        " last_updated_timestamp_ms, status, lifecycle_stage) VALUES ('m-1', 1, 'owl', 's3://o', 1, 2, 2, 'active')",
        "INSERT INTO logged_model_tags (model_id, experiment_id, tag_key, tag_value) VALUES ('m-1', 1, 't', 'v')",
        "INSERT INTO logged_model_params (model_id, experiment_id, param_key, param_value) VALUES ('m-1', 1, 'p', '1')",
        "INSERT INTO logged_model_metrics (model_id, metric_name, metric_timestamp_ms, metric_step, metric_value,"
        f" experiment_id, run_id) VALUES ('m-1', 'f1', 1, 1, 0.5, 1, '{'a' * 32}'), ('m-1', 'f1', 2, 2, 0.6, 1,"
        f" '{'a' * 32}')",
        _RUN.format("d" * 32, "active", "NULL"),
        "INSERT INTO inputs (input_uuid, source_type, source_id, destination_type, destination_id, step) VALUES"
        f" ('i-2', 'RUN_OUTPUT', '{'d' * 32}', 'MODEL_OUTPUT', 'm-1', 4),"
        f" ('i-3', 'RUN_INPUT', '{'d' * 32}', 'MODEL_INPUT', 'm-1', 0)",
    ),
    "1a0cddfcaa16": (
        "INSERT INTO webhooks (webhook_id, name, url, status, creation_timestamp) VALUES ('w', 'w', 'https://h/x',"
        " 'ACTIVE', 1)",
        "INSERT INTO webhook_events (webhook_id, entity, action) VALUES ('w', 'registered_model', 'created')",
    ),
    "1b5f0d9ad7c1": (
        "INSERT INTO experiments (experiment_id, name, workspace, lifecycle_stage) VALUES (9, 'x', 'elsewhere',"
        " 'active')",
        "INSERT INTO registered_models (name, workspace, creation_time) VALUES ('m', 'elsewhere', 1)",
        _RUN.format("e" * 32, "active", "NULL").replace(" 1, NULL", " 9, NULL"),
    ),
}


def main(folder: Path, revisions: Sequence[str]) -> None:
    """Make the files."""
    from mlflow.store.db.utils import _get_alembic_config
    from mlflow.store.tracking.dbmodels.initial_models import Base
    from sqlalchemy import create_engine

    from alembic import command

    logging.disable()
    growing = folder / "growing.db"
    engine = create_engine(f"sqlite:///{growing}")
    Base.metadata.create_all(engine)
    config = _get_alembic_config(f"sqlite:///{growing}")  # type: ignore[no-untyped-call]
    for revision in revisions:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
        with closing(sqlite3.connect(growing)) as file, file:
            for statement in CONTENT.get(revision, ()):
                file.execute(statement)
        shutil.copyfile(growing, folder / f"{revision}.db")
    engine.dispose()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
