"""What happens behind stocktake's back between its first look and its second, and what it ought to report.

Each step is one thing that somebody does with the client of MLflow. Nobody tells stocktake.
"""

# ruff: noqa: ARG001 - every act takes the same arguments, whether it needs them or not

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stocktake.demo import training
from stocktake.demo.fill import STEPS_BEFORE_THE_FIRST_LOOK, Filled, log_run

RENAMED = "sourcing/wine-origin"
MODEL, ALIAS, WAS_CHAMPION, IS_CHAMPION = "tumour-screening", "champion", "1", "2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """One change that a complete scan must report, by kind, name and type.

    `fields` are words that must stand in the paths of what differs. Expectations with the same kind, name and type
    are one change: between two looks, two edits of one asset are one difference.
    """

    kind: str
    name: str
    type: str
    fields: tuple[str, ...] = ()
    includes: dict[str, int] = field(default_factory=dict)  # changes told as part of this one, by kind
    actor: str = "unknown"  # whom a source names


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that somebody does."""

    what: str
    act: Callable[[Any, Filled, int], object]
    expected: tuple[Expected, ...]


def _champion_moves(client: Any, filled: Filled, now_ms: int) -> None:
    client.set_registered_model_alias(MODEL, ALIAS, IS_CHAMPION)


def _late_tag(client: Any, filled: Filled, now_ms: int) -> None:
    client.set_tag(filled.runs["boosted-depth-3"], "review.state", "approved")


def _late_metric(client: Any, filled: Filled, now_ms: int) -> None:
    client.log_metric(filled.runs["boosted-depth-2"], "recall_at_specificity_99", 0.87)


def _description(client: Any, filled: Filled, now_ms: int) -> None:
    client.update_model_version("tumour-screening", "2", "Approved for the autumn release.")


def _overnight_ends(client: Any, filled: Filled, now_ms: int) -> None:
    run = filled.runs["mlp-128-overnight"]
    for step, loss in enumerate(filled.trained["mlp-128-overnight"].curves["loss"]):
        if step >= STEPS_BEFORE_THE_FIRST_LOOK:
            client.log_metric(run, "loss", loss, step=step)
    client.set_terminated(run)


def _new_run(client: Any, filled: Filled, now_ms: int) -> None:
    log_run(client, filled, training.wine_forest(), now_ms)


def _run_deleted(client: Any, filled: Filled, now_ms: int) -> None:
    client.delete_run(filled.runs["knn-3"])


def _run_restored(client: Any, filled: Filled, now_ms: int) -> None:
    client.restore_run(filled.runs["forest-first-try"])


def _experiment_deleted(client: Any, filled: Filled, now_ms: int) -> None:
    client.delete_experiment(filled.experiments[training.ONBOARDING])


def _experiment_renamed(client: Any, filled: Filled, now_ms: int) -> None:
    client.rename_experiment(filled.experiments[training.SOURCING], RENAMED)


STEPS: tuple[Step, ...] = (
    Step(
        what="tumour-screening: the alias champion moves from version 1 to version 2",
        act=_champion_moves,
        expected=(
            # Version 1 lost the alias: that is the same story, told with the registered model's.
            Expected(
                kind="registered_model",
                name="tumour-screening",
                type="updated",
                fields=("aliases.champion",),
                includes={"model_version": 1},
            ),
            Expected(kind="model_version", name="tumour-screening/2", type="updated", fields=("aliases",)),
        ),
    ),
    Step(
        what="boosted-depth-3, finished long ago: its tag review.state becomes approved",
        act=_late_tag,
        expected=(Expected(kind="run", name="boosted-depth-3", type="updated", fields=("tags",)),),
    ),
    Step(
        what="boosted-depth-2, finished long ago: a new metric appears",
        act=_late_metric,
        expected=(Expected(kind="run", name="boosted-depth-2", type="updated", fields=("metrics",)),),
    ),
    Step(
        what="tumour-screening version 2: somebody writes a description",
        act=_description,
        expected=(Expected(kind="model_version", name="tumour-screening/2", type="updated", fields=("description",)),),
    ),
    Step(
        what="mlp-128-overnight: the hanging run logs its last epochs and finishes",
        act=_overnight_ends,
        expected=(
            Expected(kind="run", name="mlp-128-overnight", type="updated", fields=("status", "end_time", "metrics")),
        ),
    ),
    Step(
        what=f"{training.SOURCING}: somebody trains one more model",
        act=_new_run,
        expected=(Expected(kind="run", name="extra-trees-20", type="created"),),
    ),
    Step(
        what="knn-3: the run is deleted",
        act=_run_deleted,
        expected=(Expected(kind="run", name="knn-3", type="deleted"),),
    ),
    Step(
        what="forest-first-try: a deleted run is restored",
        act=_run_restored,
        expected=(Expected(kind="run", name="forest-first-try", type="restored"),),
    ),
    Step(
        what=f"{training.ONBOARDING}: the experiment is deleted with its 12 runs",
        act=_experiment_deleted,
        expected=(Expected(kind="experiment", name=training.ONBOARDING, type="deleted", includes={"run": 12}),),
    ),
    Step(
        what=f"{training.SOURCING}: the experiment is renamed to {RENAMED}",
        act=_experiment_renamed,
        expected=(Expected(kind="experiment", name=RENAMED, type="updated", fields=("name",)),),
    ),
)


def change(client: Any, filled: Filled, now_ms: int, stage: Callable[[str], None]) -> None:
    """Do every step in turn; `stage` is told each."""
    for step in STEPS:
        stage(step.what)
        step.act(client, filled, now_ms)
