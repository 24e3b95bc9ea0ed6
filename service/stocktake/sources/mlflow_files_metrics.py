"""Metric files of an `mlruns` folder: lines of `timestamp value [step ...]`, read as a stream; the last value counts.

The last is the largest by (step, timestamp, value), as MLflow's FileStore and its migration to a database pick it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from stocktake.sources.mlflow_files_reading import FRESH, Folder, Malformed, Remarks, walk

_LINE = 4096  # no line of MLflow's comes near
_INT64 = 1 << 63
_Point = tuple[int, int, float]  # step, timestamp, value


def run_metrics(run: Folder, remarks: Remarks) -> list[dict[str, Any]]:
    """The last value of each metric of a run.

    A line of five fields names a dataset. MLflow's FileStore reads its step as 0; the step that was written is taken,
    as the migration takes it. Like a database, a run remembers the last value whatever the dataset.
    """
    found = []
    for folder, file, key in walk(run, "metrics", remarks):
        best: _Point | None = None
        for parts in _lines(folder, file, remarks, (2, 3, 5)):
            point = _point(parts)
            if point is None:
                remarks.note("line of a metric that is not understood", folder.path(file))
            elif best is None or point > best:
                best = point
        if best is None:
            remarks.note("metric without a value", folder.path(file))
        else:
            found.append(_metric(key, best))
    return found


def model_metrics(model: Folder, model_id: str, remarks: Remarks) -> list[dict[str, Any]]:
    """The last values of each metric of a logged model, by dataset; its lines name the run that measured.

    Where several runs measured at the last time and step, all of them: which one counts is decided for every source
    in one place, `parse_metrics`.
    """
    found = []
    for folder, file, key in walk(model, "metrics", remarks):
        best: dict[tuple[str, ...], list[tuple[_Point, str]]] = {}
        for parts in _lines(folder, file, remarks, (4, 6)):
            point, dataset = _point(parts), tuple(parts[4:6])
            if point is None:
                remarks.note("line of a metric that is not understood", folder.path(file))
            elif dataset not in best or _when(point) > _when(best[dataset][0][0]):
                best[dataset] = [(point, parts[3])]
            elif _when(point) == _when(best[dataset][0][0]):
                best[dataset].append((point, parts[3]))
        if not best:
            remarks.note("metric without a value", folder.path(file))
        for dataset, last in sorted(best.items()):
            about = {"dataset_name": dataset[0], "dataset_digest": dataset[1]} if dataset else {}
            found += [_metric(key, point) | {"model_id": model_id, "run_id": run} | about for point, run in last]
    return found


def _when(point: _Point) -> tuple[int, int]:
    """A logged model's metrics are ordered by time and then by step, those of a run by step and then by time."""
    step, timestamp, _ = point
    return timestamp, step


def _metric(key: str, point: _Point) -> dict[str, Any]:
    step, timestamp, value = point
    told: float | str = value
    if not math.isfinite(value):  # as proto3 JSON writes them
        told = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return {"key": key, "value": told, "timestamp": timestamp, "step": step}


def _lines(folder: Folder, name: str, remarks: Remarks, lengths: tuple[int, ...]) -> Iterator[list[str]]:
    """The fields of each line. Half a line that is just being written is left for the next scan. Raises OSError."""
    try:
        with folder.file(name) as (file, age):
            while line := file.readline(_LINE):
                if not line.endswith(b"\n") and (len(line) == _LINE or age < FRESH):
                    if len(line) == _LINE:
                        remarks.note("line of a metric that is not understood", folder.path(name))
                    return
                parts = line.decode("utf-8", "replace").strip().split(" ")
                if len(parts) in lengths:
                    yield parts
                else:
                    remarks.note("line of a metric that is not understood", folder.path(name))
    except Malformed as exc:
        remarks.note(f"value left out: {exc}", folder.path(name))


def _point(parts: list[str]) -> _Point | None:
    try:
        timestamp, value = int(parts[0]), float(parts[1])
        step = int(parts[2]) if len(parts) > 2 else 0
    except ValueError:
        return None
    return (step, timestamp, value) if abs(step) < _INT64 and abs(timestamp) < _INT64 else None
