"""Writes an `mlruns` folder by hand, a file at a time, as MLflow's FileStore does, for tests that break something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

STARTED = 1_700_000_000_000


def write(path: Path, text: str | bytes) -> Path:
    """Write a file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def meta(folder: Path, **values: Any) -> Path:
    """Write a meta.yaml."""
    return write(folder / "meta.yaml", yaml.safe_dump(values))


def experiment(mlruns: Path, key: str, *, trash: bool = False, **values: Any) -> Path:
    """An experiment; returns its folder."""
    folder = mlruns / ".trash" / key if trash else mlruns / key
    told = {"experiment_id": key, "name": f"experiment {key}", "lifecycle_stage": "active", "creation_time": STARTED}
    meta(folder, **(told | {"artifact_location": f"file:///elsewhere/mlruns/{key}"} | values))
    return folder


def run_id(number: int) -> str:
    """An id as MLflow's look."""
    return f"{number:032x}"


def run(folder: Path, number: int, *, params: dict[str, str] | None = None, **values: Any) -> Path:
    """A run in an experiment's folder, finished unless told otherwise; returns its folder."""
    key = run_id(number)
    told = {"run_id": key, "run_uuid": key, "experiment_id": folder.name, "run_name": f"run {number}", "status": 3}
    told |= {"lifecycle_stage": "active", "start_time": STARTED + number, "end_time": STARTED + number + 1000}
    told |= {"user_id": "ada", "artifact_uri": f"file:///elsewhere/mlruns/{folder.name}/{key}/artifacts"}
    meta(folder / key, **(told | values))
    for name, value in (params or {}).items():
        write(folder / key / "params" / name, value)
    write(folder / key / "metrics" / "loss", f"{STARTED} 0.5 0\n{STARTED + 1} 0.25 1\n")
    write(folder / key / "tags" / "mlflow.user", "ada")
    return folder / key


def small_store(mlruns: Path, runs: int = 3) -> Path:
    """Experiments 0 and 1; `runs` runs in 1. Returns the folder of 1."""
    experiment(mlruns, "0", name="Default")
    folder = experiment(mlruns, "1")
    for number in range(1, runs + 1):
        run(folder, number)
    return folder
