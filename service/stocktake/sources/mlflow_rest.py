"""The source `mlflow_rest`: takes stock of an MLflow 2.x or 3.x server over HTTP, reading only.

What confirming by id (`confirm`) tells, tried on MLflow 3.17 and 2.22:

| item | deleted, still in the database | purged, or never there |
|---|---|---|
| experiment, run | 200 with lifecycle_stage "deleted" | 404 RESOURCE_DOES_NOT_EXIST: None |
| logged model | 404 RESOURCE_DOES_NOT_EXIST: None | 404: None (the two cannot be told apart) |
| registered model, model version, webhook, trace | there is no such state over REST | 404: None |

So a missing logged model is "deleted", never "its bytes are gone" (`sees_deleted` is False). Any other answer
(401, 403, 404 without MLflow's code, 5xx) leaves the key out: nothing was learnt.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from stocktake.core.assets import Asset, Kind, Mode, Scope, ScopeState
from stocktake.core.errors import UNOBSERVABLE, SourceError, Trouble
from stocktake.sources import mlflow_api as api
from stocktake.sources.http import HttpClient, HttpConfig
from stocktake.sources.mlflow_aliases import Aliases
from stocktake.sources.mlflow_documents import parse
from stocktake.sources.mlflow_pages import encode
from stocktake.sources.mlflow_plan import Group, chunks, groups
from stocktake.sources.prefetch import prefetch
from stocktake.sources.protocol import Identity, Item, KindFacts, Known, Listing, Page, Traffic, failing

log = logging.getLogger(__name__)

#: Experiments in one request that asks only for what is new: their runs are few, whatever the experiments hold.
_HOT_CHUNK = 500
_CONFIRM_CHUNK = 200
#: The key of the one asset of kind `workspace`, and what of its document is ours to say, not the server's.
_SERVER = "server"
_OURS = frozenset({"uri", "visibility", "mlflow_workspace"})
_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

#: After one of these, asking about the other keys would only wait for the same answer.
_HOPELESS = UNOBSERVABLE - {Trouble.PERMISSION, Trouble.NOT_FOUND} | {Trouble.THROTTLED, Trouble.SERVER}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What a server that speaks MLflow's API understands of it, and what we want of it."""

    kinds: frozenset[Kind] | None = None  # only these are listed; None: every kind of the source
    users: bool = True  # whether it may run MLflow's own basic-auth app
    filters_status: bool = True  # whether runs can be asked for by attributes.status


@dataclass(frozen=True, slots=True, kw_only=True)
class MlflowRestConfig:
    """One MLflow server, or one MLflow workspace in it."""

    http: HttpConfig
    workspace: str | None = None  # the MLflow workspace, sent as X-MLFLOW-WORKSPACE
    visibility: str = "auto"  # auto, complete, filtered
    page_size: int = 1000
    run_overlap: timedelta = timedelta(hours=1)  # clients write the times of runs by their own clocks
    owner_tags: Sequence[str] = ()
    max_pages: int = 100_000  # of one listing
    read_ahead: bool = True
    dialect: Dialect = Dialect()


class MlflowRest:
    """A watched MLflow server. Made for one scan; its pages are read one ahead in a thread of their own."""

    name = "mlflow_rest"
    acts = None  # MLflow keeps no log of who did what
    kinds: Mapping[Kind, KindFacts] = {
        Kind.WORKSPACE: KindFacts(sees_deleted=False),
        Kind.EXPERIMENT: KindFacts(sees_deleted=True),
        Kind.REGISTERED_MODEL: KindFacts(sees_deleted=True),
        Kind.MODEL_VERSION: KindFacts(sees_deleted=True),
        Kind.WEBHOOK: KindFacts(sees_deleted=True),
        Kind.RUN: KindFacts(sees_deleted=True, partitioned=True),
        Kind.LOGGED_MODEL: KindFacts(sees_deleted=False, partitioned=True),
        Kind.TRACE: KindFacts(sees_deleted=True, partitioned=True),
    }

    def __init__(
        self,
        config: MlflowRestConfig,
        now: Callable[[], datetime],
        *,
        traffic: Traffic | None = None,
        sleep: Callable[[float], object] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        headers = dict(config.http.headers)
        if config.workspace is not None:
            headers["X-MLFLOW-WORKSPACE"] = config.workspace
        http = replace(config.http, headers=headers, posts=api.POSTS)
        self.traffic = traffic if traffic is not None else Traffic()
        self._config = config
        self._now = now
        self._http = HttpClient(http, now=now, traffic=self.traffic, sleep=sleep, monotonic=monotonic)
        self._api = api.MlflowApi(
            self._http, page_size=config.page_size, hard_bytes=http.hard_bytes, max_pages=config.max_pages
        )
        self._identity: Identity | None = None
        self._experiments: list[str] = []  # as far as this pass has listed them
        self._whole = False  # whether that is all of them
        self._traces_v2 = False

    def close(self) -> None:
        """Release connections."""
        self._http.close()

    def identify(self) -> Identity:
        """Say who we are, and whether MLflow's basic-auth app hides things from us: it does from all but admins."""
        try:
            self._api.probe()
        except SourceError as exc:
            if exc.status == 500 and self._config.http.token:
                step = (
                    "If the server runs MLflow's basic-auth app, give a username and password: a token makes it fail."
                )
                raise SourceError(exc.trouble, exc.what, next_step=step, status=exc.status) from exc
            raise
        username = self._config.http.username
        user = self._api.user(username) if self._config.dialect.users else None
        name = username or ("token" if self._config.http.token else "anonymous")
        filtered, note = False, "the server has no users of its own: its lists are taken to be whole"
        if user is not None:
            name, admin = user
            filtered = not admin
            note = "MLflow basic-auth: an administrator sees everything"
            if filtered:
                note = "MLflow basic-auth leaves out of every list, silently, what this user may not read"
        if self._config.visibility != "auto":
            filtered = self._config.visibility == "filtered"
            note = f"visibility is configured: {self._config.visibility}"
        identity = Identity(name=name, filtered=filtered, note=note)
        self._identity = identity
        self._api.overlapping = not filtered
        return identity

    def listings(self, mode: Mode, known: Known) -> Iterator[Listing]:
        """Yield the scopes of a pass: the small kinds completely, then runs, logged models and traces."""
        identity = self._identity or self.identify()
        published = known.aliases() if self._wanted(Kind.REGISTERED_MODEL) else {}
        aliases = Aliases(lambda name: self._api.get(Kind.REGISTERED_MODEL, name), published)
        promise = ScopeState.FILTERED if identity.filtered else ScopeState.COMPLETE
        small: Sequence[tuple[Kind, Callable[[], Listing]]] = (
            (Kind.WORKSPACE, lambda: self._listing(Kind.WORKSPACE, self._workspace_pages(known), ScopeState.COMPLETE)),
            (Kind.EXPERIMENT, lambda: self._listing(Kind.EXPERIMENT, self._experiment_pages(), promise)),
            (Kind.REGISTERED_MODEL, lambda: self._registered(aliases, promise)),
            (Kind.MODEL_VERSION, lambda: self._versions(aliases, promise)),
            (Kind.WEBHOOK, lambda: self._webhooks(promise, known)),
        )
        for kind, listing in small:
            if self._wanted(kind):
                yield listing()
        for kind in filter(self._wanted, (Kind.RUN, Kind.LOGGED_MODEL, Kind.TRACE)):
            if not self._offered(kind, known):
                yield Listing(scope=Scope(kind=kind, covers=()), pages=iter(()), promise=ScopeState.UNSUPPORTED)
                continue
            if mode is Mode.HOT and (since := known.last_look(kind)) is not None:
                yield from self._moving(kind, since - self._config.run_overlap, known, promise)
            else:
                yield from self._complete(kind, known, promise)
            if not self._whole:
                yield self._unlisted(kind)

    def _wanted(self, kind: Kind) -> bool:
        return self._config.dialect.kinds is None or kind in self._config.dialect.kinds

    def _registered(self, aliases: Aliases, promise: ScopeState) -> Listing:
        pages = aliases.models(self._with_prompts(api.registered_models()))
        return self._listing(Kind.REGISTERED_MODEL, pages, promise)

    def _versions(self, aliases: Aliases, promise: ScopeState) -> Listing:
        return self._listing(Kind.MODEL_VERSION, aliases.versions(self._with_prompts(api.model_versions())), promise)

    def parse(self, kind: Kind, raw: bytes) -> Asset:
        """Turn one raw item into an asset."""
        return parse(kind, raw, owner_tags=self._config.owner_tags)

    def confirm(self, kind: Kind, keys: Sequence[str]) -> Mapping[str, Item | None]:
        """Ask for assets by id (see the table above): in batches where search can, then one by one."""
        answers: dict[str, Item | None] = {}
        if kind in (Kind.RUN, Kind.TRACE):
            answers |= self._confirm_batches(kind, [key for key in keys if _PLAIN_ID.fullmatch(key)])
        for key in keys:
            if key in answers:
                continue
            try:
                answers[key] = self._get(kind, key)
            except SourceError as exc:
                log.info("an asset could not be confirmed", extra={"action": "confirm_failed", "trouble": exc.trouble})
                if exc.trouble in _HOPELESS:
                    break
        return answers

    def _confirm_batches(self, kind: Kind, keys: Sequence[str]) -> dict[str, Item]:
        found: dict[str, Item] = {}
        if kind is Kind.TRACE and self._traces_v2:
            return found
        question = "attributes.run_id" if kind is Kind.RUN else "trace.request_id"
        for block in chunks(keys, _CONFIRM_CHUNK):
            filter_ = f"{question} IN ({', '.join(repr(key) for key in block)})"
            try:
                for experiments in chunks(self._experiments, 5000):
                    for page in self._api.pages(self._search(kind, experiments, filter_)):
                        found |= {item.key: item for item in page.items}
            except SourceError:
                return found  # a server that cannot filter so is asked one by one
        return found

    def _listing(self, kind: Kind, pages: Iterator[Page], promise: ScopeState, group: Group | None = None) -> Listing:
        scope = Scope(kind=kind) if group is None else Scope(kind=kind, partition=group.label, covers=group.ids)
        return Listing(scope=scope, pages=prefetch(pages) if self._config.read_ahead else pages, promise=promise)

    def _search(self, kind: Kind, experiments: Sequence[str], filter_: str = "") -> api.Search:
        if kind is Kind.RUN:
            return api.runs(experiments, filter_)
        if kind is Kind.LOGGED_MODEL:
            return api.logged_models(experiments, filter_)
        return api.traces(experiments, filter_, v2=self._traces_v2)

    def _complete(self, kind: Kind, known: Known, promise: ScopeState) -> Iterator[Listing]:
        """Every experiment that is listed or known: the runs of one that vanished must be judged too."""
        sizes = known.partition_sizes(kind)
        planned = groups(self._experiments, sizes)
        if not planned:
            yield Listing(scope=Scope(kind=kind, covers=()), pages=iter(()), promise=promise)
        for group in planned:
            yield self._listing(kind, self._pages(kind, group.ids), promise, group)

    def _moving(self, kind: Kind, since: datetime, known: Known, promise: ScopeState) -> Iterator[Listing]:
        """What is new or moving in any experiment, then all of the experiments that changed themselves."""
        moment = int(since.timestamp() * 1000)
        for label, filters in _FRESH[kind].items():
            if label == _MOVING and not self._config.dialect.filters_status:
                pages = self._by_id(kind, known.unfinished(kind, _ENDED))
            else:
                pages = self._filtered(kind, [filter_.format(moment) for filter_ in filters])
            scope = Scope(kind=kind, partition=label, covers=())
            pages = prefetch(pages) if self._config.read_ahead else pages
            yield Listing(scope=scope, pages=pages, promise=ScopeState.INCREMENTAL)
        if kind is Kind.TRACE:
            return  # deleting an experiment leaves its traces as they are
        if changed := known.changed(Kind.EXPERIMENT):
            sizes = {key: size for key, size in known.partition_sizes(kind).items() if key in changed}
            for group in groups([key for key in self._experiments if key in changed], sizes):
                yield self._listing(kind, self._pages(kind, group.ids), promise, group)

    def _by_id(self, kind: Kind, keys: Sequence[str]) -> Iterator[Page]:
        """Items that are asked for one by one: those that had not ended when they were last seen."""
        for key in keys:
            asked = self._now()
            found = self._api.get(kind, key)
            yield Page(items=[found] if found is not None else [], requested_at=asked, answered_at=self._now())

    def _filtered(self, kind: Kind, filters: Sequence[str]) -> Iterator[Page]:
        for filter_ in filters:
            for experiments in chunks(self._experiments, _HOT_CHUNK):
                yield from self._pages(kind, experiments, filter_)

    def _pages(self, kind: Kind, experiments: Sequence[str], filter_: str = "") -> Iterator[Page]:
        """Pages of some experiments. MLflow refuses a search for traces when one experiment of many may not be read
        (of runs and logged models it leaves out what may not be read): the others are asked for in halves."""
        try:
            yield from self._api.pages(self._search(kind, experiments, filter_))
        except SourceError as exc:
            filtered = self._identity is not None and self._identity.filtered
            if kind is not Kind.TRACE or exc.trouble is not Trouble.PERMISSION or not filtered:
                raise
            if len(experiments) > 1:
                middle = len(experiments) // 2
                yield from self._pages(kind, experiments[:middle], filter_)
                yield from self._pages(kind, experiments[middle:], filter_)

    def _experiment_pages(self) -> Iterator[Page]:
        seen = dict[str, None]()
        whole = True
        for page in self._api.pages(api.experiments()):
            seen |= dict.fromkeys(item.key for item in page.items)
            whole = whole and not page.problems
            self._experiments = list(seen)
            yield page
        self._whole = whole

    def _with_prompts(self, search: api.Search) -> Iterator[Page]:
        """What is in the registry, and the prompts, which newer servers leave out of an ordinary search. A server
        that does not understand the second question knows no prompts."""
        yield from self._api.pages(search)
        try:
            yield from self._api.pages(api.prompts(search))
        except SourceError as exc:
            if exc.status not in api.NOT_OFFERED | {400}:
                raise

    def _unlisted(self, kind: Kind) -> Listing:
        """A scope that fails: what lies in experiments that were not listed was not looked at in this pass, and
        the next hot pass must not believe it was."""
        error = SourceError(
            Trouble.TRUNCATED,
            f"not every experiment could be listed, so items ({kind}) of the others were not looked at",
            next_step="See what is wrong with the scope of the experiments; the next scan tries again.",
        )
        return Listing(scope=Scope(kind=kind, partition="unlisted", covers=()), pages=failing(error))

    def _webhooks(self, promise: ScopeState, known: Known) -> Listing:
        if not self._api.offers(api.webhooks()) and not known.partition_sizes(Kind.WEBHOOK):
            scope = Scope(kind=Kind.WEBHOOK, covers=())
            return Listing(scope=scope, pages=iter(()), promise=ScopeState.UNSUPPORTED)
        if promise is ScopeState.FILTERED:  # MLflow shows webhooks to administrators alone, others get 403
            return self._listing(Kind.WEBHOOK, self._permitted(self._api.pages(api.webhooks())), promise)
        return self._listing(Kind.WEBHOOK, self._api.pages(api.webhooks()), promise)

    def _permitted(self, pages: Iterator[Page]) -> Iterator[Page]:
        try:
            yield from pages
        except SourceError as exc:
            if exc.trouble is not Trouble.PERMISSION:
                raise

    def _offered(self, kind: Kind, known: Known) -> bool:
        """Whether the server knows a kind at all: logged models came with MLflow 3, traces with 2.14.

        One of which the inventory holds something is asked for whatever the server says: what was there once and is
        "unknown" now was not looked at.
        """
        experiments = self._experiments[:1] or ["0"]
        if kind is Kind.RUN:
            return True
        if self._api.offers(self._search(kind, experiments)):
            return True
        self._traces_v2 = kind is Kind.TRACE and self._api.offers(api.traces(experiments, v2=True))
        return self._traces_v2 or bool(known.partition_sizes(kind))

    def _workspace_pages(self, known: Known) -> Iterator[Page]:
        requested_at, problems = self._now(), list[str]()
        item = self._server_item(known.document(Kind.WORKSPACE, _SERVER) or {}, problems)
        # Half an answer is no state: what is published stands until the server tells all of it again.
        yield Page(
            items=[] if problems else [item],
            requested_at=requested_at,
            answered_at=self._now(),
            problems=problems,
        )

    def _get(self, kind: Kind, key: str) -> Item | None:
        if kind is Kind.WORKSPACE:
            return self._server_item({}, []) if key == _SERVER else None
        return self._api.get(kind, key, traces_v2=self._traces_v2)

    def _server_item(self, known: Mapping[str, Any], problems: list[str]) -> Item:
        uri = self._config.http.base_url.rstrip("/")
        # What another address told of itself, or the database behind it, this one need not tell.
        told = {name: fact for name, fact in known.items() if name not in _OURS and known.get("uri") == uri}
        facts = self._api.server(told, problems) | {"uri": uri}
        identity = self._identity
        facts["visibility"] = "filtered" if identity is not None and identity.filtered else "complete"
        if self._config.workspace is not None:
            facts["mlflow_workspace"] = self._config.workspace
        return Item(_SERVER, encode(facts))


_MOVING = "moving"
#: Statuses that a run does not leave any more.
_ENDED = frozenset({"FINISHED", "FAILED", "KILLED"})

#: What tells new or moving items, by kind: label of the scope -> filters. MLflow knows no OR, and no IN for statuses.
_FRESH: Mapping[Kind, Mapping[str, Sequence[str]]] = {
    Kind.RUN: {
        "started": ("attributes.start_time > {}",),
        "ended": ("attributes.end_time > {}",),
        _MOVING: ("attributes.status = 'RUNNING'", "attributes.status = 'SCHEDULED'"),
    },
    Kind.LOGGED_MODEL: {"updated": ("last_updated_timestamp > {}",)},
    Kind.TRACE: {"started": ("trace.timestamp_ms > {}",)},
}
