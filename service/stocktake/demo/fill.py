"""Writes what training.py trained into an MLflow server, as a small team would have over the last two months.

Only `team.py` runs this, in a process of its own: the client of MLflow is heavy, and it writes; stocktake never does.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stocktake.demo import training
from stocktake.demo.training import Trained

DAY_MS = 86_400_000
STEPS_BEFORE_THE_FIRST_LOOK = 8  # the overnight run has logged so many of its twelve epochs

#: Experiment -> owner, team, what it is about.
EXPERIMENTS = {
    training.ONCOLOGY: ("maria.lindqvist@example.com", "oncology", "Which lumps need a second look."),
    training.VISION: ("jonas.weber@example.com", "vision", "Reading the digits on paper forms."),
    training.SOURCING: ("amina.diallo@example.com", "sourcing", "Where a wine was grown."),
    training.CLINIC: ("li.wei@example.com", "clinic", "How a patient will do in a year."),
    training.BOTANY: ("amina.diallo@example.com", "sourcing", "The example everybody knows."),
    training.ONBOARDING: ("noah.smith@example.com", "platform", "First-day exercises."),
    training.OLD_NOTEBOOKS: ("noah.smith@example.com", "platform", "Nobody remembers."),
}

#: Registered model -> description, runs behind versions 1, 2, ..., alias -> version.
MODELS: dict[str, tuple[str, tuple[str, ...], dict[str, int]]] = {
    "tumour-screening": (
        "Flags samples for a second reading.",
        ("boosted-depth-2", "logreg-grid-04", "boosted-depth-3"),
        {"champion": 1, "challenger": 2},
    ),
    "digit-reader": ("Reads one digit of a form.", ("mlp-32", "mlp-64"), {"champion": 2}),
    "diabetes-progression": ("", ("ridge-0.1",), {"challenger": 1}),
    "wine-origin": ("Grower of a bottle.", ("svm-rbf-1",), {}),
}


@dataclass(slots=True)
class Filled:
    """What exists in the server now, by the names of the story; the changes look things up here."""

    trained: dict[str, Trained] = field(default_factory=dict)
    experiments: dict[str, str] = field(default_factory=dict)  # name -> id
    runs: dict[str, str] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)  # run name -> id of its logged model


def log_run(client: Any, filled: Filled, trained: Trained, now_ms: int) -> str:
    """Log one training with its data set, figures, tags and end, at the time the story gives it."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

    owner, team, _ = EXPERIMENTS[trained.experiment]
    started = now_ms - int(trained.days_ago * DAY_MS)
    ended = started + int(trained.minutes * 60_000)
    user = owner.partition("@")[0]
    tags = {
        "mlflow.user": user,
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": f"{team}/train.py",
        "mlflow.source.git.commit": "4f0c9d1e7a52b86390de41c7f5a8e26b3d7094c1",
        "owner": owner,
        "team": team,
        **trained.tags,
    }
    if trained.parent is not None:
        tags["mlflow.parentRunId"] = filled.runs[trained.parent]
    if trained.error is not None:
        tags["error"] = trained.error
    experiment = filled.experiments[trained.experiment]
    run = client.create_run(experiment, start_time=started, run_name=trained.name).info.run_id
    filled.trained[trained.name] = trained
    filled.runs[trained.name] = run
    shown = STEPS_BEFORE_THE_FIRST_LOOK if trained.status == "RUNNING" else None
    client.log_batch(
        run,
        metrics=[Metric(key, value, ended, 0) for key, value in trained.metrics.items()]
        + [
            Metric(key, value, started + step * 60_000, step)
            for key, curve in trained.curves.items()
            for step, value in enumerate(curve[:shown])
        ],
        params=[Param(key, value) for key, value in trained.params.items()],
        tags=[RunTag(key, value) for key, value in tags.items()],
    )
    if trained.data is not None:
        data = trained.data
        source = json.dumps({"uri": f"sklearn.datasets.load_{data.name}"})
        profile = json.dumps({"rows": data.rows, "features": len(data.columns)})
        entity = Dataset(name=data.name, digest=data.digest, source_type="code", source=source, profile=profile)
        client.log_inputs(run, [DatasetInput(dataset=entity, tags=[InputTag("mlflow.data.context", "training")])])
    if trained.status != "RUNNING":
        client.set_terminated(run, trained.status, ended)
    return str(run)


def log_models(client: Any, filled: Filled) -> None:
    """Log the kept estimators with MLflow's own scikit-learn flavour, and one model whose upload broke off."""
    import mlflow
    import sklearn

    for name, trained in filled.trained.items():
        if trained.model is None:
            continue
        info = mlflow.sklearn.log_model(
            trained.model,
            name=name.replace(".", "_"),  # MLflow allows no dot here
            run_id=filled.runs[name],
            pip_requirements=[f"scikit-learn=={sklearn.__version__}"],  # given, because guessing takes seconds
            serialization_format="cloudpickle",
            params=dict(trained.params),
            tags={"team": EXPERIMENTS[trained.experiment][1]},
        )
        filled.models[name] = info.model_id
    # Created, never finished.
    client.create_logged_model(
        filled.experiments[training.VISION], name="mlp-96-unfinished", source_run_id=filled.runs["mlp-96-preempted"]
    )


def register(client: Any, filled: Filled) -> None:
    """Register models with versions, descriptions, tags and aliases."""
    for model, (description, runs, aliases) in MODELS.items():
        team = EXPERIMENTS[filled.trained[runs[0]].experiment][1]
        client.create_registered_model(model, tags={"team": team}, description=description)
        for number, run in enumerate(runs, 1):
            client.create_model_version(
                model,
                source=f"models:/{filled.models[run]}",
                run_id=filled.runs[run],
                model_id=filled.models[run],
                tags={"validation": "passed"} if number in aliases.values() else None,
                description=f"{run}, as trained." if number == 1 else None,
            )
        for alias, number in aliases.items():
            client.set_registered_model_alias(model, alias, str(number))


def attach_notes(client: Any, filled: Filled) -> None:
    """Put a few small files beside runs, through the server's artifact proxy."""
    with tempfile.TemporaryDirectory(prefix="stocktake-demo-") as folder:
        for name in ("logreg-grid", "svm-kernels", "mlp-32-sgd"):
            trained = filled.trained[name]
            note = Path(folder) / "report.json"
            note.write_text(json.dumps({"run": name, "params": dict(trained.params), "error": trained.error}, indent=1))
            client.log_artifact(filled.runs[name], str(note))


def fill(client: Any, trainings: Sequence[Trained], now_ms: int, stage: Callable[[str], None]) -> Filled:
    """Write the whole story up to stocktake's first look; `stage` is told what comes next."""
    filled = Filled()
    stage("experiments")
    for name, (owner, team, about) in EXPERIMENTS.items():
        tags = {"owner": owner, "team": team, "mlflow.note.content": about}
        filled.experiments[name] = client.create_experiment(name, tags=tags)
    stage(f"{len(trainings)} runs")
    for trained in trainings:
        log_run(client, filled, trained, now_ms)
    stage("models, files and registry")
    log_models(client, filled)
    register(client, filled)
    attach_notes(client, filled)
    stage("deletions")
    for trained in trainings:
        if trained.deleted:
            client.delete_run(filled.runs[trained.name])
    client.delete_experiment(filled.experiments[training.OLD_NOTEBOOKS])
    return filled
