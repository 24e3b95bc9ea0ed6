"""The corpus of the benchmarks: runs as an MLflow server's JSON pages, on disk, the same for every reader.

A run has 10 params, 10 metrics and 5 tags, and is written as MLflow 3.17 writes it: indented, about 3,600 bytes.
Everything follows from the number of a run and a generation, so that nothing but the numbers is kept in memory.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

EXPERIMENTS = 2_000
PAGE = 1_000
_BEGAN = 1_700_000_000_000

_RUN = """    {
      "info": {
        "run_uuid": "%(id)s",
        "experiment_id": "%(experiment)d",
        "run_name": "%(name)s",
        "user_id": "%(user)s",
        "status": "FINISHED",
        "start_time": %(start)d,
        "end_time": %(end)d,
        "artifact_uri": "mlflow-artifacts:/%(experiment)d/%(id)s/artifacts",
        "lifecycle_stage": "active",
        "run_id": "%(id)s"
      },
      "data": {
        "metrics": [
%(metrics)s
        ],
        "params": [
%(params)s
        ],
        "tags": [
%(tags)s
        ]
      },
      "inputs": {},
      "outputs": {}
    }"""
_METRIC = """          {
            "key": "validation_metric_%d",
            "value": %r,
            "timestamp": %d,
            "step": %d
          }"""
_PAIR = """          {
            "key": "%s",
            "value": "%s"
          }"""
_NAMES = ("learning_rate", "batch_size", "max_depth", "n_estimators", "dropout", "optimizer", "seed", "epochs",
          "weight_decay", "tokenizer")  # fmt: skip
_WORDS = ("adam", "sgd", "relu", "gelu", "bert-base-uncased", "cosine", "linear", "none", "auto", "balanced")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What differs from the first generation: every how-manieth run was edited, is gone, was added."""

    edited: int = 0
    gone: int = 0
    added: int = 0

    def is_edited(self, number: int) -> bool:
        """Whether the run with this number has a tag of its own by now."""
        return bool(self.edited) and number % self.edited == 1

    def is_gone(self, number: int) -> bool:
        """Whether the run with this number is no longer there."""
        return bool(self.gone) and number % self.gone == 2


#: 1 % edited, 0.5 % purged, 0.5 % new.
SECOND = Change(edited=100, gone=200, added=200)


def run_id(number: int) -> str:
    """The id of a run: 32 hexadecimal digits without any order, as MLflow's."""
    return hashlib.md5(b"%d" % number, usedforsecurity=False).hexdigest()


def run_json(number: int, experiment: int, *, edited: bool = False) -> str:
    """One run as it stands on a page."""
    ident = run_id(number)
    dice = hashlib.sha256(b"%d" % number).digest() * 2
    start = _BEGAN + number * 1000
    metrics = ",\n".join(
        _METRIC % (m, int.from_bytes(dice[m : m + 6], "big") / 2**48, start + 5000 + m, dice[m]) for m in range(10)
    )
    params = [
        _PAIR % (name, f"{dice[p] / 256:.6f}" if p < 5 else _WORDS[dice[p] % 10]) for p, name in enumerate(_NAMES)
    ]
    tags = [
        ("mlflow.user", f"user{number % 50}"),
        ("mlflow.source.name", "/Workspace/Repos/team/train_model.py"),
        ("mlflow.source.type", "LOCAL"),
        ("mlflow.source.git.commit", hashlib.sha1(b"%d" % (number % 997), usedforsecurity=False).hexdigest()),
        ("mlflow.runName", f"bustling-shrike-{number % 1000}"),
    ]
    if edited:
        tags[4] = ("mlflow.runName", f"renamed-{number}")
    return _RUN % {
        "id": ident,
        "experiment": experiment,
        "name": tags[4][1],
        "user": tags[0][1],
        "start": start,
        "end": start + 60_000,
        "metrics": metrics,
        "params": ",\n".join(params),
        "tags": ",\n".join(_PAIR % pair for pair in tags),
    }


def experiment_json(experiment: int) -> str:
    """One experiment as it stands on a page."""
    return json.dumps(
        {
            "experiment_id": str(experiment),
            "name": f"team-{experiment % 40}/project-{experiment}",
            "artifact_location": f"mlflow-artifacts:/{experiment}",
            "lifecycle_stage": "active",
            "last_update_time": _BEGAN,
            "creation_time": _BEGAN,
            "tags": [{"key": "owner", "value": f"team-{experiment % 40}"}],
        },
        indent=2,
    )


class Corpus:
    """Pages in a file. `scopes` yields the experiments of a request and the pages that answer it."""

    def __init__(
        self, folder: Path, *, runs: int, change: Change | None = None, experiments: int = EXPERIMENTS
    ) -> None:
        self.runs = runs
        self.change = change or Change()
        self.experiments = experiments
        self.per_experiment = runs // experiments
        self._pages = folder / ("second.pages" if change else "first.pages")
        self._index = folder / ("second.index" if change else "first.index")

    def write(self) -> int:
        """Write the pages; returns the number of runs on them."""
        written = 0
        with self._pages.open("wb") as pages, self._index.open("w") as index:
            for experiments in self._scopes():
                rows = [row for experiment in experiments for row in self._runs(experiment)]
                written += len(rows)
                for start in range(0, len(rows), PAGE):
                    block = rows[start : start + PAGE]
                    token = '"next_page_token": "x"' if start + PAGE < len(rows) else '"next_page_token": ""'
                    body = ('{\n  "runs": [\n' + ",\n".join(block) + f"\n  ],\n  {token}\n}}").encode()
                    index.write(f"{pages.tell()} {len(body)} {experiments[0]} {experiments[-1]}\n")
                    pages.write(body)
        return written

    def pages(self) -> Iterator[tuple[range, bytes]]:
        """Every page with the experiments whose scope it is in; the file is mapped, so that it counts for nobody."""
        with self._pages.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            for line in self._index.open():
                offset, size, first, last = map(int, line.split())
                yield range(first, last + 1), mapped[offset : offset + size]
                if offset % 2**26 > (offset + size) % 2**26:
                    mapped.madvise(mmap.MADV_DONTNEED)

    def _scopes(self) -> Iterator[range]:
        """As the plan of the source packs them: about a thousand runs share a request."""
        width = max(1, min(200, PAGE // max(1, self.per_experiment)))
        for first in range(0, self.experiments, width):
            yield range(first, min(first + width, self.experiments))

    def _runs(self, experiment: int) -> Iterator[str]:
        """A new run is one of its experiment's that has a number beyond the first generation."""
        for offset in range(self.per_experiment):
            number = experiment * self.per_experiment + offset
            if self.change.added and number % self.change.added == 3:
                yield run_json(self.runs + number, experiment)
            if not self.change.is_gone(number):
                yield run_json(number, experiment, edited=self.change.is_edited(number))
