"""A registered model whose run does not say its code, data, environment or parameters."""

from __future__ import annotations

from typing import Any

from tests.scenarios.frame import Plays, Plot, Scenario
from tests.scenarios.mlflow_world import MlflowWorld

RULE = "not-reproducible"


def _lacking(world: MlflowWorld) -> dict[str, Any]:
    ways: list[dict[str, Any]] = [
        {"tags": {"mlflow.source.git.commit": ""}},
        {"tags": {"mlflow.source.git.commit": "", "mlflow.source.name": "train.py"}},  # a script is no version
        {"tags": {"mlflow.docker.image.uri": ""}},
        {"data": None},
        {"params": {}},
    ]
    return world.choose.choice(ways)


def the_newest_version(world: MlflowWorld, plot: Plot) -> Plays:
    model = world.model()
    yield None
    key = world.version(model, world.run(**_lacking(world)))
    plot.fault(RULE, "model_version", key)
    yield None
    if world.choose.random() < 0.5:
        world.version(model, world.run())  # a better one takes its place
        plot.over(RULE, "model_version", key)
        yield None


def an_older_one_that_an_alias_names(world: MlflowWorld, plot: Plot) -> Plays:
    model = world.model(world.run(**_lacking(world)), {"candidate": "1"})
    world.version(model, world.run())
    plot.fault(RULE, "model_version", f"{model}/1")
    yield None


def it_names_no_run(world: MlflowWorld, plot: Plot) -> Plays:
    key = world.version(world.model(), None, source="s3://models/from/elsewhere")
    plot.fault(RULE, "model_version", key)
    yield None


def what_was_missing_is_said_later(world: MlflowWorld, plot: Plot) -> Plays:
    run = world.run(tags={"mlflow.source.git.commit": ""})
    model = world.model(run)
    plot.fault(RULE, "model_version", f"{model}/1")
    yield None
    world.tag(run, "mlflow.source.git.commit", "c0ffee" * 6 + "c0ff")
    plot.fault("run-edited-after-finish", "run", run)
    plot.over(RULE, "model_version", f"{model}/1")
    yield None


def an_older_one_that_nothing_names(world: MlflowWorld, plot: Plot) -> Plays:
    model = world.model(world.run(**_lacking(world)))
    world.version(model, world.run())
    plot.near_miss(RULE, "model_version", f"{model}/1")
    yield None


def a_run_that_nobody_registered(world: MlflowWorld, plot: Plot) -> Plays:
    plot.near_miss(RULE, "run", world.run(**_lacking(world)))
    yield None


def its_environment_lies_with_the_logged_model(world: MlflowWorld, plot: Plot) -> Plays:
    run = world.run(tags={"mlflow.docker.image.uri": ""})
    logged = world.logged_model(run)
    key = world.version(world.model(), run, source=f"models:/{logged}", model_id=logged)
    plot.near_miss(RULE, "model_version", key)
    yield None


def a_prompt(world: MlflowWorld, plot: Plot) -> Plays:
    name = world.name("prompt").replace("/", "-")
    prompt = [{"key": "mlflow.prompt.is_prompt", "value": "true"}]
    owner = {"key": "owner", "value": world.person()}
    world.post("registered-models/create", {"name": name, "tags": [*prompt, owner]})
    body = {"name": name, "source": "prompt-template", "tags": [*prompt, {"key": "mlflow.prompt.text", "value": "Say"}]}
    world.post("model-versions/create", body)
    plot.near_miss(RULE, "model_version", f"{name}/1")
    yield None


FAULTS = (
    the_newest_version,
    an_older_one_that_an_alias_names,
    it_names_no_run,
    what_was_missing_is_said_later,
)
NEAR_MISSES = (
    an_older_one_that_nothing_names,
    a_run_that_nobody_registered,
    its_environment_lies_with_the_logged_model,
    a_prompt,
)
SCENARIOS = Scenario.of(RULE, FAULTS, NEAR_MISSES)
