"""The summary of a stock that was taken once: assets in, figures out. Pure: no clock, no file, no database.

Memory grows with what is told apart (parameter sets, names of experiments), never with documents.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from stocktake.core.assets import Asset, Kind, Lifecycle
from stocktake.reports.figures import Figure, Tallies

#: A run that began so long ago and still says that it is running was killed, or its client lost the server.
STALE = timedelta(days=7)

_DECLARED = {
    "experiment.total": "experiments",
    "experiment.deleted": "of them deleted",
    "experiment.same_name": "experiments whose name another one has",
    "run.total": "runs",
    "run.finished": "of them finished",
    "run.failed": "of them failed",
    "run.killed": "of them killed",
    "run.moving": "of them running or scheduled",
    "run.deleted": "of them deleted",
    "run.in_deleted_experiment": "of them not deleted themselves, but in a deleted experiment",
    "run.stale": f"runs that have been running for more than {STALE.days} days",
    "run.duplicate": "finished runs that repeat another of their experiment: the same parameters, code and data",
    "run.parent_missing": "parent runs that are not there",
    "logged_model.total": "logged models",
    "logged_model.deleted": "of them deleted",
    "logged_model.pending": "of them never finished",
    "registered_model.total": "registered models",
    "model_version.total": "model versions",
    "model_version.deleted": "of them deleted",
    "model_version.run_missing": "model versions whose run is not there",
    "trace.total": "traces",
    "secret.value": "values that look like secrets",
}
_ALWAYS = frozenset({"experiment.total", "run.total"})


class Stock:
    """Counts assets as they come: experiments and model versions before runs."""

    def __init__(self, now: datetime, *, folders: bool = False) -> None:
        """`folders`: what is counted was found in folders, so that theirs are there."""
        found = {"run.deleted": "of them deleted, their folders still there"} if folders else {}
        self._now = now
        self._tallies = Tallies(_DECLARED | found, _ALWAYS)
        self._names = dict[str, str]()
        self._deleted = set[str]()  # experiments
        self._repeated = dict[int, str]()
        self._wanted = dict[str, str]()  # run -> the model version that came from it
        self._parents = dict[int, str]()
        self._runs = set[int]()

    def add(self, asset: Asset, size: int | None = None) -> None:
        """Count an asset; `size` are the bytes of its folder, where they were measured."""
        gone = asset.lifecycle is Lifecycle.DELETED
        if asset.kind is Kind.EXPERIMENT:
            self._experiment(asset, gone=gone)
        elif asset.kind is Kind.RUN:
            self._run(asset, size, gone=gone)
        elif f"{asset.kind}.total" in _DECLARED:
            self._tallies[f"{asset.kind}.total"].add(None, size)
            if gone:
                self._tallies[f"{asset.kind}.deleted"].add(asset.key, size)
            if asset.kind is Kind.LOGGED_MODEL and asset.state == "PENDING":
                self._tallies["logged_model.pending"].add(asset.key, size)
            if asset.kind is Kind.MODEL_VERSION and asset.run and not gone:
                self._wanted.setdefault(asset.run, asset.key)

    def secret(self, asset: Asset, path: str) -> None:
        """Count a value that looks like a secret: where it stands, never what it is."""
        self._tallies["secret.value"].add(f"{asset.kind} {asset.key}: {path}")

    def figures(self, text: Callable[[str], str]) -> list[Figure]:
        """What was counted; `text` takes the secrets out of names."""
        for version in self._wanted.values():
            self._tallies["model_version.run_missing"].add(version)
        for number, parent in self._parents.items():
            if number not in self._runs:
                self._tallies["run.parent_missing"].add(parent)
        return self._tallies.figures(text)

    def _experiment(self, asset: Asset, *, gone: bool) -> None:
        self._tallies["experiment.total"].add()
        if gone:
            self._deleted.add(asset.key)
            self._tallies["experiment.deleted"].add(_named(asset))
        name = asset.name or ""
        if name in self._names:
            self._tallies["experiment.same_name"].add(f"{name} ({self._names[name]} and {asset.key})")
        self._names.setdefault(name, asset.key)

    def _run(self, asset: Asset, size: int | None, *, gone: bool) -> None:
        told, state = self._tallies, asset.state or ""
        told["run.total"].add(None, size)
        self._runs.add(hash(asset.key))
        self._wanted.pop(asset.key, None)
        if asset.parent:
            self._parents[hash(asset.parent)] = asset.parent
        if gone:
            told["run.deleted"].add(_named(asset), size)
        elif asset.partition in self._deleted:
            told["run.in_deleted_experiment"].add(_named(asset), size)
        if state in ("FINISHED", "FAILED", "KILLED"):
            told[f"run.{state.lower()}"].add(_named(asset) if state == "FAILED" else None, size)
        if state in ("RUNNING", "SCHEDULED"):
            told["run.moving"].add(None, size)
            began = asset.started_at
            if not gone and (began is None or began < self._now - STALE):
                since = f" since {began:%Y-%m-%d}" if began else ""
                told["run.stale"].add(f"{_named(asset)}{since}", size)
        if state == "FINISHED" and not gone and asset.params_digest and asset.document.get("params"):
            self._count_repeated(asset, size)

    def _count_repeated(self, asset: Asset, size: int | None) -> None:
        same = hash((asset.partition, asset.params_digest, asset.code_version, asset.data_version, asset.parent))
        if (first := self._repeated.get(same)) is not None:
            self._tallies["run.duplicate"].add(f"{asset.key} repeats {first}", size)
        else:
            self._repeated[same] = asset.key


def _named(asset: Asset) -> str:
    return f"{asset.name} ({asset.key})" if asset.name and asset.name != asset.key else asset.key
