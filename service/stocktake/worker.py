"""The worker: APScheduler ticks, one job per workspace and mode, and the endpoint beside it. It survives every scan."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.interval import IntervalTrigger
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from stocktake import __version__, wiring
from stocktake.core.assets import Mode
from stocktake.core.discovery import Event
from stocktake.core.errors import ConfigError, Fenced, SourceError
from stocktake.pipeline import Stopped
from stocktake.pipeline.turns import Turns
from stocktake.settings import DiscoverySettings, WorkspaceSettings
from stocktake.settings.timing import Cron, Timing, period
from stocktake.store import discovered, migrate, retention, standing
from stocktake.store.claims import Busy
from stocktake.store.engine import trouble
from stocktake.web import Check, WebServer, create_app, serve
from stocktake.wiring import App

if TYPE_CHECKING:
    from stocktake.alerting import Alerting

log = logging.getLogger(__name__)

_BEAT_SECONDS = 15
_PLAN_SECONDS = 10  # between two looks for alerts to be planned
_SEND_SECONDS = 5  # between two looks for deliveries to a receiver
_OUTBOX_SECONDS = 30  # between two looks at the outbox for telemetry
#: When a worker first publishes the head of the evidence chain: whatever it is started for, soon.
_FIRST_HEAD = timedelta(minutes=2)
#: And when it first tells Azure Monitor of open findings: once the first scans had time.
_FIRST_EVENTS = timedelta(minutes=5)
_FOUND_AT_MOST = 1000  # workspaces that discovery may find without waiting for each other's threads
#: After SIGTERM a scan may end by itself; then requests under way are cut, and the scans give up. A request that is
#: still connecting gives up at its timeout of 10 seconds; at the deadline the process goes whatever still waits.
_GRACE = 1.0
_DEADLINE = 15.0


def run_worker(app: App, *, stop: threading.Event, ready: Callable[[str], object] = lambda _: None) -> None:
    """Watch until `stop` is set, then finish or abandon within a deadline.

    `ready` is told the address of the endpoint once it is ours. A scan that cannot be ended before the deadline is
    left: cli.main ends the process without it, and the next claim marks it abandoned.
    A scan that fails is a row in the ledger and a line in the log; it never stops the worker or another workspace.
    """
    scheduler = BackgroundScheduler(
        timezone=UTC,
        executors={
            # A scan waits on its server most of the time; the limit on work is the semaphore, not the threads:
            # a workspace that hangs never takes the place of one that does not.
            "default": ThreadPoolExecutor(max(4, 2 * _room(app) + 2 + _receivers(app))),
        },
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
    )
    duty = Duty(app, stop)
    with ExitStack() as stack:
        server = stack.enter_context(_endpoint(app, stop))
        log.info("endpoint ready", extra={"action": "endpoint_ready", "url": server.url})
        ready(server.url)
        now = datetime.now(UTC)
        watch = Watch(app, scheduler, duty)
        watch.follow(now)
        for entry in app.settings.discovery:
            scheduler.add_job(
                watch.discover,
                IntervalTrigger(seconds=int(entry.every.total_seconds()), jitter=_jitter(entry.every)),
                args=(entry.name,),
                id=f"discovery of {entry.name}",  # no name of a workspace has spaces
                next_run_time=watch.due(entry, now),
            )
        scheduler.add_job(duty.beat, IntervalTrigger(seconds=_BEAT_SECONDS), id="heartbeat", next_run_time=now)
        if app.settings.retention.history is not None:
            scheduler.add_job(
                duty.prune, IntervalTrigger(hours=24), id="retention", next_run_time=now + timedelta(minutes=10)
            )
        alerting = app.alerting()
        if alerting is not None:
            stack.callback(alerting.close)
            _schedule_alerts(scheduler, duty, app, alerting, now)
        azure = app.settings.telemetry.azure_monitor
        if azure is not None and azure.findings != "off":
            scheduler.add_job(
                duty.tell_findings, IntervalTrigger(hours=24), id="findings told", next_run_time=now + _FIRST_EVENTS
            )
        if (every := app.settings.evidence.every) and app.settings.evidence.published:
            app.telemetry.head(every.total_seconds())
            scheduler.add_job(
                duty.publish_head,
                IntervalTrigger(seconds=int(every.total_seconds()), jitter=_jitter(every)),
                id="head of the evidence chain",
                next_run_time=now + _FIRST_HEAD,
            )
        scheduler.start()
        log.info(
            "worker started",
            extra={"action": "worker_started", "workspaces": len(app.workspaces), "version": __version__},
        )
        try:
            while not stop.wait(1.0):
                pass
        finally:
            scheduler.shutdown(wait=False)
            stop.set()
            if not duty.wait(_GRACE):
                app.abort()
                if alerting is not None:
                    alerting.close()
            if not duty.wait(_DEADLINE):
                log.warning(
                    "scans abandoned at shutdown",
                    extra={"action": "scans_abandoned", "next_step": "the next worker marks them and goes on"},
                )
            log.info("worker stopped", extra={"action": "worker_stopped"})


class Duty:
    """The jobs of the scheduler. None of them raises."""

    def __init__(self, app: App, stop: threading.Event) -> None:
        self._app = app
        self._stop = stop
        self._slots = Turns(app.settings.concurrency.workspaces)
        self._running = 0
        self._idle = threading.Condition()
        self._holder = f"{socket.gethostname()}:{os.getpid()}"

    def stopping(self) -> bool:
        """Whether the worker was asked to stop."""
        return self._stop.is_set()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Something is under way that a shutdown waits for."""
        with self._idle:
            self._running += 1
        try:
            yield
        finally:
            with self._idle:
                self._running -= 1
                self._idle.notify_all()

    def scan(self, workspace: str, mode: Mode) -> None:
        """One tick: take stock of one workspace, whatever happens."""
        with self.busy():
            self._scan(workspace, mode)

    def _scan(self, workspace: str, mode: Mode) -> None:
        try:
            if not self._slots.acquire(self._app.cost(workspace), self._stop.is_set):
                return
            try:
                self._app.scan(workspace, mode, stop=self._stop.is_set)
            finally:
                self._slots.release()
        except Busy as exc:
            log.info("scan skipped", extra={"action": "scan_skipped", "workspace": workspace, "why": str(exc)})
        except (Stopped, Fenced) as exc:
            log.info("scan given up", extra={"action": "scan_given_up", "workspace": workspace, "why": str(exc)})
        except Exception as exc:
            if (words := trouble(exc)) is not None:
                log.error("scan broke", extra={"action": "scan_broke", "workspace": workspace, "error": words})
            else:
                log.exception(
                    "scan broke", extra={"action": "scan_broke", "workspace": workspace, "error": type(exc).__name__}
                )

    def due(self, workspace: str, mode: Mode, timing: Timing, now: datetime, splay: float) -> datetime:
        """Say when a pass is first due: at once if it is overdue (spread a little), else when its period is over."""
        with self._app.engine.connect() as connection:
            last: datetime | None = connection.execute(
                text(
                    "SELECT max(s.last_began_at) FROM scan s JOIN workspace w USING (workspace_id)"
                    " WHERE w.name = :name AND s.state IN ('complete', 'partial')"
                    " AND (s.mode = :mode OR s.mode = 'sweep')"
                ),
                {"name": workspace, "mode": mode},
            ).scalar()
        every = period(timing)
        soon = now + timedelta(seconds=random.uniform(0, min(30.0, every.total_seconds() * splay)))
        if last is None:
            # The first pass is a sweep; the hot ones begin a period later.
            if mode == Mode.SWEEP:
                return soon
            return (timing.trigger().get_next_fire_time(None, now) or soon) if isinstance(timing, Cron) else now + every
        if isinstance(timing, Cron):
            following: datetime | None = timing.trigger().get_next_fire_time(None, last + timedelta(seconds=1))
            return soon if following is None or following <= now else following
        return max(soon, last + every)

    def refresh(self, workspace: str) -> None:
        """Tell telemetry what the database knows, before the first scan."""
        try:
            self._app.telemetry.watching(workspace)
            self._app.refresh_figures(workspace)
        except Exception:
            log.exception("figures could not be read", extra={"action": "figures_failed", "workspace": workspace})

    def beat(self) -> None:
        """Say that this worker lives."""
        try:
            wiring.beat(self._app, self._holder)
        except Exception:
            log.exception("heartbeat failed", extra={"action": "heartbeat_failed"})

    def prune(self) -> None:
        """Drop closed history by policy."""
        keep = self._app.settings.retention.history
        if keep is None:
            return
        try:
            dropped = retention.prune(self._app.engine, keep=keep)
            log.info("history pruned", extra={"action": "history_pruned", **dropped})
        except Exception:
            log.exception("pruning failed", extra={"action": "prune_failed"})

    def alert(self, what: str, act: Callable[[], object]) -> None:
        """Plan, send or tidy up: what fails is tried again at the next tick, and nothing is lost meanwhile."""
        if self._stop.is_set():
            return
        with self.busy():
            try:
                act()
            except Exception as exc:
                told = {"action": "alerts_broke", "what": what, "error": trouble(exc) or type(exc).__name__}
                if trouble(exc) is not None:
                    log.error("alerts broke", extra=told)
                else:
                    log.exception("alerts broke", extra=told)

    def tell_findings(self) -> None:
        """Tell Azure Monitor of the findings that are open."""
        try:
            told = self._app.tell_findings()
            log.info("findings told", extra={"action": "findings_told", "findings": told})
        except Exception:
            log.exception("findings could not be told", extra={"action": "findings_not_told"})

    def publish_head(self) -> None:
        """Publish the head of the evidence chain."""
        with self.busy():
            try:
                made = self._app.publish_head()
                log.info(
                    "head of the evidence chain published", extra={"action": "head_published", "head": made.digest}
                )
            except (SourceError, ConfigError, OSError) as exc:
                log.error(
                    "head of the evidence chain not published",
                    extra={"action": "head_not_published", "error": str(exc)},
                )
            except Exception:
                log.exception("head of the evidence chain not published", extra={"action": "head_not_published"})

    def wait(self, seconds: float) -> bool:
        """Wait until no scan runs; False when some still does."""
        with self._idle:
            return self._idle.wait_for(lambda: self._running == 0, timeout=seconds)


class Watch:
    """Which workspaces have jobs: those of the configuration, and those that discovery found, as they come and go."""

    def __init__(self, app: App, scheduler: BackgroundScheduler, duty: Duty) -> None:
        self._app = app
        self._scheduler = scheduler
        self._duty = duty
        self._lock = threading.Lock()
        self._watched: dict[str, WorkspaceSettings] = {}

    def follow(self, now: datetime) -> None:
        """Begin to watch what is new, end watching what is no longer there, and give others the schedule they have."""
        with self._lock:
            wanted = {one.name: one for one in self._app.workspaces}
            for name in set(self._watched) - set(wanted):
                self._end(name)
            for name, workspace in wanted.items():
                if self._watched.get(name) != workspace:
                    self._begin(workspace, now)

    def _begin(self, workspace: WorkspaceSettings, now: datetime) -> None:
        self._duty.refresh(workspace.name)
        schedule = workspace.schedule or self._app.settings.schedule
        for mode, timing in ((Mode.HOT, schedule.hot), (Mode.SWEEP, schedule.sweep)):
            self._scheduler.add_job(
                self._duty.scan,
                _trigger(timing, schedule.splay),
                args=(workspace.name, mode),
                id=f"{workspace.name}/{mode}",
                next_run_time=self._duty.due(workspace.name, mode, timing, now, schedule.splay),
                replace_existing=True,
            )
        self._watched[workspace.name] = workspace

    def _end(self, name: str) -> None:
        for mode in Mode:
            with contextlib.suppress(JobLookupError):
                self._scheduler.remove_job(f"{name}/{mode}")
        self._app.telemetry.forget(name)
        del self._watched[name]

    def _last(self, name: str) -> None:
        """A workspace that is deleted is scanned once more, now: its history tells how it ended, in one change. Until
        then it has its jobs (discovering.watched), so that a worker that ends before leaves it to the next."""
        self._duty.scan(name, Mode.HOT)
        self._app.refresh_found()
        self.follow(datetime.now(UTC))
        self._app.telemetry.forget(name)

    def due(self, entry: DiscoverySettings, now: datetime) -> datetime:
        """Say when is looked again: at once where the last look is too old."""
        with self._app.engine.connect() as connection:
            last = discovered.last_look(connection, entry.name)
        soon = now + timedelta(seconds=1)
        return soon if last is None else max(soon, last + entry.every)

    def discover(self, entry: str) -> None:
        """One tick: look for workspaces, and watch what was found."""
        with self._duty.busy():
            try:
                looked = self._app.discover(entry)
                self.follow(datetime.now(UTC))
                for one in looked.happened:
                    if one.event is Event.DELETED:
                        self._scheduler.add_job(self._last, args=(one.name,), id=f"last pass of {one.name}")
            except Exception as exc:
                words = trouble(exc) or (str(exc) if isinstance(exc, ConfigError) else None)
                told = {"action": "discovery_broke", "entry": entry, "error": words or type(exc).__name__}
                if words is not None:
                    log.error("looking for workspaces broke", extra=told)
                else:
                    log.exception("looking for workspaces broke", extra=told)


def _room(app: App) -> int:
    """How many workspaces there may be before the process is started anew: threads are made when they are needed."""
    return max(len(app.workspaces), _FOUND_AT_MOST if app.settings.discovery else 0)


def _receivers(app: App) -> int:
    """How many threads alerts may hold: planning, their figures, and one for each receiver."""
    return len(app.settings.alerts.receivers) + 2 if app.settings.alerts is not None else 0


def _schedule_alerts(scheduler: BackgroundScheduler, duty: Duty, app: App, alerting: Alerting, now: datetime) -> None:
    """One job plans; one for each receiver sends: a receiver that is slow or down holds up no other."""

    def every(seconds: int, name: str, act: Callable[[], object], first: datetime) -> None:
        scheduler.add_job(duty.alert, IntervalTrigger(seconds=seconds), args=(name, act), id=name, next_run_time=first)

    def plan() -> None:
        alerting.plan()
        app.telemetry.planned()

    every(_PLAN_SECONDS, "planning of alerts", plan, now)
    every(_OUTBOX_SECONDS, "figures of alerts", app.refresh_outbox, now)
    for name in alerting.receivers:
        send = partial(alerting.send, name, stop=duty.stopping)
        every(_SEND_SECONDS, f"alerts to {name}", send, now + timedelta(seconds=1))
    every(86_400, "tidying of alerts", alerting.prune, now + timedelta(minutes=15))


def _jitter(every: timedelta) -> int:
    return max(1, int(every.total_seconds() * 0.05))


def _trigger(timing: Timing, splay: float) -> BaseTrigger:
    jitter = max(1, int(_shortest(timing).total_seconds() * splay)) if splay else None
    if isinstance(timing, Cron):
        return timing.trigger(jitter=jitter)
    return IntervalTrigger(seconds=int(timing.total_seconds()), jitter=jitter)


def _shortest(timing: Timing) -> timedelta:
    """Return the shortest time between two ticks: a splay longer than that would swallow some of them."""
    if not isinstance(timing, Cron):
        return timing
    trigger, at = timing.trigger(), datetime.now(UTC)
    fires: list[datetime] = []
    while len(fires) < 100 and (fire := trigger.get_next_fire_time(None, at)) is not None:
        fires.append(fire)
        at = fire + timedelta(seconds=1)
    return min((later - earlier for earlier, later in pairwise(fires)), default=period(timing))


def _endpoint(app: App, stop: threading.Event) -> WebServer:
    web = app.settings.web
    return serve(
        create_app(_Health(app), app.telemetry.prometheus if app.settings.telemetry.prometheus else None),
        web.host,
        web.port,
        stop,
    )


class _Health:
    """What the endpoint wants to know."""

    heartbeat_limit = 4.0 * _BEAT_SECONDS

    def __init__(self, app: App) -> None:
        self._app = app

    @property
    def version(self) -> str:
        return __version__

    def heartbeat_age(self) -> float | None:
        return self._app.telemetry.heartbeat_age()

    def ready(self) -> Sequence[Check]:
        """Ready is what can serve: answer questions and scan. How much was seen so far is told, and decides nothing:
        a first scan may take hours, a server may be down for days, and no restart makes either better."""
        try:
            with self._app.engine.connect() as connection:
                current = migrate.current(connection)
                workspaces = standing.status(connection)
        except (SQLAlchemyError, OSError) as exc:
            return [Check(name="database", ok=False, detail=f"does not answer ({type(exc).__name__}); is it running?")]
        wanted = migrate.newest()
        configured = [one.name for one in self._app.workspaces]
        blind = [w.name for w in workspaces if w.state == "unobservable" and w.name in configured]
        looked = {w.name for w in workspaces if w.state != "never scanned"}
        new = [name for name in configured if name not in looked]
        return [
            Check(name="database", ok=True),
            Check(
                name="migrations",
                ok=current == wanted,
                detail="" if current == wanted else f"at {current}, needs {wanted}: run `stocktake db upgrade`",
            ),
            Check(
                name="workspaces",
                ok=not blind,
                required=False,
                detail=f"unobservable: {', '.join(blind)}; see `stocktake status`" if blind else "",
            ),
            Check(
                name="first scans",
                ok=not new,
                required=False,
                detail=f"none has ended yet of: {', '.join(new)}; see `stocktake status`" if new else "",
            ),
        ]
