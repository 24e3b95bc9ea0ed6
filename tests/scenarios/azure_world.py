"""A loopback Azure in good order: what is made here breaks no rule, so that a play breaks one. Its time is the clock's.

There is one workspace that all plays share; what concerns a whole workspace is played in one of its own, in another
subscription. A finding about a workspace itself is known by the workspace's name.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stocktake import pipeline
from stocktake.core.assets import Mode, ScanState
from stocktake.core.guard import Guard
from stocktake.core.redact import Redactor
from stocktake.core.rules import Rule
from stocktake.demo.azure import serving
from stocktake.demo.azure.content import TINY, Size
from stocktake.demo.azure.estate import Estate
from stocktake.demo.azure.resources import READER
from stocktake.demo.azure.seeded import PEOPLE, Body, guid
from stocktake.demo.azure.shelf import Shelf, fixed
from stocktake.demo.azure.workspace import Workspace
from stocktake.rules import RULES
from stocktake.sources.azureml import AzureMl
from tests.azure.server import AzureServer, served
from tests.scenarios.clock import Clock
from tests.servers.azureml import azureml_config

_KEY = b"k" * 32
_SIZE = Size(jobs=6, live=0, children=1, experiments=2, models=2, data=1, environments=1, components=1, computes=1,
             online_endpoints=0, batch_endpoints=0, schedules=1, connections=1)  # fmt: skip
_ROLES = {
    "Owner": "8e3af657-a8ff-443c-a75c-2fe8c4bcb635",
    "Reader": READER,
    "AzureML Data Scientist": "f6c7c914-8db3-469d-8ca1-694a8f32e121",
}
#: What plays may deny; and for how many sweeps after something happened every one looks.
_DENIED = ("computes", "models", "roleAssignments", "jobs")
_AFTERWARDS = 3


@dataclass(slots=True)
class AzureWorld:
    """An estate, and what plays do to it."""

    server: AzureServer
    estate: Estate
    clock: Clock
    choose: random.Random
    main: Workspace
    rules: Sequence[Rule] = RULES
    others: list[Workspace] = field(default_factory=list)
    _made: int = 100
    _still: dict[str, tuple[str, int]] = field(default_factory=dict)

    # ---- being watched ----------------------------------------------------------------------------------------------

    def scan(self, mode: Mode) -> bool:
        """Take stock of the workspaces; the one that is shared can always be seen. Of the others, those in which
        nothing happened for some sweeps are looked at now and then."""
        self.catch_up()
        report = self._scan(self.main, mode)
        assert report.state == ScanState.COMPLETE, report
        for workspace in self.others:
            quiet = self._quiet(workspace, mode)
            if quiet <= _AFTERWARDS or self.choose.random() < 0.1:
                self._scan(workspace, mode)
        return True

    def _quiet(self, workspace: Workspace, mode: Mode) -> int:
        """How many sweeps ago something last happened in a workspace."""
        shelves = [(workspace.shelf(name) or fixed({})).names() for name in ("roleAssignments", "models")]
        denied = [self.estate.denied(workspace.scope, f"*/{kind}/read") for kind in ("", *_DENIED)]
        seen = repr((workspace.body(), workspace.storage(), workspace.state, shelves, denied))
        before, sweeps = self._still.get(workspace.name, ("", 0))
        self._still[workspace.name] = (seen, sweeps + (mode == Mode.SWEEP) if seen == before else 0)
        return self._still[workspace.name][1]

    def _scan(self, workspace: Workspace, mode: Mode) -> pipeline.ScanReport:
        config = azureml_config(self.server, workspace, retries=0)
        return pipeline.scan(
            self.clock.engine,
            lambda now: AzureMl(config, now),
            workspace=workspace.name,
            source_name="azureml",
            uri=self.server.arm + workspace.scope,
            mode=mode,
            redactor=Redactor(_KEY),
            key=_KEY,
            guard=Guard(),
            judged_by=pipeline.RuleSet(rules=self.rules),
        )

    def catch_up(self) -> None:
        """Let Azure's clock be the simulated one."""
        self.estate.tick((self.clock.now() - self.estate.now()).total_seconds())

    # ---- what is well kept ------------------------------------------------------------------------------------------

    def number(self) -> int:
        """A number that nobody else has."""
        self._made += 1
        return self._made

    def person(self) -> str:
        """Somebody of the team."""
        return self.choose.choice(PEOPLE)

    def shelf(self, *path: str) -> Shelf:
        """A list of the shared workspace."""
        found = self.main.shelf(*path)
        assert found is not None
        return found

    def workspace(self, **patch: Any) -> Workspace:
        """A workspace of one's own, in a subscription of its own, with a patch over its body."""
        number = self.number()
        made = self.estate.add_workspace(f"own-{number}", subscription=number, size=TINY)
        made.edit_workspace(**patch)
        self.others.append(made)
        return made

    def cluster(self, **inner: Any) -> str:
        """A cluster without nodes, with a patch over what is its own."""
        number = self.number() * 3
        body = serving.compute(self.main.scope, seed=1, position=number, location="westeurope", began=self.estate.began)
        self.shelf("computes").add(body["name"], body)
        name = str(body["name"])
        self.nodes(name, 0)
        self.inner(name, **inner)
        return name

    def instance(self, state: str) -> str:
        """A compute instance."""
        number = self.number() * 3 + 1
        body = serving.compute(self.main.scope, seed=1, position=number, location="westeurope", began=self.estate.began)
        self.shelf("computes").add(body["name"], body)
        name = str(body["name"])
        self.inner(name, state=state)
        return name

    def inner(self, compute: str, **patch: Any) -> None:
        """Lay a patch over what is a compute's own."""
        self.main.edit("computes", compute, properties={"properties": patch})

    def nodes(
        self, compute: str, count: int, *, running: int = 0, preparing: int = 0, wanted: int | None = None
    ) -> None:
        """Let a cluster have so many nodes; those that do not run and are not prepared are idle."""
        counts = serving.node_counts(running=running, preparing=preparing, idle=count - running - preparing)
        target = count if wanted is None else wanted
        self.inner(compute, currentNodeCount=count, targetNodeCount=target, nodeStateCounts=counts)

    def endpoint(self, traffic: Mapping[str, int] | None = None, *, batch: bool = False) -> str:
        """An endpoint with the deployments blue and green (of batch: default), which both have a share."""
        number = self.number()
        shares = dict(traffic) if traffic is not None else {"default": 100} if batch else {"blue": 60, "green": 40}
        body = serving.endpoint(self.main.scope, batch=batch, seed=1, position=number, location="westeurope",
                                began=self.estate.began, traffic=shares)  # fmt: skip
        self.shelf("batchEndpoints" if batch else "onlineEndpoints").add(body["name"], body)
        return str(body["name"])

    def deployment(self, endpoint: str, name: str) -> None:
        """One more deployment, which has no share yet."""
        body = serving.deployment(self.main.scope, batch=False, seed=1, endpoint=endpoint, name=name,
                                  location="westeurope", began=self.estate.began,
                                  model=f"{self.main.scope}/models/model-000/versions/1")  # fmt: skip
        self.shelf("onlineEndpoints", endpoint, "deployments").add(name, body)

    def job(self, status: str, *, compute: str | None = "cpu-cluster", kind: str = "Command", run: bool = True) -> str:
        """A job in a state, as of now."""
        self.catch_up()
        name = f"job-{self.number()}"
        self.main.submit_job(
            name, kind=kind, by=self.person(), run=run, compute=compute, experiment=self.choose.randrange(2)
        )
        if status != "NotStarted":
            self.main.move_job(name, status)
        return name

    def role(self, workspace: Workspace, *, at: str = "workspace", by: str | None = None) -> str:
        """Somebody is given a role at a workspace, or above it; returns the assignment's name."""
        self.catch_up()
        number = self.number()
        name = guid(number, 71)
        subscription = f"/subscriptions/{workspace.subscription}"
        scope = {"workspace": workspace.scope, "group": workspace.group_id, "subscription": subscription}[at]
        definition = f"{subscription}/providers/Microsoft.Authorization/roleDefinitions"
        role = self.choose.choice(sorted(_ROLES))
        properties: Body = {
            "roleDefinitionId": f"{definition}/{_ROLES[role]}", "principalId": guid(number, 72), "condition": None,
            "principalType": self.choose.choice(("User", "Group", "ServicePrincipal")), "scope": scope,
            "createdOn": self.estate.now().isoformat(), "createdBy": guid(1, 68),
        }  # fmt: skip
        identifier = f"{scope}/providers/Microsoft.Authorization/roleAssignments/{name}"
        shelf = workspace.shelf("roleAssignments")
        assert shelf is not None
        shelf.add(name, {"properties": properties, "id": identifier, "name": name,
                         "type": "Microsoft.Authorization/roleAssignments"})  # fmt: skip
        self.estate.note(identifier, "Microsoft.Authorization/roleAssignments/write", by or self.person())
        return name

    def logs(self, *categories: str, **properties: Any) -> str:
        """A diagnostic setting that sends these categories; returns its name."""
        name = f"to-{self.number()}"
        group = self.main.group_id
        body = {
            "id": f"{self.main.scope}/providers/microsoft.insights/diagnosticSettings/{name}", "name": name,
            "type": "Microsoft.Insights/diagnosticSettings",
            "properties": {"logs": sent(*categories), "metrics": [], "storageAccountId": None,
                           "workspaceId": f"{group}/providers/Microsoft.OperationalInsights/workspaces/logs"}
            | properties,
        }  # fmt: skip
        self.shelf("diagnosticSettings").add(name, body)
        return name


def sent(*categories: str, off: Sequence[str] = ()) -> list[Body]:
    """What a diagnostic setting says of logs; `allLogs` is a group of them."""
    return [
        {"category": None if one == "allLogs" else one, "categoryGroup": one if one == "allLogs" else None,
         "enabled": one not in off, "retentionPolicy": {"enabled": False, "days": 0}}
        for one in (*categories, *off)
    ]  # fmt: skip


OpenWorld = Callable[[Path, Clock, random.Random], Any]


def azure_world(rules: Sequence[Rule]) -> OpenWorld:
    """Worlds in which these rules are judged."""

    @contextmanager
    def opened(folder: Path, clock: Clock, choose: random.Random) -> Iterator[AzureWorld]:
        del folder
        estate = Estate(seed=choose.randrange(1, 10**6), now=clock.now())
        main = estate.add_workspace("ml", size=_SIZE)
        with served(estate) as server:
            server.seen.keep = False
            yield AzureWorld(server, estate, clock, choose, main, rules)

    return opened
