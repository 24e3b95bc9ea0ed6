"""Which Azure Machine Learning workspaces there are: asked of Resource Graph, and of the resource manager's own lists.

Resource Graph leaves out what we may not read without a word, and lags behind by minutes. So what it shows is there,
and what it does not show is asked about again: a subscription without any workspace by its list, a workspace that was
known by its id. It must never conclude from silence that something is gone.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import quote

from stocktake.core.discovery import Confirmation, Look, Place, Scope, Word
from stocktake.core.errors import SourceError, Trouble
from stocktake.sources.arm import Arm, ArmConfig
from stocktake.sources.arm_bucket import Bucket
from stocktake.sources.azureml_lifting import mapping
from stocktake.sources.azureml_plan import PROVIDER, soft_deleted
from stocktake.sources.mlflow_values import decode

RESOURCE_GRAPH = "/providers/Microsoft.ResourceGraph/resources"
GRAPH_VERSION = "2021-03-01"
WORKSPACES_VERSION = "2024-10-01"
_SUBSCRIPTIONS_VERSION = "2022-12-01"
_GROUPS_VERSION = "2020-05-01"
#: Everything that may be in a scope. Tags are judged by us: so a workspace that lost its tag is not one that is gone.
QUERY = (
    "resources | where type =~ 'microsoft.machinelearningservices/workspaces'"
    " | project id, name, type, location, tags, subscriptionId, resourceGroup, properties | order by id asc"
)
_AT_ONCE = 8  # subscriptions asked beside each other
_MOST = 1000  # subscriptions in one question to Resource Graph, and rows of one of its answers
_KEPT = timedelta(days=14)  # how long Azure keeps a deleted workspace
_A = TypeVar("_A")
_B = TypeVar("_B")
#: What an address of ours can be made of; another shape is no workspace that could be asked for.
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_NAME = re.compile(r"[\w\-.()]{0,259}[\w\-()]")
_DENIED = frozenset({Trouble.PERMISSION, Trouble.NOT_FOUND})


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryConfig:
    """Where to look: one of subscriptions, resource groups, a management group."""

    arm: ArmConfig  # without a bucket: a question may be about many subscriptions
    bucket: Callable[[str], Bucket] | None = None  # of a subscription
    subscriptions: Sequence[str] = ()
    resource_groups: Sequence[tuple[str, str]] = ()
    management_group: str | None = None


class AzureDiscovery:
    """Looks once. `close` cuts what is under way."""

    def __init__(
        self,
        config: DiscoveryConfig,
        now: Callable[[], datetime],
        *,
        sleep: Callable[[float], object] | None = None,
        monotonic: Callable[[], float] | None = None,
    ) -> None:
        self._config = config
        self._now = now
        self._options: dict[str, Any] = {"sleep": sleep}
        if monotonic is not None:
            self._options["monotonic"] = monotonic
        self._lock = threading.Lock()
        self._open: set[Arm] = set()
        self._closed = False
        self._requests = 0
        self._bins: dict[str, dict[str, Mapping[str, Any]] | None] = {}  # deleted workspaces of subscriptions

    def look(self) -> Look:
        """Find every workspace. Raises nothing of a source's: what fails is a scope that was not looked at."""
        began, before = self._now(), self._requests
        found: dict[str, Place] = {}
        how: dict[str, str] = {}
        asked, scopes, whole = self._asked()
        graph = self._graph(asked, whole, found, how)
        for scope in self._lists([path for path in asked if not graph or not _any_in(path, found)], found, how):
            scopes.append(scope)
        told = {scope.path.casefold() for scope in scopes}
        scopes += [Scope(path=path, looked=True) for path in asked if path.casefold() not in told]
        if not whole and graph:
            met = dict.fromkeys(f"/subscriptions/{place.subscription}" for place in found.values())
            scopes += [Scope(path=path, looked=True) for path in met]
        return Look(
            began_at=began,
            finished_at=self._now(),
            places=found,
            how=how,
            scopes=sorted(scopes, key=lambda scope: scope.path.casefold()),
            whole=whole,
            requests=self._requests - before,
        )

    def confirm(self, places: Iterable[Place]) -> dict[str, Confirmation]:
        """Ask for workspaces by their ids."""
        wanted = list(places)
        return dict(zip([place.key for place in wanted], self._beside(self._confirm, wanted), strict=True))

    def close(self) -> None:
        """Cut what waits for an answer; whatever is asked after it fails at once."""
        with self._lock:
            self._closed = True
            clients = list(self._open)
        for client in clients:
            client.close()

    # ---- what is asked for ------------------------------------------------------------------------------------------

    def _asked(self) -> tuple[list[str], list[Scope], bool]:
        """The paths to be looked into, what is known not to be looked into, and whether these are all."""
        config = self._config
        if config.management_group is None:
            groups = [f"/subscriptions/{one}/resourceGroups/{group}" for one, group in config.resource_groups]
            return [f"/subscriptions/{one}" for one in config.subscriptions] + groups, [], True
        below_it = descendants(config.management_group)
        path = below_it.removesuffix("/descendants")
        below: list[str] = []
        try:
            with self._arm() as arm:
                for page in arm.pages(below_it, _GROUPS_VERSION):
                    below += [
                        f"/subscriptions/{str(item.get('name', '')).lower()}"
                        for item in map(_object, page.items)
                        if str(item.get("type", "")).casefold().endswith("/subscriptions")
                    ]
        except SourceError as exc:
            return below, [_not_looked(path, exc, "what is below it is not told: ")], False
        return below, [Scope(path=path, looked=True)], True

    # ---- Resource Graph ---------------------------------------------------------------------------------------------

    def _graph(self, asked: Sequence[str], whole: bool, found: dict[str, Place], how: dict[str, str]) -> bool:
        """Ask Resource Graph, and say whether it answered to the end. What it showed before it failed is there too."""
        group = self._config.management_group
        if not whole and group is not None:
            questions: list[dict[str, Any]] = [{"managementGroups": [group]}]
        else:
            ids = list(dict.fromkeys(path.split("/")[2] for path in asked))
            questions = [{"subscriptions": ids[at : at + _MOST]} for at in range(0, len(ids), _MOST)]
        try:
            with self._arm() as arm:
                for question in questions:
                    for row in self._rows(arm, question):
                        place = _place(self._base, row)
                        if place is not None and (not whole or any(_covers(path, place) for path in asked)):
                            found[place.key], how[place.key] = place, "resource-graph"
        except SourceError:
            return False  # the lists are asked instead, and tell what is wrong
        return bool(questions)

    def _rows(self, arm: Arm, question: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        token: str | None = None
        met: set[str] = set()
        while True:
            options = {"resultFormat": "objectArray", "$top": _MOST, **({"$skipToken": token} if token else {})}
            answer = arm.post(RESOURCE_GRAPH, GRAPH_VERSION, {**question, "query": QUERY, "options": options})
            body = mapping(answer.json())
            rows = body.get("data")
            if not isinstance(rows, list):
                raise SourceError(
                    Trouble.SHAPE, f"{answer.what} answered without rows", next_step="The lists are asked instead."
                )
            yield from (mapping(row) for row in rows)
            token = body.get("$skipToken")
            if not token:
                return
            if not isinstance(token, str) or token in met:
                raise SourceError(
                    Trouble.TRUNCATED, f"{answer.what} repeats itself", next_step="The lists are asked instead."
                )
            met.add(token)

    # ---- lists ------------------------------------------------------------------------------------------------------

    def _lists(self, paths: Sequence[str], found: dict[str, Place], how: dict[str, str]) -> Iterator[Scope]:
        for scope, places in self._beside(self._list, paths):
            for place in places:
                if place.key not in found:
                    found[place.key], how[place.key] = place, "list"
            yield scope

    def _list(self, path: str) -> tuple[Scope, list[Place]]:
        places: list[Place] = []
        try:
            with self._arm(path.split("/")[2]) as arm:
                for page in arm.pages(f"{path}/providers/{PROVIDER}/workspaces", WORKSPACES_VERSION):
                    items = [_place(self._base, _object(raw)) for raw in page.items]
                    places += [place for place in items if place is not None]
                    if page.problems or None in items:
                        raise SourceError(
                            Trouble.SHAPE, f"{path}: an item of the list is no workspace", next_step="Report this."
                        )
        except SourceError as exc:
            if exc.trouble is Trouble.REGION:  # the provider is not registered there: there are none
                return Scope(path=path, looked=True), places
            return _not_looked(path, exc), places
        return Scope(path=path, looked=True), places

    # ---- one by its id ----------------------------------------------------------------------------------------------

    def _confirm(self, place: Place) -> Confirmation:
        path = (
            f"/subscriptions/{place.subscription}/resourceGroups/{quote(place.resource_group)}/providers/{PROVIDER}"
            f"/workspaces/{quote(place.workspace)}"
        )
        try:
            with self._arm(place.subscription) as arm:
                body = mapping(arm.get(path, WORKSPACES_VERSION).json())
                if mapping(body.get("properties")).get("softDeletedAt"):
                    return _soft_deleted(mapping(body.get("properties")).get("softDeletedAt"))
                return Confirmation(word=Word.THERE, place=_place(self._base, body))
        except SourceError as exc:
            if exc.trouble is Trouble.SOFT_DELETED:
                return _soft_deleted(None)
            if exc.trouble is Trouble.PERMISSION:
                return _lost("it may not be read any more", exc)
            if exc.trouble is not Trouble.NOT_FOUND:
                return Confirmation(word=Word.UNKNOWN, why=exc.what, next_step=exc.next_step)
        return self._gone(place)

    def _gone(self, place: Place) -> Confirmation:
        """It answers 404: is it deleted, or is its subscription out of sight?"""
        subscription = f"/subscriptions/{place.subscription}"
        try:
            with self._arm(place.subscription) as arm:
                arm.get(subscription, _SUBSCRIPTIONS_VERSION)
        except SourceError as exc:
            if exc.trouble in _DENIED:
                return _lost(f"its subscription {place.subscription} is not visible any more", exc)
            return Confirmation(word=Word.UNKNOWN, why=exc.what, next_step=exc.next_step)
        deleted = self._deleted(place.subscription)
        if deleted is not None and (mine := deleted.get(_tail(place))) is not None:
            system, properties = mapping(mine.get("systemData")), mapping(mine.get("properties"))
            return _soft_deleted(system.get("deletedAt") or properties.get("softDeletedAt"))
        if deleted is None:
            why = "it is not there any more; whether it can be brought back (within 14 days) is not told here"
        else:
            why = "it is not there any more, and not among the deleted ones that can be brought back"
        return Confirmation(word=Word.DELETED, why=why, next_step="Its history stays; nothing needs to be done.")

    def _deleted(self, subscription: str) -> dict[str, Mapping[str, Any]] | None:
        """The deleted workspaces of a subscription that can be brought back; None where that is not told."""
        with self._lock:
            if subscription in self._bins:
                return self._bins[subscription]
        found: dict[str, Mapping[str, Any]] | None = {}
        try:
            with self._arm(subscription) as arm:
                for page in arm.pages(soft_deleted(subscription), "2024-04-01"):
                    for item in map(_object, page.items):
                        where = str(item.get("id", "")).casefold().replace("/deletedworkspaces/", "/workspaces/")
                        assert found is not None
                        found[where.partition("/resourcegroups/")[2]] = item
        except SourceError:
            found = None  # the list is not offered everywhere
        with self._lock:
            return self._bins.setdefault(subscription, found)

    # ---- clients ----------------------------------------------------------------------------------------------------

    @property
    def _base(self) -> str:
        return self._config.arm.http.base_url

    def _beside(self, ask: Callable[[_A], _B], wanted: Sequence[_A]) -> list[_B]:
        if not wanted:
            return []
        with ThreadPoolExecutor(min(_AT_ONCE, len(wanted)), thread_name_prefix="discovery") as pool:
            return list(pool.map(ask, wanted))

    @contextmanager
    def _arm(self, subscription: str | None = None) -> Iterator[Arm]:
        """A client for one question; what a subscription grants is waited for."""
        config = self._config
        bucket = config.bucket(subscription) if config.bucket is not None and subscription is not None else None
        with self._lock:
            if self._closed:
                raise SourceError(Trouble.UNREACHABLE, "stocktake is stopping", next_step="The next look asks again.")
            arm = Arm(replace(config.arm, bucket=bucket), self._now, **self._options)
            self._open.add(arm)
        try:
            yield arm
        finally:
            with self._lock:
                self._requests += arm.requests
                self._open.discard(arm)
            arm.close()


def descendants(management_group: str) -> str:
    """The list of what is below a management group, subscriptions and groups at every depth."""
    return f"/providers/Microsoft.Management/managementGroups/{quote(management_group, safe='')}/descendants"


def key_of(resource_manager: str, subscription: str, group: str, workspace: str) -> str:
    """What tells a workspace from every other."""
    scope = f"/subscriptions/{subscription}/resourceGroups/{group}/providers/{PROVIDER}/workspaces/{workspace}"
    return (resource_manager.rstrip("/") + scope).casefold()


def _place(base: str, item: Mapping[str, Any]) -> Place | None:
    """A row of Resource Graph, an item of a list, or one workspace. Its id has the names as they are written."""
    parts = str(item.get("id", "")).split("/")
    kinds = [part.casefold() for part in parts[1:8:2]]
    if len(parts) != 9 or kinds != ["subscriptions", "resourcegroups", "providers", "workspaces"]:
        return None
    _, _, subscription, _, group, _, provider, _, workspace = parts
    if provider.casefold() != PROVIDER.casefold() or not _UUID.fullmatch(subscription):
        return None
    if not _NAME.fullmatch(group) or not _NAME.fullmatch(workspace):
        return None
    guid = mapping(item.get("properties")).get("workspaceId")
    return Place(
        key=key_of(base, subscription, group, workspace),
        subscription=subscription.lower(),
        resource_group=group,
        workspace=workspace,
        region=str(item.get("location") or ""),
        tags={str(name): str(value) for name, value in mapping(item.get("tags")).items()},
        guid=guid.lower() if isinstance(guid, str) and guid else None,
    )


def _object(raw: bytes) -> Mapping[str, Any]:
    return mapping(decode(raw))


def _covers(path: str, place: Place) -> bool:
    return Scope(path=path, looked=True).covers(place)


def _any_in(path: str, found: Mapping[str, Place]) -> bool:
    return any(_covers(path, place) for place in found.values())


def _tail(place: Place) -> str:
    return f"{place.resource_group}/providers/{PROVIDER}/workspaces/{place.workspace}".casefold()


def _not_looked(path: str, exc: SourceError, words: str = "") -> Scope:
    return Scope(path=path, looked=False, why=words + exc.what, next_step=exc.next_step, trouble=str(exc.trouble))


def _lost(why: str, exc: SourceError) -> Confirmation:
    return Confirmation(word=Word.ACCESS_LOST, why=f"{why} ({exc.what})", next_step=exc.next_step)


def _soft_deleted(at: Any) -> Confirmation:
    when, until = _time(at), "for 14 days after it was deleted"
    if when is not None:
        until = f"until {when + _KEPT:%Y-%m-%d %H:%M} UTC"
    return Confirmation(
        word=Word.SOFT_DELETED,
        why=f"it is deleted{f' since {when:%Y-%m-%d %H:%M} UTC' if when else ''} and can be brought back {until}",
        next_step="Bring it back in the portal (Azure Machine Learning, recently deleted), or let it go.",
    )


def _time(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
