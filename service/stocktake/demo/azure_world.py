"""The Azure half of the demonstration: a workspace of the loopback Azure, and what its team changes between two looks.

No real Azure is asked, and no login is needed: the server is a thread of this process and ends with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from stocktake.demo.azure.azure import Azure, bearer
from stocktake.demo.azure.content import Size
from stocktake.demo.azure.estate import Estate, known_as
from stocktake.demo.azure.listener import Listener
from stocktake.demo.azure.seeded import PEOPLE
from stocktake.demo.azure.tls import loopback
from stocktake.demo.azure.workspace import Workspace
from stocktake.demo.changes import Expected

NAME = "credit-scoring"
TOKEN = "STOCKTAKE_DEMO_AZURE_TOKEN"  # noqa: S105 - the name of a variable
NIGHT_SHIFT, MODEL, RETIRED = "fraud-night-shift", "fraud-detector", "model-001"
_ADA, _BO, _CHIARA = PEOPLE[:3]
_SIZE = Size(jobs=30, live=0, experiments=2, types=("Command",) * 4 + ("Pipeline",))
_PASSES = timedelta(hours=1)  # of the estate's time between the two looks; it ends at the true time


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureStep:
    """One thing that somebody does in the Azure workspace."""

    what: str
    act: Callable[[Workspace], object]
    expected: tuple[Expected, ...]


def _retrained(workspace: Workspace) -> None:
    workspace.move_job(NIGHT_SHIFT, "Completed")
    workspace.register_model(MODEL, job=NIGHT_SHIFT, by=_ADA)


def _released(workspace: Workspace) -> None:
    workspace.deploy_model("online-000", "green", MODEL, "2", by=_BO)
    workspace.shift_traffic("online-000", {"green": 100}, by=_BO)


STEPS: tuple[AzureStep, ...] = (
    AzureStep(
        what=f"{NIGHT_SHIFT}: the job completes, and its model becomes {MODEL} version 2",
        act=_retrained,
        expected=(
            Expected(kind="job", name=NIGHT_SHIFT, type="updated", fields=("status",)),
            Expected(kind="run", name=NIGHT_SHIFT, type="updated", fields=("status", "end_time")),
            Expected(kind="registered_model", name=MODEL, type="updated", fields=("latestVersion",)),
            Expected(kind="model_version", name=f"{MODEL}/2", type="created", actor=known_as(_ADA)),
        ),
    ),
    AzureStep(
        what=f"online-000: the deployment green serves {MODEL} version 2, and gets all of the traffic",
        act=_released,
        expected=(
            Expected(kind="online_deployment", name="green", type="updated", fields=("model",), actor=known_as(_BO)),
            Expected(
                kind="online_endpoint", name="online-000", type="updated", fields=("traffic",), actor=known_as(_BO)
            ),
        ),
    ),
    AzureStep(
        what="schedule-000: the weekly retraining is switched off",
        act=lambda workspace: workspace.disable_schedule("schedule-000", by=_CHIARA),
        expected=(
            Expected(
                kind="schedule",
                name="weekly retraining",
                type="updated",
                fields=("isEnabled",),
                actor=known_as(_CHIARA),
            ),
        ),
    ),
    AzureStep(
        what=f"{RETIRED}: the model is archived",
        act=lambda workspace: workspace.archive_model(RETIRED, by=_CHIARA),
        expected=(Expected(kind="registered_model", name=RETIRED, type="deleted", actor=known_as(_CHIARA)),),
    ),
    AzureStep(
        what="cpu-cluster: three nodes are left idle",
        act=lambda workspace: workspace.idle_compute("cpu-cluster", nodes=3),
        expected=(Expected(kind="compute", name="cpu-cluster", type="updated", fields=("nodeStateCounts",)),),
    ),
)


class AzureWorld:
    """The workspace, as it is served."""

    def __init__(self, estate: Estate, workspace: Workspace, authority: Path) -> None:
        self._estate, self._workspace, self._authority = estate, workspace, authority
        #: What the credential `token` reads from the environment; it opens nothing but this server.
        self.token = bearer(estate.now(), audience=estate.arm, lifetime=timedelta(days=30))

    def configuration(self) -> dict[str, Any]:
        """The workspace as a configuration names it."""
        cloud = {"resource_manager": self._estate.arm, "data_hosts": ["localhost"]}
        azureml = {
            "subscription": self._workspace.subscription, "resource_group": self._workspace.group,
            "workspace": self._workspace.name, "custom_cloud": cloud, "credential": "token", "token_env": TOKEN,
            "ca_file": str(self._authority),
        }  # fmt: skip
        return {"name": NAME, "azureml": azureml}

    def change(self, tell: Callable[[str], None]) -> None:
        """Do every step; an hour passes meanwhile, and ends now: the activity log says when somebody did what."""
        with self._estate.lock:
            self._estate.tick((datetime.now(UTC) - self._estate.now()).total_seconds())
            for step in STEPS:
                tell(step.what)
                step.act(self._workspace)


@contextmanager
def azure_world(folder: Path, now: datetime | None = None) -> Iterator[AzureWorld]:
    """Serve a workspace for as long as the block runs."""
    estate = Estate(seed=3, now=(now or datetime.now(UTC)) - _PASSES)
    workspace = estate.add_workspace(NAME, group="risk", size=_SIZE, tags={"team": "risk", "env": "prod"})
    context, authority = loopback(folder)
    listener = Listener(Azure(estate).answer, context)
    estate.arm, estate.data_host = f"https://127.0.0.1:{listener.port}", f"localhost:{listener.port}"
    workspace.register_model(MODEL, job=workspace.jobs.at(20).name)
    workspace.deploy_model("online-000", "blue", MODEL, "1")
    workspace.submit_job(NIGHT_SHIFT)
    workspace.move_job(NIGHT_SHIFT, "Running")
    with listener.running():
        yield AzureWorld(estate, workspace, authority)
