"""One workspace and the acts that change it. Every act is one atomic change, at the estate's time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from stocktake.demo.azure import assets, resources, serving
from stocktake.demo.azure.content import Content
from stocktake.demo.azure.jobs import TERMINAL, Job
from stocktake.demo.azure.seeded import PEOPLE, Body, guid, merged, stamp, system_data


class Workspace(Content):
    """A workspace that people work in. `clock` is the estate's time, `note` its activity log."""

    def __init__(self, *, clock: Callable[[], datetime], note: Callable[[str, str, str], None], **content: Any) -> None:
        super().__init__(**content)
        self.state = "there"  # or "soft-deleted", "deleted"
        self.deleted_at: datetime | None = None
        self._clock, self._note = clock, note

    def submit_job(self, name: str, *, kind: str = "Command", by: str = PEOPLE[0], moving: bool = False,
                   experiment: int = 0, tags: Mapping[str, str] | None = None, fate: str = "Completed",
                   run: bool = True, compute: str | None = "cpu-cluster") -> Job:  # fmt: skip
        """Submit a job. One that is `moving` goes its way as time passes (`Estate.tick`), until its `fate`."""
        now = self._clock()
        self._act(f"jobs/{name}", "jobs/write", by)
        return self.jobs.submit(Job(
            name=name, index=0, type=kind, status="NotStarted", created=now, experiment=experiment, by=by, display=name,
            tags=dict(tags or {}), since=now if moving else None, fate=fate, run=run,
            compute=compute,
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
                 archived: bool | None = None, run: bool | None = None, by: str | None = None) -> Job:  # fmt: skip
        """Change what people may change of a job, or whether MLflow knows it. By nobody: past the resource manager."""
        job = self.job(name)
        if by is not None:
            self._act(f"jobs/{name}", "jobs/write", by)
        edited = replace(
            job, tags=job.tags if tags is None else dict(tags), display=job.display if display is None else display,
            archived=job.archived if archived is None else archived, run=job.run if run is None else run,
        )  # fmt: skip
        self.jobs.put(edited)
        return edited

    def cancel_job(self, name: str, *, by: str = PEOPLE[0]) -> Job:
        """Cancel a job."""
        self._act(f"jobs/{name}", "jobs/cancel/action", by)
        return self.move_job(name, "CancelRequested")

    def archive_job(self, name: str, *, by: str | None = None) -> Job:
        """Archive a job."""
        return self.edit_job(name, archived=True, by=by)

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

    def archive_model(self, name: str, version: str | None = None, *, archived: bool = True,
                      by: str = PEOPLE[0]) -> None:  # fmt: skip
        """Archive (or bring back) a model container, or one version of it."""
        path = ("models", name) if version is None else ("models", name, "versions", version)
        self._act("/".join(path), f"{'/'.join(path[::2])}/write", by)
        self.edit(*path, properties={"isArchived": archived})

    def register_model(self, name: str, *, job: str | None = None, by: str = PEOPLE[0]) -> str:
        """Register a new version of a model, from a job's outputs if one is named; return the version."""
        return self._add_version("models", name, by, assets._model(self.scope, name, guid(sum(name.encode())), job))

    def register_component(self, name: str, *, by: str = PEOPLE[0]) -> str:
        """Register a new version of a component; return the version."""
        return self._add_version("components", name, by, {"componentSpec": {"name": name, "type": "command"}})

    def name_output(self, job: str, output: str, uri: str, *, kind: str = "uri_folder") -> str:
        """Let a job have written an output with a name; return the data asset that it was registered as."""
        name = f"azureml_{job}_output_data_{output}"
        version = self._add_version("data", name, self.job(job).by, {"dataUri": uri, "dataType": kind})
        became = self.job(job)
        self.jobs.put(replace(became, outputs={**became.outputs, output: f"data/{name}/versions/{version}"}))
        return f"{name}/{version}"

    def _add_version(self, kind: str, name: str, by: str, typed: Body) -> str:
        containers = self.shelf(kind)
        assert containers is not None
        now = self._clock()
        if containers.find(name) is None:
            frame: Body = {"description": None, "tags": {}, "properties": {}, "isArchived": False}
            body = assets.body(self.scope, kind, name, frame | {"latestVersion": None, "nextVersion": "1"},
                               system_data(by, now))  # fmt: skip
            containers.add(name, body)
        versions = self.shelf(kind, name, "versions")
        assert versions is not None
        number = versions.total + 1
        self._act(f"{kind}/{name}/versions/{number}", f"{kind}/versions/write", by)
        common: Body = {"description": None, "tags": {}, "properties": {}, "isArchived": False, "isAnonymous": False}
        versions.add(str(number), assets.body(self.scope, f"{kind}/{name}/versions", str(number), common | typed,
                                              system_data(by, now)))  # fmt: skip
        containers.edit(name, {"properties": {"latestVersion": str(number), "nextVersion": str(number + 1)}})
        return str(number)

    def shift_traffic(self, endpoint: str, shares: Mapping[str, int], *, by: str = PEOPLE[0]) -> None:
        """Give an online endpoint's deployments other shares of its traffic."""
        shelf = self.shelf("onlineEndpoints")
        body = shelf.find(endpoint) if shelf else None
        none = dict.fromkeys(body["properties"]["traffic"], 0) if body else {}
        self._act(f"onlineEndpoints/{endpoint}", "onlineEndpoints/write", by)
        self.edit("onlineEndpoints", endpoint, properties={"traffic": none | dict(shares)})

    def deploy_model(self, endpoint: str, deployment: str, model: str, version: str, *, by: str = PEOPLE[0]) -> None:
        """Let a deployment serve another model version."""
        self._act(f"onlineEndpoints/{endpoint}/deployments/{deployment}", "onlineEndpoints/deployments/write", by)
        identifier = f"{self.scope}/models/{model}/versions/{version}"
        self.edit("onlineEndpoints", endpoint, "deployments", deployment, properties={"model": identifier})

    def disable_schedule(self, name: str, *, enabled: bool = False, by: str = PEOPLE[0]) -> None:
        """Switch a schedule off (or on)."""
        self._act(f"schedules/{name}", "schedules/write", by)
        self.edit("schedules", name, properties={"isEnabled": enabled})

    def switch_instance(self, name: str, *, on: bool, by: str | None = PEOPLE[0]) -> None:
        """Start or stop a compute instance; by nobody: its own schedule does."""
        word = "Start" if on else "Stop"
        if by is not None:
            self._act(f"computes/{name}", f"computes/{word.lower()}/action", by)
        last = {"operationName": word, "operationTime": stamp(self._clock()), "operationStatus": "Succeeded",
                "operationTrigger": "User" if by is not None else "Schedule"}  # fmt: skip
        state = "Running" if on else "Stopped"
        self.edit("computes", name, properties={"properties": {"state": state, "lastOperation": last}})

    def resize_cluster(self, name: str, most: int, *, by: str = PEOPLE[0]) -> None:
        """Let a cluster have more nodes, or fewer."""
        self._act(f"computes/{name}", "computes/write", by)
        self.edit("computes", name, properties={"properties": {"scaleSettings": {"maxNodeCount": most}}})

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

    def soft_delete(self, *, by: str = PEOPLE[0]) -> None:
        """Delete the workspace: it rests for 14 days, then it is gone for good."""
        self.state, self.deleted_at = "soft-deleted", self._clock()
        self._act("", "delete", by)

    def recover(self, *, by: str = PEOPLE[0]) -> None:
        """Bring a soft-deleted workspace back."""
        self.state, self.deleted_at = "there", None
        self._act("", "write", by)

    def _act(self, path: str, operation: str, by: str) -> None:
        self._note(f"{self.scope}/{path}".rstrip("/"), f"{resources.ML}/workspaces/{operation}", by)

    def tick(self) -> list[Job]:
        """Move what moves by itself to the estate's time."""
        if self.deleted_at is not None and self._clock() - self.deleted_at >= timedelta(days=14):
            self.state = "deleted"
        return self.jobs.tick(self._clock())
