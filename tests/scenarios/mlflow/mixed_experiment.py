"""One experiment that holds unrelated projects: other code, and neither data nor a type of model in common."""

from __future__ import annotations

from datetime import timedelta

from tests.scenarios.frame import Plays, Plot, Scenario
from tests.scenarios.mlflow_world import MlflowWorld

RULE = "mixed-experiment"


def _project(
    world: MlflowWorld,
    experiment: str,
    code: str,
    data: str,
    *,
    runs: int = 4,
    model: str = "",
    ago: timedelta = timedelta(hours=1),
) -> None:
    for _ in range(runs):
        tags = {"mlflow.source.git.repoURL": code} if "://" in code else {"mlflow.source.name": code}
        tags |= {"estimator_name": model} if model else {}
        digest = f"{world.choose.getrandbits(32):08x}"
        world.run(experiment, tags=tags, data=(data, digest), ago=ago)


def _url(world: MlflowWorld) -> str:
    return f"https://git.example.org/{world.choose.choice(['ml', 'risk'])}/{world.name('repo').replace(' ', '-')}.git"


def two_repositories_with_data_of_their_own(world: MlflowWorld, plot: Plot) -> Plays:
    experiment = world.experiment()
    _project(world, experiment, _url(world), "claims")
    yield None
    _project(world, experiment, _url(world), "pixels", runs=world.choose.randint(3, 6))
    plot.fault(RULE, "experiment", experiment)
    yield None


def two_scripts_with_models_of_their_own(world: MlflowWorld, plot: Plot) -> Plays:
    experiment = world.experiment()
    _project(world, experiment, "/home/ada/churn/train.py", "claims", model="LogisticRegression")
    _project(world, experiment, "/home/ada/owl/train.py", "pixels", model="ResNet")
    plot.fault(RULE, "experiment", experiment)
    yield None


def the_same_data(world: MlflowWorld, plot: Plot) -> Plays:
    experiment = world.experiment()
    plot.near_miss(RULE, "experiment", experiment)
    for _ in range(2):
        _project(world, experiment, _url(world), "claims")
    yield None


def the_same_type_of_model(world: MlflowWorld, plot: Plot) -> Plays:
    experiment = world.experiment()
    plot.near_miss(RULE, "experiment", experiment)
    for data in ("claims", "orders"):
        _project(world, experiment, _url(world), data, model="RandomForest")
    yield None


def one_repository_with_much_data(world: MlflowWorld, plot: Plot) -> Plays:
    experiment = world.experiment()
    plot.near_miss(RULE, "experiment", experiment)
    code = _url(world)
    for data in ("claims", "orders", "pixels"):
        _project(world, experiment, code, data, runs=3)
    yield None


def a_single_try_of_another_project(world: MlflowWorld, plot: Plot) -> Plays:
    experiment = world.experiment()
    plot.near_miss(RULE, "experiment", experiment)
    _project(world, experiment, _url(world), "claims", runs=5)
    _project(world, experiment, _url(world), "pixels", runs=2)
    yield None


def the_other_project_ended_long_ago(world: MlflowWorld, plot: Plot) -> Plays:
    experiment = world.experiment()
    plot.near_miss(RULE, "experiment", experiment)
    _project(world, experiment, _url(world), "claims", ago=timedelta(days=40))
    _project(world, experiment, _url(world), "pixels")
    yield None


FAULTS = (two_repositories_with_data_of_their_own, two_scripts_with_models_of_their_own)
NEAR_MISSES = (
    the_same_data,
    the_same_type_of_model,
    one_repository_with_much_data,
    a_single_try_of_another_project,
    the_other_project_ended_long_ago,
)
SCENARIOS = Scenario.of(RULE, FAULTS, NEAR_MISSES)
