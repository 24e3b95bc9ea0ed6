"""A parameter or a tag holds what looks like a credential."""

from __future__ import annotations

import string

from tests.scenarios.frame import Plays, Plot, Scenario
from tests.scenarios.mlflow_world import MlflowWorld

RULE = "sensitive-parameter"


def _secret(world: MlflowWorld) -> tuple[str, str]:
    letters = "".join(world.choose.choices(string.ascii_letters + string.digits, k=36))
    return world.choose.choice(
        [
            ("db_password", letters[:14]),
            ("token", f"ghp_{letters}"),
            ("AWS_SECRET_ACCESS_KEY", f"{letters}wxyz"),
            ("conn", f"postgresql://ada:{letters[:12]}@db.example.org/claims"),
        ]
    )


def a_parameter(world: MlflowWorld, plot: Plot) -> Plays:
    name, value = _secret(world)
    run = world.run(params={"lr": "0.1", name: value})
    plot.fault(RULE, "run", run)
    yield None
    if world.choose.random() < 0.5:
        world.purge(run)
        plot.over(RULE, "run", run)
        plot.fault("run-deleted", "run", run)
        yield None


def a_tag_of_a_run(world: MlflowWorld, plot: Plot) -> Plays:
    name, value = _secret(world)
    run = world.run(status="RUNNING")
    yield None
    world.tag(run, name, value)
    plot.fault(RULE, "run", run)
    yield None
    if world.choose.random() < 0.7:
        world.untag(run, name)
        plot.over(RULE, "run", run)
        yield None
    world.end(run)


def a_tag_of_an_experiment_or_a_model(world: MlflowWorld, plot: Plot) -> Plays:
    name, value = _secret(world)
    if world.choose.random() < 0.5:
        experiment = world.experiment()
        world.post("experiments/set-experiment-tag", {"experiment_id": experiment, "key": name, "value": value})
        plot.fault(RULE, "experiment", experiment)
    else:
        model = world.model()
        world.post("registered-models/set-tag", {"name": model, "key": name, "value": value})
        plot.fault(RULE, "registered_model", model)
    yield None


def names_that_only_sound_so(world: MlflowWorld, plot: Plot) -> Plays:
    harmless = {"max_tokens": "256", "token_type": "bpe", "tokenizer": "gpt2", "key_metric": "auc", "secret_santa": "1"}
    run = world.run(params=dict(world.choose.sample(sorted(harmless.items()), 3)) | {"lr": str(world.choose.random())})
    plot.near_miss(RULE, "run", run)
    yield None


def a_placeholder(world: MlflowWorld, plot: Plot) -> Plays:
    value = world.choose.choice(["${DB_PASSWORD}", "********", "<password>", "None"])
    run = world.run(params={"db_password": value, "lr": "0.1"}, tags={"note": "password by the key vault"})
    plot.near_miss(RULE, "run", run)
    yield None


def a_commit_and_a_digest(world: MlflowWorld, plot: Plot) -> Plays:
    digest = f"{world.choose.getrandbits(256):064x}"
    run = world.run(params={"code": digest[:40], "data_digest": digest, "uuid": digest[:32], "lr": "1"})
    plot.near_miss(RULE, "run", run)
    yield None


FAULTS = (a_parameter, a_tag_of_a_run, a_tag_of_an_experiment_or_a_model)
NEAR_MISSES = (names_that_only_sound_so, a_placeholder, a_commit_and_a_digest)
SCENARIOS = Scenario.of(RULE, FAULTS, NEAR_MISSES)
