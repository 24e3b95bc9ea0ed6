"""Fills a server with a little of everything, over REST: what a scan must find is known by name.

It writes like MLflow's own client does, so it must only ever be pointed at a server that a test has started.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.servers.mlflow_server import ADMIN

V2 = "/api/2.0/mlflow"
V3 = "/api/3.0/mlflow"


class Writer:
    """Posts to a server, as a user where it has users."""

    def __init__(self, uri: str, user: tuple[str, str] | None = None, workspace: str | None = None) -> None:
        headers = {"X-MLFLOW-WORKSPACE": workspace} if workspace else {}
        self._client = httpx.Client(base_url=uri, auth=user, headers=headers, timeout=60.0, trust_env=False)

    def send(self, path: str, body: dict[str, Any], method: str = "POST") -> Any:
        """Send, and insist on success."""
        answer = self._client.request(method, path, json=body)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:500]}"
        return answer.json() if answer.content else {}

    def experiment(self, name: str, **tags: str) -> str:
        """Create an experiment."""
        body = {"name": name, "tags": [{"key": key, "value": value} for key, value in tags.items()]}
        return str(self.send(f"{V2}/experiments/create", body)["experiment_id"])

    def run(
        self,
        experiment: str,
        name: str = "a run",
        *,
        start: int = 1_700_000_000_000,
        status: str = "FINISHED",
        params: dict[str, str] | None = None,
        metrics: dict[str, Any] | None = None,
        tags: dict[str, str] | None = None,
    ) -> str:
        """Create a run, log to it and end it."""
        body = {
            "experiment_id": experiment,
            "run_name": name,
            "start_time": start,
            "tags": [{"key": key, "value": value} for key, value in (tags or {}).items()],
        }
        run: str = self.send(f"{V2}/runs/create", body)["run"]["info"]["run_id"]
        at = {"timestamp": start + 5, "step": 3}
        batch = {
            "run_id": run,
            "params": [{"key": key, "value": value} for key, value in (params or {}).items()],
            "metrics": [{"key": key, "value": value, **at} for key, value in (metrics or {}).items()],
        }
        self.send(f"{V2}/runs/log-batch", batch)
        if status != "RUNNING":
            self.send(f"{V2}/runs/update", {"run_id": run, "status": status, "end_time": start + 1000})
        return run

    def logged_model(self, experiment: str, run: str, name: str) -> str:
        """Create and finalise a logged model."""
        body = {"experiment_id": experiment, "name": name, "source_run_id": run}
        body |= {"params": [{"key": "p", "value": "1"}], "tags": [{"key": "t", "value": "2"}]}  # type: ignore[dict-item]
        model: str = self.send(f"{V2}/logged-models", body)["model"]["info"]["model_id"]
        final = {"model_id": model, "status": "LOGGED_MODEL_READY"}
        self.send(f"{V2}/logged-models/{model}", final, method="PATCH")
        return model

    def registered_model(self, name: str, run: str, versions: int = 1, **aliases: str) -> None:
        """Create a registered model with versions and aliases (alias=version)."""
        body = {"name": name, "description": "for tests", "tags": [{"key": "team", "value": "vision"}]}
        self.send(f"{V2}/registered-models/create", body)
        for _ in range(versions):
            self.send(f"{V2}/model-versions/create", {"name": name, "source": f"runs:/{run}/model", "run_id": run})
        for alias, version in aliases.items():
            self.send(f"{V2}/registered-models/alias", {"name": name, "alias": alias, "version": version})

    def trace(self, experiment: str, trace: str, run: str) -> str:
        """Create a trace with what a user asked in its metadata."""
        info = {
            "trace_id": trace,
            "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment}},
            "request_time": "2026-01-02T03:04:05.678Z",
            "execution_duration": "0.379s",
            "state": "OK",
            "request_preview": "what the user asked",
            "trace_metadata": {"mlflow.sourceRun": run, "mlflow.traceInputs": "what the user asked"},
            "tags": {"mlflow.traceName": "answer"},
        }
        self.send(f"{V3}/traces", {"trace": {"trace_info": info}})
        return trace

    def close(self) -> None:
        """Release connections."""
        self._client.close()


@dataclass(slots=True, kw_only=True)
class Content:
    """Ids of what was made."""

    experiment: str  # tagged
    deleted_experiment: str
    run: str  # with params, metrics (NaN and Infinity too), tags, a dataset, a logged model
    child: str
    failed: str
    running: str
    deleted_run: str
    run_of_deleted_experiment: str
    logged_model: str = ""  # empty on MLflow 2
    trace: str = ""  # empty on MLflow 2
    models: list[str] = field(default_factory=list)


def fill(
    uri: str,
    *,
    users: bool = False,
    workspace: str | None = None,
    v3: bool = True,
    webhooks: bool = True,
    traces: bool = True,
) -> Content:
    """Fill an empty server. A server over a folder has no webhooks; one before MLflow 3.2 takes no traces over REST."""
    writer = Writer(uri, ADMIN if users else None, workspace)
    try:
        experiment = writer.experiment("vision/ünïcode", team="vision")
        other = writer.experiment("old ideas")
        git = {"mlflow.source.git.commit": "c0ffee" * 6 + "c0ff", "mlflow.user": "ada", "owner": "grace"}
        run = writer.run(
            experiment,
            "parent",
            params={"lr": "0.1", "note": 'ü " \\ \n emoji 🦉'},
            metrics={"loss": "NaN", "acc": 0.5, "worst": "Infinity", "a/b c.d": 1e-300},
            tags=git,
        )
        dataset = {"name": "iris", "digest": "abc123", "source_type": "local", "source": '{"uri": "iris.csv"}'}
        dataset |= {"schema": '{"cols": []}', "profile": '{"rows": 150}'}
        tag = {"key": "mlflow.data.context", "value": "training"}
        writer.send(f"{V2}/runs/log-inputs", {"run_id": run, "datasets": [{"tags": [tag], "dataset": dataset}]})
        content = Content(
            experiment=experiment,
            deleted_experiment=other,
            run=run,
            child=writer.run(experiment, "child", tags={"mlflow.parentRunId": run}),
            failed=writer.run(experiment, "failed", status="FAILED"),
            running=writer.run(experiment, "running", status="RUNNING"),
            deleted_run=writer.run(experiment, "deleted"),
            run_of_deleted_experiment=writer.run(other, "of a deleted experiment"),
        )
        writer.send(f"{V2}/runs/delete", {"run_id": content.deleted_run})
        writer.send(f"{V2}/experiments/delete", {"experiment_id": other})
        writer.registered_model("classifier", run, versions=2, champion="2", challenger="1")
        writer.registered_model("plain", run)
        content.models = ["classifier", "plain"]
        if v3:
            content.logged_model = writer.logged_model(experiment, run, "owl")
            if traces:
                content.trace = writer.trace(experiment, "tr-" + "0" * 31 + "1", run)
            outputs = {"run_id": run, "models": [{"model_id": content.logged_model, "step": 7}]}
            writer.send(f"{V2}/runs/outputs", outputs)
        if v3 and webhooks:
            hook = {"name": "to-chat", "url": "https://127.0.0.1:9/services/T000/B000/s3cr3t", "status": "DISABLED"}
            hook["events"] = [{"entity": "REGISTERED_MODEL", "action": "CREATED"}]  # type: ignore[assignment]
            writer.send(f"{V2}/webhooks", hook)
        return content
    finally:
        writer.close()


def fill_more(uri: str, content: Content, *, folder: bool = False, traces: bool = True) -> None:
    """Add to a filled server of MLflow 3 what only some ways of reading can see, and what is easily read wrongly.

    A server over a folder has no webhooks, and refuses % in a name.
    """
    writer = Writer(uri)
    try:
        _fill_more(writer, content)
        if traces:
            _traces(writer, content.experiment)
        if not folder:
            _only_in_a_database(writer, content)
    finally:
        writer.close()


def _fill_more(writer: Writer, content: Content) -> None:
    run, experiment = content.run, content.experiment
    # A model that is only an input; metrics of models on datasets, twice at the same time; a deleted model.
    eaten = writer.logged_model(experiment, run, "eaten")
    writer.send(f"{V2}/runs/log-inputs", {"run_id": content.child, "models": [{"model_id": eaten}]})
    for one, value, step in ((run, 0.25, 1), (run, 0.75, 2), (content.child, "NaN", 2), (run, -1e308, 0)):
        metric = {"run_id": one, "model_id": eaten, "key": "f1", "value": value, "timestamp": 1_700_000_000_007}
        metric |= {"step": step, "dataset_name": "iris", "dataset_digest": "abc123"}
        writer.send(f"{V2}/runs/log-metric", metric)
    doomed = writer.logged_model(experiment, run, "doomed")
    writer.send(f"{V2}/logged-models/{doomed}", {}, method="DELETE")
    # A tombstone, a version with words of its own, a stage, an odd name, a prompt.
    writer.registered_model("buried", run, versions=2)
    writer.send(f"{V2}/model-versions/delete", {"name": "buried", "version": "1"}, method="DELETE")
    about = {"name": "plain", "version": "1", "description": "words\n of 'its' own"}
    writer.send(f"{V2}/model-versions/update", about, method="PATCH")
    writer.send(f"{V2}/model-versions/set-tag", {"name": "plain", "version": "1", "key": "a b", "value": ""})
    stage = {"name": "plain", "version": "1", "stage": "Staging", "archive_existing_versions": False}
    writer.send(f"{V2}/model-versions/transition-stage", stage)
    prompt = [{"key": "mlflow.prompt.is_prompt", "value": "true"}]
    text = [*prompt, {"key": "mlflow.prompt.text", "value": "Say {{ word }}"}]
    writer.send(f"{V2}/registered-models/create", {"name": "greeting", "tags": prompt})
    writer.send(f"{V2}/model-versions/create", {"name": "greeting", "source": "prompt-template", "tags": text})
    # A run without anything; datasets shared by runs, one with a long schema; a name that only a tag has.
    writer.run(experiment, "", metrics={"low": "-Infinity", "tiny": 5e-324, "large": 1.7976931348623157e308})
    dataset = {"name": "big", "digest": "d1", "source_type": "http", "source": "{}", "schema": "x" * 5000}
    for one in (run, content.child):
        writer.send(f"{V2}/runs/log-inputs", {"run_id": one, "datasets": [{"tags": [], "dataset": dataset}]})
    writer.send(f"{V2}/experiments/set-experiment-tag", {"experiment_id": experiment, "key": "ü/ñ", "value": "🦉"})


def _traces(writer: Writer, experiment: str) -> None:
    """A trace with a session, tokens, a cost and texts longer than the API shows, and one that has not ended."""
    location = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment}}
    metadata = {"mlflow.trace.session": "s-1", "mlflow.trace.cost": '{"input_cost": 0.1, "total_cost": 1e-07}'}
    metadata |= {"mlflow.trace.tokenUsage": '{"input_tokens": 12, "total_tokens": 12}', "long": "y" * 300}
    info = {"trace_id": "tr-" + "0" * 31 + "2", "trace_location": location, "request_time": "2026-01-02T03:04:05Z"}
    info |= {"state": "ERROR", "execution_duration": "61.001s", "client_request_id": "c-1"}
    info |= {"trace_metadata": metadata, "tags": {"mlflow.traceName": "long", "text": "z" * 5000}}
    writer.send(f"{V3}/traces", {"trace": {"trace_info": info}})
    going = {"trace_id": "tr-" + "0" * 31 + "3", "trace_location": location, "request_time": "2026-01-02T03:04:06.5Z"}
    writer.send(f"{V3}/traces", {"trace": {"trace_info": going | {"state": "IN_PROGRESS"}}})


def _only_in_a_database(writer: Writer, content: Content) -> None:
    writer.registered_model("Ünïcode 100%", content.run)
    hook = {"name": "both", "url": "https://127.0.0.1:9/x", "description": "words"}
    events = [{"entity": "MODEL_VERSION", "action": "CREATED"}, {"entity": "REGISTERED_MODEL", "action": "CREATED"}]
    writer.send(f"{V2}/webhooks", hook | {"events": events})
