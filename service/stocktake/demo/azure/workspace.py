"""One workspace: what is in it, made from its seed, and the acts that change it. Every act is one atomic change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from stocktake.demo.azure import assets, resources, serving
from stocktake.demo.azure.job_views import Place, arm_body
from stocktake.demo.azure.jobs import TERMINAL, Job, Jobs
from stocktake.demo.azure.seeded import PEOPLE, Body, guid, merged, mix, stamp, system_data
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
    exotic: bool = False  # jobs of a type that clients do not know, or choke on (Labeling)


TINY = Size(jobs=3, live=0, children=2, experiments=1, models=1, data=1, environments=1, components=1, computes=1,
            online_endpoints=0, batch_endpoints=0, schedules=0, connections=0)  # fmt: skip


class Workspace:
    """The content of one workspace. `clock` is the estate's time, `note` its activity log."""

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
        clock: Callable[[], datetime],
        note: Callable[[str, str, str], None],
    ) -> None:
        self.subscription, self.group, self.name, self.location = subscription, group, name, location
        self.group_id = f"/subscriptions/{subscription}/resourceGroups/{group}"
        self.scope = f"{self.group_id}/providers/{resources.ML}/workspaces/{name}"
        self.seed, self.size, self.began = seed, size, began
        self.tags = dict(tags)
        self.state = "there"  # or "soft-deleted", "deleted"
        self.deleted_at: datetime | None = None
        self._hosts, self._clock, self._note = hosts, clock, note
        self.jobs = Jobs(
            seed=seed, count=size.jobs, began=began, children=size.children, experiments=max(1, size.experiments),
            exotic=size.exotic, live=min(size.live, size.jobs),
        )  # fmt: skip
        self._patch: Body = {}
        self._storage: Body = {}
        self._shelves: dict[tuple[str, ...], Shelf] = {}

    @property
    def place(self) -> Place:
        """What the bodies of jobs say about where they are."""
        return Place(seed=self.seed, scope=self.scope, data_host=self._hosts()[1], data_names=self.size.data)

    def body(self) -> Body:
        """The workspace itself."""
        arm, data_host = self._hosts()
        made = resources.workspace(
            self.scope, seed=self.seed, group=self.group_id, location=self.location, arm=arm, data_host=data_host,
            began=self.began, tags=self.tags,
        )  # fmt: skip
        return merged(made, self._patch)

    def storage(self) -> Body:
        """The storage account of the workspace."""
        made = resources.storage_account(self.group_id, self.seed, self.location, self.began)
        return merged(made, self._storage)

    # ---- lists ------------------------------------------------------------------------------------------------------

    def shelf(self, *path: str) -> Shelf | None:
        """The list at a path below the workspace: ("models",) or ("models", NAME, "versions"); None if there is none."""
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
                lambda at: serving.compute(self.scope, seed=self.seed, position=at, location=self.location, began=began),
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
            "outboundRules": lambda: resources.outbound_rules(self.scope),
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
                return Shelf(0, str, lambda at: {})
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
        traffic = {"default": 100} if batch else ({"blue": 100, "green": 0} if position % 2 else {"blue": 90, "green": 10})
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
        return assets.schedule(
            self.scope, position=position, began=self.began, job=arm_body(self.place, job)
        )

    # ---- acts -------------------------------------------------------------------------------------------------------

    def submit_job(self, name: str, *, type: str = "Command", by: str = PEOPLE[0], moving: bool = False,
                   experiment: int = 0, tags: Mapping[str, str] | None = None, fate: str = "Completed",
                   run: bool = True) -> Job:  # fmt: skip
        """Submit a job. One that is `moving` goes its way as time passes (`Estate.tick`), until its `fate`."""
        now = self._clock()
        self._note(f"{self.scope}/jobs/{name}", f"{resources.ML}/workspaces/jobs/write", by)
        return self.jobs.submit(Job(
            name=name, index=0, type=type, status="NotStarted", created=now, experiment=experiment, by=by, display=name,
            tags=dict(tags or {}), since=now if moving else None, fate=fate, run=run,
        ))  # fmt: skip

    def move_job(self, name: str, status: str, *, run_status: str | None = None) -> Job:
        """Put a job or child into a status now; `run_status` lets its MLflow run say something else."""
        job, now = self.job(name), self._clock()
        started = job.started or (now if status in ("Running", "Finalizing") else None)
        ended = now if status in TERMINAL else None
        moved = replace(job, status=status, started=started, ended=ended, run_status=run_status, since=None)
        self.jobs.put(moved)
        return moved

    def edit_job(self, name: str, *, tags: Mapping[str, str] | None = None, display: str | None = None,
                 archived: bool | None = None, run: bool | None = None) -> Job:  # fmt: skip
        """Change what people may change of a job, or whether MLflow knows it."""
        job = self.job(name)
        edited = replace(
            job, tags=job.tags if tags is None else dict(tags), display=job.display if display is None else display,
            archived=job.archived if archived is None else archived, run=job.run if run is None else run,
        )  # fmt: skip
        self.jobs.put(edited)
        return edited

    def archive_job(self, name: str) -> Job:
        """Archive a job."""
        return self.edit_job(name, archived=True)

    def spawn_children(self, name: str, count: int, status: str = "Running") -> list[str]:
        """Let a job have more children; return their names."""
        return self.jobs.spawn(self.job(name), count, self._clock(), status)

    def job(self, name: str) -> Job:
        """A job or child by name; KeyError if there is none."""
        found = self.jobs.find(name)
        if found is None:
            raise KeyError(f"{self.name} has no job {name}")
        return found

    def edit(self, *path: str, **patch: object) -> None:
        """Lay a patch over an item: edit("models", "model-000", properties={"isArchived": True})."""
        shelf = self.shelf(*path[:-1])
        if shelf is None:
            raise KeyError("/".join(path))
        shelf.edit(path[-1], {"systemData": {"lastModifiedAt": stamp(self._clock())}} | patch
                   if (shelf.find(path[-1]) or {}).get("systemData") else patch)  # fmt: skip

    def archive_model(self, name: str, version: str | None = None, *, archived: bool = True) -> None:
        """Archive (or bring back) a model container, or one version of it."""
        path = ("models", name) if version is None else ("models", name, "versions", version)
        self.edit(*path, properties={"isArchived": archived})

    def register_model(self, name: str, *, job: str | None = None, by: str = PEOPLE[0]) -> str:
        """Register a new version of a model, from a job's outputs if one is named; return the version."""
        return self._add_version("models", name, by, assets._model(self.scope, name, guid(sum(name.encode())), job))

    def _add_version(self, kind: str, name: str, by: str, typed: Body) -> str:
        containers = self.shelf(kind)
        assert containers is not None
        now = self._clock()
        if containers.find(name) is None:
            frame = {"description": None, "tags": {}, "properties": {}, "isArchived": False}
            body = assets.body(self.scope, kind, name, frame | {"latestVersion": None, "nextVersion": "1"},
                               system_data(by, now))  # fmt: skip
            containers.add(name, body)
        versions = self.shelf(kind, name, "versions")
        assert versions is not None
        number = versions.total + 1
        common = {"description": None, "tags": {}, "properties": {}, "isArchived": False, "isAnonymous": False}
        versions.add(str(number), assets.body(self.scope, f"{kind}/{name}/versions", str(number), common | typed,
                                              system_data(by, now)))  # fmt: skip
        containers.edit(name, {"properties": {"latestVersion": str(number), "nextVersion": str(number + 1)}})
        return str(number)

    def shift_traffic(self, endpoint: str, shares: Mapping[str, int], *, by: str = PEOPLE[0]) -> None:
        """Give an online endpoint's deployments other shares of its traffic."""
        shelf = self.shelf("onlineEndpoints")
        body = shelf.find(endpoint) if shelf else None
        none = dict.fromkeys(body["properties"]["traffic"], 0) if body else {}
        self._note(f"{self.scope}/onlineEndpoints/{endpoint}", f"{resources.ML}/workspaces/onlineEndpoints/write", by)
        self.edit("onlineEndpoints", endpoint, properties={"traffic": none | dict(shares)})

    def deploy_model(self, endpoint: str, deployment: str, model: str, version: str, *, by: str = PEOPLE[0]) -> None:
        """Let a deployment serve another model version."""
        at = f"{self.scope}/onlineEndpoints/{endpoint}/deployments/{deployment}"
        self._note(at, f"{resources.ML}/workspaces/onlineEndpoints/deployments/write", by)
        identifier = f"{self.scope}/models/{model}/versions/{version}"
        self.edit("onlineEndpoints", endpoint, "deployments", deployment, properties={"model": identifier})

    def disable_schedule(self, name: str, *, enabled: bool = False) -> None:
        """Switch a schedule off (or on)."""
        self.edit("schedules", name, properties={"isEnabled": enabled})

    def idle_compute(self, name: str, *, nodes: int = 1) -> None:
        """Let a cluster sit idle: nodes that do nothing and are not given back."""
        self.edit("computes", name, properties={"properties": {
            "currentNodeCount": nodes, "targetNodeCount": nodes, "nodeStateCounts": serving.node_counts(idle=nodes),
            "allocationStateTransitionTime": stamp(self._clock()),
        }})  # fmt: skip

    def edit_workspace(self, **patch: object) -> None:
        """Lay a patch over the workspace's own body: edit_workspace(tags={...}, properties={...})."""
        self._patch = merged(self._patch, patch)

    def edit_storage(self, **properties: object) -> None:
        """Change properties of the workspace's storage account."""
        self._storage = merged(self._storage, {"properties": properties})

    def soft_delete(self) -> None:
        """Delete the workspace: it rests for 14 days, then it is gone for good."""
        self.state, self.deleted_at = "soft-deleted", self._clock()
        self._note(self.scope, f"{resources.ML}/workspaces/delete", PEOPLE[0])

    def recover(self) -> None:
        """Bring a soft-deleted workspace back."""
        self.state, self.deleted_at = "there", None

    def tick(self) -> list[Job]:
        """Move what moves by itself to the estate's time."""
        if self.deleted_at is not None and self._clock() - self.deleted_at >= timedelta(days=14):
            self.state = "deleted"
        return self.jobs.tick(self._clock())
