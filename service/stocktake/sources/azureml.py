"""The source `azureml`: one Azure ML workspace, of three parts that fail apart.

The resource manager lists the workspace and what is in and around it (azureml_arm); the workspace's own MLflow lists
experiments and runs (MlflowRest, inside the limits of that server); run-history lists the children of jobs. A part that
is denied or down leaves the others as they are: each of its kinds is a scope of its own.

In a hot pass root jobs are asked for by name: those that had not ended, and those whose run MLflow showed as new. Where
that could miss one (MLflow is off or failed, or jobs were not looked at when runs were), all of them are listed.
A workspace that is deleted is one change of the kind `workspace`: nothing in it is listed, so all of it is carried.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from stocktake.core.actors import Line
from stocktake.core.assets import Asset, Kind, Mode, Scope, ScopeState
from stocktake.core.errors import UNOBSERVABLE, SourceError, Trouble
from stocktake.sources import azureml_activity, mlflow_documents
from stocktake.sources.arm import Arm, ArmConfig
from stocktake.sources.azureml_arm import GONE, ArmLists, may_be_taken_up
from stocktake.sources.azureml_data_plane import DataPlaneClients, is_root
from stocktake.sources.azureml_documents import OUR_WORD, WORKSPACE_KEY, parse
from stocktake.sources.azureml_history import RunHistory
from stocktake.sources.azureml_jobs import CHILDLESS, ENDED, HISTORY, times
from stocktake.sources.azureml_lifting import mapping
from stocktake.sources.azureml_plan import JOBS, ROWS, STORAGE, Place, Row
from stocktake.sources.http import Answer, HttpConfig
from stocktake.sources.mlflow_pages import encode
from stocktake.sources.mlflow_rest import Dialect, MlflowRestConfig
from stocktake.sources.mlflow_values import decode
from stocktake.sources.prefetch import prefetch
from stocktake.sources.protocol import Acts, Identity, Item, KindFacts, Known, Listing, Page, Traffic, failing

log = logging.getLogger(__name__)

#: After one of these, the rest of the same part would only wait for the same answer.
_DOWN = frozenset({Trouble.UNREACHABLE, Trouble.TLS, Trouble.AUTHENTICATION, Trouble.THROTTLED})
_MLFLOW = frozenset({Kind.EXPERIMENT, Kind.RUN})
#: By name only as long as that is fewer calls than pages: Azure gives some dozen jobs in a page.
_NAMES_AT_LEAST = 50
_JOBS_IN_A_PAGE = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureMlConfig:
    """One Azure ML workspace."""

    arm: ArmConfig
    subscription: str
    resource_group: str
    workspace: str
    data_plane: HttpConfig  # of the workspace's own hosts; base_url is filled in from what the workspace names
    data_hosts: tuple[str, ...]  # host suffixes a token of ours may be sent to: (".api.azureml.ms",)
    principal: str = ""  # who we are, for the ledger: a client id, a name; never a secret
    mlflow: bool = True
    history: bool = True
    posture: bool = True
    activity_log: bool = True
    owner_tags: tuple[str, ...] = ("owner", "team", "contact")
    run_overlap: timedelta = timedelta(hours=1)
    page_size: int = 1000
    read_ahead: bool = True


class AzureMl:
    """A watched workspace. Made for one scan; its pages are read one ahead in a thread of their own."""

    name = "azureml"
    kinds: Mapping[Kind, KindFacts] = {
        kind: KindFacts(sees_deleted=True)
        for kind in (Kind.WORKSPACE, *(row.kind for row in ROWS), Kind.STORAGE_ACCOUNT, Kind.EXPERIMENT)
    } | {
        Kind.RUN: KindFacts(sees_deleted=True, partitioned=True),
        Kind.JOB: KindFacts(sees_deleted=True),
        Kind.CHILD_JOB: KindFacts(sees_deleted=True),
    }

    def __init__(
        self,
        config: AzureMlConfig,
        now: Callable[[], datetime],
        *,
        sleep: Callable[[float], object] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.traffic = Traffic()
        self._config = config
        self._now = now
        self._arm = Arm(config.arm, now, traffic=self.traffic, sleep=sleep, monotonic=monotonic)
        self._place = Place(
            subscription=config.subscription, resource_group=config.resource_group, workspace=config.workspace
        )
        self._lists = ArmLists(self._arm, self._place, now)
        self._data = DataPlaneClients(
            config.data_plane,
            config.data_hosts,
            self._place.scope,
            lambda http: MlflowRestConfig(
                http=http,
                page_size=config.page_size,
                run_overlap=config.run_overlap,
                owner_tags=config.owner_tags,
                read_ahead=config.read_ahead,
                dialect=Dialect(kinds=_MLFLOW, users=False, filters_status=False),
            ),
            now,
            traffic=self.traffic,
            sleep=sleep,
            monotonic=monotonic,
        )
        self._identity: Identity | None = None
        self._workspace: Answer | None = None  # as it answered in this pass
        self._arm_error: SourceError | None = None  # why the resource manager is asked nothing more
        self._gone: str | None = None  # how the workspace is gone
        self._data_error: SourceError | None = None  # why the data plane is asked nothing more
        self._runs_read = False  # whether the lists of runs came to their end in this pass
        self._fresh: dict[str, None] = {}  # runs without a parent that MLflow showed as new

    def close(self) -> None:
        """Release connections."""
        self._arm.close()
        self._data.close()

    def identify(self) -> Identity:
        """Read the workspace itself. Where the resource manager refuses that, the data plane may still be open to us:
        what is wrong is then the workspace's own scope, and an error only where there is nothing else to read."""
        note = "Azure refuses what this identity may not read, and leaves nothing out of a list without saying so"
        try:
            answer = self._lists.workspace(accept=frozenset({404}))
            if answer.status == 404:
                self._gone = self._lists.how_gone(answer)
            else:
                self._read(answer)
        except SourceError as exc:
            if exc.trouble is Trouble.CONFIG:
                raise
            if exc.trouble is Trouble.SOFT_DELETED:
                self._gone = "SoftDeleted"
            else:
                self._arm_error = exc
                note = f"the resource manager did not show the workspace: {exc.what}"
        self._identity = Identity(name=self._config.principal or "azure identity", note=note)
        return self._identity

    def listings(self, mode: Mode, known: Known) -> Iterator[Listing]:
        """Yield the scopes of a pass. Runs come before jobs: what is new among jobs is what MLflow shows as new."""
        if self._identity is None:
            self.identify()
        if self._gone is not None:
            yield self._gone_workspace(known)
            return
        if self._workspace is None:
            self._learn(known.document(Kind.WORKSPACE, WORKSPACE_KEY) or {})
            if self._data.tracking is None and self._arm_error is not None:
                raise self._arm_error
        looked_at_runs, looked_at_jobs = known.last_look(Kind.RUN), known.last_look(Kind.JOB)
        looked_at_children = known.last_look(Kind.CHILD_JOB)
        yield self._workspace_listing()
        yield from self._resources(mode, known)
        yield from self._runs(mode, known)
        if not self._arm_is_down():
            cut = known.cut(Kind.JOB)
            together = _together(looked_at_runs, looked_at_jobs, self._config.run_overlap / 2)
            by_name = mode is Mode.HOT and together and self._runs_read
            yield self._jobs(known, by_name=by_name and cut is None, cut=cut)
        if (history := self._history()) is not None and self._data_error is None:
            due = known.parents_due(ENDED, CHILDLESS, looked_at_children)
            yield self._children(history, due, whole=self._lists.parents(Kind.JOB).whole)

    def parse(self, kind: Kind, raw: bytes) -> Asset:
        """Turn one raw item into an asset."""
        if kind in _MLFLOW:
            return mlflow_documents.parse(kind, raw, owner_tags=self._config.owner_tags)
        return parse(kind, raw, owner_tags=self._config.owner_tags)

    def confirm(self, kind: Kind, keys: Sequence[str]) -> Mapping[str, Item | None]:
        """Ask for assets by key. Absent is what the service itself says does not exist, in a workspace that answers."""
        if kind in _MLFLOW:
            return self._data.confirm(kind, keys)
        answers: dict[str, Item | None] = {}
        try:
            if kind is Kind.WORKSPACE:
                answer = self._lists.workspace()
                answers |= {key: Item(key, answer.body) if key == WORKSPACE_KEY else None for key in keys}
            elif kind is Kind.CHILD_JOB:
                history = self._history()
                for key in keys if history is not None else ():
                    assert history is not None
                    answers[key] = history.one(key)
            else:
                answers.update(self._lists.confirm(kind, keys))
        except SourceError as exc:
            log.info("an asset could not be confirmed", extra={"action": "confirm_failed", "trouble": exc.trouble})
        return answers

    @property
    def acts(self) -> Acts | None:
        """The activity log of the workspace's resource group."""
        return self._acts if self._config.activity_log else None

    def _acts(self, since: datetime, until: datetime) -> Iterator[Sequence[Line]]:
        if self._arm_error is not None and self._arm_is_down():
            raise self._arm_error
        yield from azureml_activity.pages(self._arm, self._place, self._lists.storage_id, since, until)

    # ---- the workspace itself ---------------------------------------------------------------------------------------

    def _read(self, answer: Answer) -> None:
        body = mapping(answer.json())
        if mapping(body.get("properties")).get("softDeletedAt"):
            self._gone = "SoftDeleted"
            return
        self._workspace = answer
        self._learn(body)

    def _learn(self, body: Mapping[str, Any]) -> None:
        """Take from the workspace where its other parts are: as it answers, or as it was when it last did."""
        properties = mapping(body.get("properties"))
        self._data.tracking = properties.get("mlFlowTrackingUri")
        self._lists.place = replace(self._place, location=str(body.get("location") or ""))
        storage = properties.get("storageAccount")
        if isinstance(storage, str) and storage.startswith("/subscriptions/"):
            self._lists.storage_id = storage

    def _gone_workspace(self, known: Known) -> Listing:
        """The workspace as it was published, with our word for how it is gone: one change, whatever was in it."""
        document = known.document(Kind.WORKSPACE, WORKSPACE_KEY)
        if document is None:
            raise SourceError(
                Trouble.NOT_FOUND,
                f"there is no workspace {self._config.workspace} in resource group {self._config.resource_group}",
                next_step="Check subscription, resource_group and workspace in the configuration.",
            )
        known_word = document.get(OUR_WORD)
        # A list of the deleted that cannot be read now does not take back what it said before.
        word = known_word if self._gone == GONE and known_word else self._gone
        item = Item(WORKSPACE_KEY, encode({**document, OUR_WORD: word}))
        at = self._now()
        page = Page(items=[item], requested_at=at, answered_at=at)
        return Listing(scope=Scope(kind=Kind.WORKSPACE), pages=iter([page]))

    def _workspace_listing(self) -> Listing:
        scope = Scope(kind=Kind.WORKSPACE)
        if self._workspace is None:
            assert self._arm_error is not None
            return Listing(scope=scope, pages=failing(self._arm_error), apart=True)
        answer = self._workspace
        page = Page(
            items=[Item(WORKSPACE_KEY, answer.body)],
            requested_at=answer.requested_at,
            answered_at=answer.answered_at,
        )
        return Listing(scope=scope, pages=iter([page]), apart=True)

    # ---- what the resource manager lists ----------------------------------------------------------------------------

    def _resources(self, mode: Mode, known: Known) -> Iterator[Listing]:
        for row in (*ROWS, STORAGE):
            if self._arm_is_down():
                return
            if row.posture and not self._config.posture:
                continue
            if row.sweep_only and mode is Mode.HOT and known.last_look(row.kind) is not None:
                continue
            yield self._apart(self._resource(row, mode, known))

    def _resource(self, row: Row, mode: Mode, known: Known) -> Listing:
        """A kind completely, or from where its listing was cut; but in a hot pass of versions only those of containers
        that show a new one."""
        if may_be_taken_up(row) and (place := known.cut(row.kind)) is not None:
            return self._lists.listing(row, place)
        if row.per is None or mode is Mode.SWEEP or known.last_look(row.kind) is None:
            return self._lists.listing(row)
        parents = self._lists.parents(row.per)
        latest = {f"{name}/{version}": name for name, version in parents.names.items() if version is not None}
        if not latest or not parents.whole:  # of endpoints and deployments no such thing is told: they are few
            return self._lists.listing(row)
        published = known.among(row.kind, list(latest))
        up_to_date = {latest[key] for key in published}
        return self._lists.some(row, [name for name in parents.names if name not in up_to_date])

    def _arm_is_down(self) -> bool:
        return self._arm_error is not None and self._arm_error.trouble in _DOWN

    def _apart(self, listing: Listing) -> Listing:
        return replace(listing, pages=self._ahead(listing.pages), apart=True)

    def _ahead(self, pages: Iterator[Page]) -> Iterator[Page]:
        pages = self._minded(pages, arm=True)
        return prefetch(pages) if self._config.read_ahead else pages

    def _minded(self, pages: Iterator[Page], *, arm: bool) -> Iterator[Page]:
        """The same pages; what keeps a whole part from answering is remembered."""
        try:
            yield from pages
        except SourceError as exc:
            if exc.trouble in _DOWN:
                self._arm_error, self._data_error = (exc, self._data_error) if arm else (self._arm_error, exc)
            raise

    # ---- jobs -------------------------------------------------------------------------------------------------------

    def _jobs(self, known: Known, *, by_name: bool, cut: str | None) -> Listing:
        running = known.unfinished(Kind.JOB, ENDED)
        if by_name:
            fresh = list(self._fresh)
            there = known.among(Kind.JOB, fresh)
            names = list(dict.fromkeys([*running, *(name for name in fresh if name not in there)]))
            listed = sum(known.partition_sizes(Kind.JOB).values()) // _JOBS_IN_A_PAGE
            if len(names) <= max(_NAMES_AT_LEAST, listed):
                pages = self._ahead(self._lists.by_name(JOBS, names))
                return Listing(
                    scope=Scope(kind=Kind.JOB, covers=()),
                    pages=self._timed(pages, lambda keys: keys),
                    promise=ScopeState.INCREMENTAL,
                    apart=True,
                )
        listing = self._apart(self._lists.listing(JOBS, cut))
        if known.last_look(Kind.JOB) is None:
            return listing  # a baseline of any size: their runs tell the times
        moving = frozenset(running)

        def wanted(keys: frozenset[str]) -> frozenset[str]:
            return (keys & moving) | (keys - known.among(Kind.JOB, sorted(keys)))

        return replace(listing, pages=self._timed(listing.pages, wanted))

    def _timed(self, pages: Iterator[Page], wanted: Callable[[frozenset[str]], frozenset[str]]) -> Iterator[Page]:
        """The same pages; jobs that are new or had not ended carry what run-history tells of them, if it does."""
        for page in pages:
            asked = wanted(frozenset(one.key for one in page.items))
            yield replace(page, items=[self._with_times(one) if one.key in asked else one for one in page.items])

    def _with_times(self, job: Item) -> Item:
        history = self._history() if self._data_error is None else None
        if history is None:
            return job
        try:
            run = history.one(job.key)
        except SourceError as exc:
            if exc.trouble in UNOBSERVABLE | _DOWN:
                self._data_error = exc  # jobs do without; the children's scope is left out as well
            return job
        found = times(mapping(decode(run.raw))) if run is not None else {}
        return (
            Item(job.key, b'%s,"%s":%s}' % (job.raw.rstrip()[:-1], HISTORY.encode(), encode(found))) if found else job
        )

    def _history(self) -> RunHistory | None:
        """Run-history; None where it is off, or where the workspace names no host that we may ask."""
        return self._data.history() if self._config.history else None

    def _children(self, history: RunHistory, due: Sequence[str], *, whole: bool) -> Listing:
        """The children of the jobs whose children may be other than published. Where every job was listed, all are
        known then: the children of a job that has ended stay as they were read."""
        pages = self._minded(history.children(due), arm=False)
        return Listing(
            scope=Scope(kind=Kind.CHILD_JOB) if whole else Scope(kind=Kind.CHILD_JOB, covers=()),
            pages=prefetch(pages) if self._config.read_ahead else pages,
            promise=ScopeState.COMPLETE if whole else ScopeState.INCREMENTAL,
            apart=True,
            remains=True,
            below=Kind.JOB,
        )

    # ---- the data plane ---------------------------------------------------------------------------------------------

    def _runs(self, mode: Mode, known: Known) -> Iterator[Listing]:
        """Experiments and runs. Whatever keeps MLflow from being read is a state of these two kinds alone."""
        if not self._config.mlflow:
            return
        try:
            mlflow = self._data.mlflow()
            mlflow.identify()
        except SourceError as exc:
            self._data_error = exc if exc.trouble in UNOBSERVABLE | _DOWN else None
            yield Listing(scope=Scope(kind=Kind.EXPERIMENT), pages=failing(exc), apart=True)
            yield Listing(scope=Scope(kind=Kind.RUN, partition="unlisted", covers=()), pages=failing(exc), apart=True)
            return
        self._runs_read = True
        for listing in mlflow.listings(mode, known):
            if self._data_error is not None:
                self._runs_read = False
                return
            yield replace(listing, pages=self._noted(listing), apart=True)

    def _noted(self, listing: Listing) -> Iterator[Page]:
        """The same pages; runs that the lists of what is new show are remembered, and whether all lists were read."""
        whole = False
        try:
            for page in self._minded(listing.pages, arm=False):
                if listing.scope.kind is Kind.RUN and not listing.scope.covers:
                    self._fresh |= dict.fromkeys(one.key for one in page.items if is_root(one.raw))
                yield page
            whole = True
        finally:
            self._runs_read = self._runs_read and whole


def _together(runs: datetime | None, jobs: datetime | None, overlap: timedelta) -> bool:
    """Whether jobs were looked at in the same pass as runs, or later, or no longer before than runs are shown twice:
    else a job may have come and ended unseen."""
    return runs is not None and jobs is not None and jobs >= runs - overlap
