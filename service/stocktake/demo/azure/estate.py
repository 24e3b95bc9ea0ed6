"""An estate: subscriptions, resource groups and workspaces of one tenant, its clock, who may not read what, and a log.

The clock stands still until `tick` moves it: a test decides when time passes.
"""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from stocktake.demo.azure import assets, resources
from stocktake.demo.azure.content import Size
from stocktake.demo.azure.jobs import Job
from stocktake.demo.azure.seeded import Body, guid, mix, stamp
from stocktake.demo.azure.shelf import Shelf
from stocktake.demo.azure.workspace import Workspace

MANAGEMENT_GROUP = "platform"
REGISTRY = "shared-models"
DOMAIN = "team.example"


@dataclass(frozen=True, slots=True)
class Denial:
    """An action (a pattern) that is not allowed at a scope and below."""

    scope: str
    action: str


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the activity log. An operation has two: that it began, and how it ended."""

    at: datetime
    shown_at: datetime  # lines arrive late
    resource: str
    operation: str
    caller: str | None
    status: str
    number: int  # of the operation


class Estate:
    """Everything that the loopback Azure shows."""

    def __init__(self, *, seed: int = 1, now: datetime | None = None, location: str = "westeurope") -> None:
        self.seed, self.location = seed, location
        self.lock = threading.RLock()
        self.arm, self.data_host = "https://management.azure.com", f"{location}.api.azureml.ms"  # until it is served
        self._now = now or datetime.now(UTC)
        self.began = self._now.replace(microsecond=0)
        self._workspaces: dict[tuple[str, str, str], Workspace] = {}
        self._subscriptions: dict[str, str] = {}
        self._denied: list[Denial] = []
        self.activity: list[Event] = []
        self.log_delay = timedelta()  # how late lines arrive in the activity log
        self._registry_shelves: dict[tuple[str, ...], Shelf] = {}
        self._used: dict[tuple[str, str], tuple[int, int]] = {}

    # ---- what there is ----------------------------------------------------------------------------------------------

    def now(self) -> datetime:
        """The time of the estate."""
        return self._now

    def subscription(self, number: int = 0) -> str:
        """The id of a subscription by number; it exists from now on."""
        identifier = guid(self.seed, 1000, number)
        self._subscriptions.setdefault(identifier, f"subscription {number}")
        return identifier

    @property
    def subscriptions(self) -> Mapping[str, str]:
        """Ids and names."""
        return self._subscriptions

    def add_workspace(
        self,
        name: str,
        *,
        subscription: int = 0,
        group: str = "ml",
        size: Size | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Workspace:
        """Make a workspace, now."""
        identifier = self.subscription(subscription)
        made = Workspace(
            subscription=identifier, group=group, name=name, location=self.location,
            seed=mix(self.seed, subscription, sum(name.encode()), len(self._workspaces)), size=size or Size(),
            began=self._now.replace(microsecond=0), tags=tags or {}, hosts=lambda: (self.arm, self.data_host),
            clock=self.now, note=self.note,
        )  # fmt: skip
        key = (identifier, group.lower(), name.lower())
        if key in self._workspaces:
            raise ValueError(f"workspace {name} is there already")
        self._workspaces[key] = made
        return made

    def workspace(self, name: str) -> Workspace:
        """The workspace of a name, deleted or not."""
        for workspace in self._workspaces.values():
            if workspace.name == name:
                return workspace
        raise KeyError(name)

    def find(self, subscription: str, group: str, name: str) -> Workspace | None:
        """A workspace by its address, in any case, deleted or not."""
        return self._workspaces.get((subscription.lower(), group.lower(), name.lower()))

    def workspaces(self, subscription: str | None = None, group: str | None = None) -> Iterator[Workspace]:
        """Those that are there."""
        for one in self._workspaces.values():
            here = subscription in (None, one.subscription) and (group is None or one.group.lower() == group.lower())
            if here and one.state == "there":
                yield one

    def soft_deleted(self, subscription: str) -> Iterator[Workspace]:
        """Workspaces in their 14 days."""
        return (w for w in self._workspaces.values() if w.state == "soft-deleted" and w.subscription == subscription)

    def groups(self, subscription: str) -> dict[str, str]:
        """The resource groups of a subscription: lower case -> as written."""
        return {one.group.lower(): one.group for one in self._workspaces.values() if one.subscription == subscription}

    def usages(self, subscription: str) -> dict[str, tuple[int, int]]:
        """What a subscription uses of each of its limits, and the limit."""
        own = {name: each for (owner, name), each in self._used.items() if owner == subscription}
        return {**resources.USAGES, **own}

    def use(self, subscription: str, name: str, used: int, limit: int) -> None:
        """Let a subscription use so much of a limit."""
        self._used[subscription, name] = (used, limit)

    # ---- registries: one for each resource group --------------------------------------------------------------------

    def registry(self, subscription: str, group: str) -> Body:
        """The registry of a resource group."""
        return resources.registry(f"/subscriptions/{subscription}/resourceGroups/{group}", REGISTRY, self.location,
                                  self.data_host)  # fmt: skip

    def registry_shelf(self, *path: str) -> Shelf | None:
        """A list in a registry: ("models",), ("models", NAME, "versions")."""
        if path not in self._registry_shelves:
            made = self._registry_list(path)
            if made is None:
                return None
            self._registry_shelves[path] = made
        return self._registry_shelves[path]

    def _registry_list(self, path: tuple[str, ...]) -> Shelf | None:
        subscription = next(iter(self._subscriptions))
        owner = self.registry(subscription, next(iter(self.groups(subscription).values())))["id"]
        kind = path[0]
        if kind not in ("models", "data", "environments", "components", "codes"):
            return None
        if len(path) == 1:
            return Shelf(2, lambda at: assets.container_name(kind, at), lambda at: assets.container(
                kind, owner=owner, seed=self.seed, position=at, latest="1", count=1, began=self.began))  # fmt: skip
        names = [assets.container_name(kind, at) for at in range(2)]
        if path[1] not in names or path[2:] != ("versions",):
            return None
        position = names.index(path[1])

        def version(at: int) -> Body:
            typed = assets.typed_version(kind, owner=owner, seed=self.seed, position=position, number=at + 1, job=None)
            return assets.version(kind, owner=owner, seed=self.seed, position=position, number=at + 1,
                                  began=self.began, typed=typed)  # fmt: skip

        return Shelf(1, lambda at: str(at + 1), version)

    # ---- rights and time --------------------------------------------------------------------------------------------

    def deny(self, scope: str, action: str = "*") -> None:
        """Forbid an action (a pattern such as `*/jobs/read`) at a scope and below, for everybody."""
        self._denied.append(Denial(scope.lower().rstrip("/"), action.lower()))

    def allow(self, scope: str, action: str = "*") -> None:
        """Take a denial back."""
        self._denied.remove(Denial(scope.lower().rstrip("/"), action.lower()))

    def denied(self, scope: str, action: str) -> bool:
        """Whether an action is forbidden at a scope."""
        scope, action = scope.lower(), action.lower()
        return any(
            (scope == one.scope or scope.startswith(one.scope + "/")) and fnmatch.fnmatchcase(action, one.action)
            for one in self._denied
        )

    def note(self, resource: str, operation: str, caller: str | None, *, outcome: str = "Succeeded") -> None:
        """Write an operation into the activity log."""
        caller = known_as(caller) if caller is not None else None
        number = len(self.activity)
        for status in ("Started", outcome):
            line = Event(self._now, self._now + self.log_delay, resource, operation, caller, status, number)
            self.activity.append(line)

    def tick(self, seconds: float) -> list[Job]:
        """Let time pass: jobs move on, soft-deleted workspaces come to their end. Returns the jobs that moved."""
        with self.lock:
            self._now += timedelta(seconds=seconds)
            return [job for one in list(self._workspaces.values()) for job in one.tick()]


def known_as(person: str) -> str:
    """The mail address that Azure knows a person by; who has no name with a space in it is none."""
    return f"{person.lower().replace(' ', '.')}@{DOMAIN}" if " " in person else person


def event_body(event: Event, number: int) -> Body:
    """A line of the activity log as Azure tells it."""
    at = stamp(event.at)
    line = guid(number, 90)
    body: Body = {
        "id": f"{event.resource}/events/{line}/ticks/{number}", "eventDataId": line, "level": "Informational",
        "operationId": guid(event.number, 92), "correlationId": guid(event.number, 91),
        "eventTimestamp": at, "submissionTimestamp": stamp(event.shown_at), "resourceId": event.resource,
        "eventName": _worded("BeginRequest" if event.status == "Started" else "EndRequest"),
        "operationName": _worded(event.operation), "status": _worded(event.status), "subStatus": _worded(""),
        "category": _worded("Administrative"),
        "claims": {"name": str(event.caller), "ipaddr": "203.0.113.7"},
        "httpRequest": {"clientRequestId": guid(number, 93), "clientIpAddress": "203.0.113.7", "method": "PUT"},
    }  # fmt: skip
    return body | ({"caller": event.caller} if event.caller is not None else {})


def _worded(value: str) -> Body:
    return {"value": value, "localizedValue": value}
