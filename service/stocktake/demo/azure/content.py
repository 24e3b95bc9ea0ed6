"""What is in one workspace: bodies and lists, made from its seed when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from stocktake.demo.azure import assets, resources, serving
from stocktake.demo.azure.job_views import Place, arm_body
from stocktake.demo.azure.jobs import TYPES, Job, Jobs
from stocktake.demo.azure.seeded import Body, merged, mix
from stocktake.demo.azure.shelf import Shelf, fixed


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much of everything a workspace begins with. Children are per parent, versions follow from the seed."""

    jobs: int = 40
    live: int = 2  # of these, how many run when the estate begins
    children: int = 3
    experiments: int = 3
    models: int = 4
    data: int = 3
    environments: int = 2
    components: int = 2
    codes: int = 1
    computes: int = 3
    online_endpoints: int = 2
    batch_endpoints: int = 1
    schedules: int = 2
    connections: int = 2
    types: tuple[str, ...] = TYPES  # of jobs, each as often as it is named
    exotic: bool = False  # jobs of a type that clients do not know, or choke on (Labeling)


TINY = Size(jobs=3, live=0, children=2, experiments=1, models=1, data=1, environments=1, components=1, computes=1,
            online_endpoints=0, batch_endpoints=0, schedules=0, connections=0)  # fmt: skip


class Content:
    """The content of one workspace. `hosts` are the resource manager and the data plane, as they are served."""

    def __init__(
        self,
        *,
        subscription: str,
        group: str,
        name: str,
        location: str,
        seed: int,
        size: Size,
        began: datetime,
        tags: Mapping[str, str],
        hosts: Callable[[], tuple[str, str]],
    ) -> None:
        self.subscription, self.group, self.name, self.location = subscription, group, name, location
        self.group_id = f"/subscriptions/{subscription}/resourceGroups/{group}"
        self.scope = f"{self.group_id}/providers/{resources.ML}/workspaces/{name}"
        self.seed, self.size, self.began = seed, size, began
        self.tags = dict(tags)
        self._hosts = hosts
        self.jobs = Jobs(
            seed=seed, count=size.jobs, began=began, children=size.children, experiments=max(1, size.experiments),
            exotic=size.exotic, live=min(size.live, size.jobs), types=size.types,
        )  # fmt: skip
        self._patch: Body = {}
        self._storage: Body = {}
        self._shelves: dict[tuple[str, ...], Shelf] = {}

    @property
    def place(self) -> Place:
        """What the bodies of jobs say about where they are."""
        return Place(
            seed=self.seed, scope=self.scope, location=self.location, data_host=self._hosts()[1],
            data_names=self.size.data,
        )  # fmt: skip

    def body(self) -> Body:
        """The workspace itself."""
        made = resources.workspace(
            self.scope, seed=self.seed, group=self.group_id, location=self.location, data_host=self._hosts()[1],
            began=self.began, tags=self.tags,
        )  # fmt: skip
        return merged(made, self._patch)

    def storage(self) -> Body:
        """The storage account of the workspace."""
        made = resources.storage_account(self.group_id, self.seed, self.location, self.began)
        return merged(made, self._storage)

    # ---- lists ------------------------------------------------------------------------------------------------------

    def shelf(self, *path: str) -> Shelf | None:
        """The list at a path below the workspace, e.g. ("models", NAME, "versions"); None if there is none."""
        known = self._shelves.get(path)
        if known is None:
            known = self._containers(path[0]) if len(path) == 1 else self._below(*path)
            if known is not None:
                self._shelves[path] = known
        return known

    def _containers(self, kind: str) -> Shelf | None:
        size, began = self.size, self.began
        counts = {"models": size.models, "data": size.data, "environments": size.environments,
                  "components": size.components, "codes": size.codes, "featuresets": 0,
                  "featurestoreEntities": 0}  # fmt: skip
        if kind in counts:
            return Shelf(counts[kind], lambda at: assets.container_name(kind, at), lambda at: self._container(kind, at))
        if kind == "computes":
            return Shelf(
                size.computes, serving.compute_name,
                lambda at: serving.compute(
                    self.scope, seed=self.seed, position=at, location=self.location, began=began
                ),
            )  # fmt: skip
        if kind in ("onlineEndpoints", "batchEndpoints"):
            batch = kind == "batchEndpoints"
            count = size.batch_endpoints if batch else size.online_endpoints
            return Shelf(count, lambda at: serving.endpoint_name(batch, at), lambda at: self._endpoint(batch, at))
        if kind == "schedules":
            return Shelf(size.schedules, lambda at: f"schedule-{at:03d}", self._schedule)
        makers: dict[str, Callable[[], dict[str, Body]]] = {
            "datastores": lambda: resources.datastores(self.scope, self.seed, began),
            "connections": lambda: resources.connections(self.scope, size.connections),
            "privateEndpointConnections": lambda: resources.private_endpoints(self.scope, self.group_id),
            "outboundRules": resources.outbound_rules,
            "diagnosticSettings": lambda: resources.diagnostic_settings(self.scope, self.group_id),
            "serverlessEndpoints": dict,
            "marketplaceSubscriptions": dict,
            "roleAssignments": lambda: resources.role_assignments(
                f"/subscriptions/{self.subscription}", self.group_id, self.scope, self.seed, began
            ),
        }
        return fixed(makers[kind]()) if kind in makers else None

    def _below(self, kind: str, name: str, below: str) -> Shelf | None:
        containers = self.shelf(kind)
        if containers is None or containers.find(name) is None:
            return None
        if kind in assets.STEMS and below == "versions":
            position = self._position(kind, name)
            if position is None:  # was added by an act, with its versions
                return Shelf(0, str, lambda _: {})
            count = 1 + mix(self.seed, sum(kind.encode()), position) % 3
            return Shelf(count, lambda at: str(at + 1), lambda at: self._version(kind, position, at + 1))
        if kind in ("onlineEndpoints", "batchEndpoints") and below == "deployments":
            batch = kind == "batchEndpoints"
            names = ("default",) if batch else ("blue", "green")
            return Shelf(len(names), lambda at: names[at], lambda at: self._deployment(batch, name, names[at], at))
        return None

    def _position(self, kind: str, name: str) -> int | None:
        digits = name.rsplit("-", 1)[-1]
        position = int(digits) if digits.isdigit() else -1
        return position if position >= 0 and assets.container_name(kind, position) == name else None

    def _container(self, kind: str, position: int) -> Body:
        versions = self.shelf(kind, assets.container_name(kind, position), "versions") if (
            (kind, assets.container_name(kind, position), "versions") in self._shelves
        ) else None  # fmt: skip
        count = versions.total if versions else 1 + mix(self.seed, sum(kind.encode()), position) % 3
        return assets.container(
            kind, owner=self.scope, seed=self.seed, position=position, latest=str(count), count=count, began=self.began
        )

    def _version(self, kind: str, position: int, number: int) -> Body:
        made_by = self._maker(position, number) if kind == "models" else None
        typed = assets.typed_version(
            kind, owner=self.scope, seed=self.seed, position=position, number=number, job=made_by
        )
        return assets.version(
            kind, owner=self.scope, seed=self.seed, position=position, number=number, began=self.began, typed=typed
        )

    def _maker(self, position: int, number: int) -> str | None:
        """The job behind a model version; some versions were uploaded by hand."""
        draw = mix(self.seed, 12, position, number)
        return self.jobs.at(draw % self.size.jobs).name if self.size.jobs and draw % 5 else None

    def _endpoint(self, batch: bool, position: int) -> Body:
        traffic = (
            {"default": 100} if batch else ({"blue": 100, "green": 0} if position % 2 else {"blue": 90, "green": 10})
        )
        return serving.endpoint(
            self.scope, batch=batch, seed=self.seed, position=position, location=self.location, began=self.began,
            traffic=traffic,
        )  # fmt: skip

    def _deployment(self, batch: bool, endpoint: str, name: str, position: int) -> Body:
        draw = mix(self.seed, 13, sum(endpoint.encode()))
        model = assets.container_name("models", draw % max(1, self.size.models))
        versions = self.shelf("models", model, "versions")
        number = max(1, (versions.count if versions else 1) - position)
        return serving.deployment(
            self.scope, batch=batch, seed=self.seed, endpoint=endpoint, name=name, location=self.location,
            began=self.began, model=f"{self.scope}/models/{model}/versions/{number}",
        )  # fmt: skip

    def _schedule(self, position: int) -> Body:
        job = Job(name="template", index=position, type="Pipeline", status="NotStarted", created=self.began)
        return assets.schedule(position=position, began=self.began, job=arm_body(self.place, job))
