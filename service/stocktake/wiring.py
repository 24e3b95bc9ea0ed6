"""From settings to a working application: the only place where the rooms are put together."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from stocktake import discovering, pipeline
from stocktake.core.assets import Mode, ScanState
from stocktake.core.chain import salt_key
from stocktake.core.errors import ConfigError, SourceError
from stocktake.core.governance import Governance
from stocktake.core.guard import Guard
from stocktake.core.redact import Redactor
from stocktake.making import Shared, address, head_container, make_source, source_name
from stocktake.reports import heads
from stocktake.reports.heads import Head
from stocktake.ruling import Ruling, load, refuse_unknown
from stocktake.settings import Settings, WorkspaceSettings, installation_key, present_key
from stocktake.settings.environment import secret
from stocktake.settings.governing import governance
from stocktake.settings.timing import period
from stocktake.sources.azure_discovery import AzureDiscovery
from stocktake.sources.azure_identity import CredentialConfig, Identities
from stocktake.sources.protocol import Source
from stocktake.store import discovered, figures, finding_list, installation, ledger, migrate, redactions
from stocktake.store.embedded import embedded_postgres
from stocktake.store.engine import make_engine
from stocktake.telemetry.events import FINDING, FINDINGS_TOLD
from stocktake.telemetry.exporters import AzureMonitorConfig, OtlpConfig
from stocktake.telemetry.figures import RequestFigures, ScanFigures
from stocktake.telemetry.logs import redact_with
from stocktake.telemetry.providers import Telemetry, TelemetryConfig, setup_telemetry

if TYPE_CHECKING:
    from stocktake.alerting import Alerting

log = logging.getLogger(__name__)

_POSTGRES_SCOPE = "https://ossrdbms-aad.database.windows.net/.default"


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """Everything a command or the worker needs, ready to use."""

    settings: Settings
    engine: Engine
    redactor: Redactor
    key: bytes
    telemetry: Telemetry
    environ: Mapping[str, str]
    ruling: Ruling
    _running: set[Source] = field(default_factory=set, repr=False)
    _aborted: threading.Event = field(default_factory=threading.Event, repr=False)
    _shared: Shared = field(default_factory=Shared, repr=False)
    _looking: set[AzureDiscovery] = field(default_factory=set, repr=False)
    _found: dict[str, WorkspaceSettings] = field(default_factory=dict, repr=False)  # also what is no longer watched
    _seen: set[str] = field(default_factory=set, repr=False)  # of those
    _events: dict[str, int] = field(default_factory=dict, repr=False)  # of findings' histories, counted up to here

    @property
    def workspaces(self) -> tuple[WorkspaceSettings, ...]:
        """What is watched: what the configuration names, and what discovery found until now."""
        return (*self.settings.workspaces, *(self._found[name] for name in sorted(self._seen)))

    def workspace(self, name: str) -> WorkspaceSettings:
        """Return the settings of a workspace; of a found one also when its scan outlasts its being watched."""
        named = next((one for one in self.settings.workspaces if one.name == name), None)
        return named or self._found[name]

    def refresh_found(self) -> None:
        """Read from the database which workspaces discovery found. Raises ConfigError when a name is given twice."""
        if not self.settings.discovery:
            return
        with self.engine.connect() as connection:
            discovering.refuse_taken(self.settings, connection)
            found = {one.name: one for one in discovering.watched(connection, self.settings)}
            self.telemetry.discovered(*discovering.figures(connection, self.settings))
        self._found.update(found)
        self._seen.intersection_update(found)
        self._seen.update(found)

    def discover(self, entry: str, *, keep: bool = True) -> discovering.Looked:
        """Look for workspaces once, record it (`keep`) and tell telemetry. What fails is a scope not looked at."""
        settings = next(one for one in self.settings.discovery if one.name == entry)
        source = discovering.make_discovery(
            settings, self.settings, self.environ, lambda: datetime.now(UTC), self._shared
        )
        self._looking.add(source)
        try:
            if self._aborted.is_set():
                source.close()
            looked = discovering.look(self.engine, self.settings, settings, self.redactor, source, keep=keep)
        finally:
            self._looking.discard(source)
        if keep:
            self.refresh_found()
            discovering.tell(looked)
        return looked

    def discover_at_first(self) -> None:
        """Look for the workspaces of entries that nobody has looked for yet."""
        for entry in self.settings.discovery:
            with self.engine.connect() as connection:
                last = discovered.last_look(connection, entry.name)
            if last is None:
                self.discover(entry.name)

    def source(self, name: str, now: Callable[[], datetime] | None = None) -> Source:
        """Make a source of a workspace; the caller closes it."""
        clock = now or (lambda: datetime.now(UTC))
        return make_source(self.workspace(name), self.settings, self.environ, clock, self._shared)

    def cost(self, workspace: str) -> int:
        """How many requests the last sweep of a workspace took: the cheap ones go first where not all can."""
        with self.engine.connect() as connection:
            return ledger.cost(connection, workspace)

    def abort(self) -> None:
        """Cut the requests that running scans are waiting for, and those of scans that are just about to begin.

        A scan that was asked to stop as well gives up at once; else its scope becomes partial.
        """
        self._aborted.set()
        for source in list(self._running):
            source.close()
        for looking in list(self._looking):
            looking.close()

    def scan(
        self,
        name: str,
        mode: Mode,
        *,
        progress: Callable[[pipeline.Progress], None] | None = None,
        stop: Callable[[], bool] = lambda: False,
        finding: int | None = None,
    ) -> pipeline.ScanReport:
        """Take stock of a workspace once and tell telemetry. Raises what pipeline.scan raises. With RECHECK it is only
        about what one finding needs."""
        workspace = self.workspace(name)
        self.telemetry.watching(name)
        sources: list[Source] = []

        def watched(now: Callable[[], datetime]) -> Source:
            sources.append(self._watched(name, now))
            self._running.update(sources)
            if self._aborted.is_set():
                sources[-1].close()
            return sources[-1]

        try:
            report = self._scan(workspace, mode, watched, progress, stop, finding)
        finally:
            self._running.difference_update(sources)
        self._tell(report)
        return report

    def _scan(
        self,
        workspace: WorkspaceSettings,
        mode: Mode,
        watched: Callable[[Callable[[], datetime]], Source],
        progress: Callable[[pipeline.Progress], None] | None,
        stop: Callable[[], bool],
        finding: int | None,
    ) -> pipeline.ScanReport:
        judged_by, news = self.ruling.of(workspace)
        for words in news:
            log.warning("a rule of your own cannot be used", extra={"action": "own_rule_refused", "error": words})
        return pipeline.scan(
            self.engine,
            watched,
            workspace=workspace.name,
            owner=workspace.owner,
            source_name=source_name(workspace),
            uri=address(workspace),
            mode=mode,
            redactor=self.redactor,
            key=self.key,
            guard=Guard(share=self.settings.guard.share, assets=self.settings.guard.assets),
            judged_by=judged_by,
            governance=self.governance(),
            finding=finding,
            progress=progress,
            stop=stop,
        )

    def governance(self) -> Governance:
        """What was agreed on, as the files say now; what is wrong with one is logged, and nothing else fails."""
        agreed, wrong = governance(self.settings)
        for exc in wrong:
            log.error("a file of governance is left out", extra={"action": "governance_file", "error": str(exc)})
        return agreed

    def alerting(self) -> Alerting | None:
        """Who plans and sends alerts; None where the configuration tells nobody. The caller closes it."""
        if self.settings.alerts is None or self.settings.azure_alerts:
            return None  # by one way or the other, never by both
        from stocktake.alerting import Alerting  # every receiver, for those who send

        self.telemetry.receivers([one.name for one in self.settings.alerts.receivers])
        return Alerting(
            self.settings,
            self.settings.alerts,
            self.environ,
            engine=self.engine,
            redactor=self.redactor,
            key=self.key,
            rules=lambda: load(self.settings).rules,
            workspaces=lambda: self.workspaces,
            told=lambda done: self.telemetry.attempted(done.receiver, done.result),
        )

    def age_limits(self, name: str) -> dict[Mode, float]:
        """Return how old a complete look may become, in seconds, by mode: the published staleness bound."""
        schedule = self.workspace(name).schedule or self.settings.schedule
        return {
            Mode.HOT: period(schedule.hot).total_seconds() * (1 + schedule.splay),
            Mode.SWEEP: period(schedule.sweep).total_seconds() * (1 + schedule.splay),
        }

    def refresh_figures(self, name: str) -> None:
        """Read the state of a workspace for telemetry."""
        with self.engine.connect() as connection:
            found = figures.workspace_figures(connection, name, age_limits=self.age_limits(name))
            size = figures.database_size(connection)
            after = self._events.get(name)
            moved, reached = (
                figures.transitions(connection, name, after)
                if after is not None
                else ({}, figures.last_event(connection))
            )
        self._events[name] = reached
        if found is not None:
            self.telemetry.inventory(found)
        self.telemetry.transitions(name, moved)
        self.telemetry.database(size)

    def refresh_outbox(self) -> None:
        """Read what waits for receivers, for telemetry."""
        with self.engine.connect() as connection:
            found = figures.deliveries(connection)
        self.telemetry.outbox(found)

    def tell_findings(self) -> int:
        """Tell Azure Monitor of each finding that somebody has to do something about, the worst first, up to the limit;
        then how many there are in all. Returns how many were told."""
        wanted = self.settings.telemetry.azure_monitor
        if wanted is None or wanted.findings == "off":
            return 0
        told, by_azure = 0, self.settings.azure_alerts
        titles = {rule.id: rule.words.title for rule in load(self.settings).rules}
        with self.engine.connect() as connection:
            total = finding_list.number(connection, finding_list.TOLD)
            for row in finding_list.listed(connection, states=finding_list.TOLD, limit=wanted.findings_at_most):
                self.telemetry.event(FINDING, _event(row, titles.get(row.rule, row.rule), by_azure=by_azure))
                told += 1
        self.telemetry.event(FINDINGS_TOLD, {"findings": str(total), "told": str(told)})
        return told

    def publish_head(self) -> Head:
        """Publish the head of the evidence chain to every place that the configuration names, and tell telemetry.

        Raises what a place raised, once the others have it.
        """
        wanted = self.settings.evidence
        made = heads.head(self.engine, salt_key(self.key))
        container = head_container(wanted.container, self.environ) if wanted.container is not None else None
        heads.publish(made, wanted.file, container)
        self.telemetry.head(wanted.every.total_seconds())
        return made

    def _watched(self, name: str, now: Callable[[], datetime]) -> Source:
        source = self.source(name, now)

        def answered(status: int | None, seconds: float, size: int, retried: bool) -> None:
            self.telemetry.request(
                RequestFigures(
                    workspace=name,
                    status=status,
                    seconds=seconds,
                    bytes_read=size,
                    throttled=status in (429, 503),
                    retried=retried,
                )
            )

        source.traffic.observer = answered
        return source

    def _tell(self, report: pipeline.ScanReport) -> None:
        with self.engine.connect() as connection:
            changed = figures.scan_changes(connection, report.scan_id) if _has_changes(report) else {}
        self.telemetry.scan_finished(
            ScanFigures(
                workspace=report.workspace,
                mode=report.mode,
                state=report.state,
                seconds=(report.finished_at - report.began_at).total_seconds(),
                changes=changed,
                redactions=report.redactions,
                waited=report.traffic.waited,
                budget_used=report.traffic.budget_used,
            )
        )
        self.refresh_figures(report.workspace)
        level = logging.INFO if report.state == ScanState.COMPLETE else logging.WARNING
        log.log(
            level,
            "scan finished",
            extra={
                "action": "scan_finished",
                "workspace": report.workspace,
                "mode": str(report.mode),
                "state": str(report.state),
                "scan": report.scan_id,
                "seconds": round((report.finished_at - report.began_at).total_seconds(), 3),
                # Below a name of their own: `created` is an attribute that every log record has already.
                "counts": {name: number for name, number in report.counts.items() if number},
                **({"error": report.error, "next_step": report.next_step} if report.error else {}),
            },
        )


def _event(row: finding_list.FindingRow, title: str, *, by_azure: bool) -> dict[str, str]:
    """A finding as an event's properties."""
    return {
        "finding": str(row.id),
        "fingerprint": row.fingerprint,
        "workspace": row.workspace,
        "rule": row.rule,
        "title": title,
        "severity": row.severity,
        "state": row.state,
        "kind": row.kind,
        "key": row.key,
        "name": row.name or "",
        "owner": row.owner or "unknown",
        "since": row.since.isoformat(),
        "first_seen": row.first_seen.isoformat(),
        "inherited": str(row.inherited).lower(),
        "alert": str(by_azure and not row.inherited).lower(),  # what was so when we began to look never pages
    }


def _has_changes(report: pipeline.ScanReport) -> bool:
    return any(report.counts.get(name) for name in ("created", "updated", "deleted", "restored", "purged"))


@contextmanager
def open_database(settings: Settings, environ: Mapping[str, str] | None = None) -> Iterator[Engine]:
    """Open the database, starting the embedded one if nobody has. Raises ConfigError when it cannot be had."""
    environ = os.environ if environ is None else environ
    with ExitStack() as stack:
        if settings.database == "embedded":
            try:
                url = stack.enter_context(embedded_postgres(settings.data_dir / "postgres"))
            except ConfigError as exc:
                raise DatabaseUnavailable(str(exc)) from exc
            engine = make_engine(url)
        else:
            engine = make_engine(settings.database_url(environ), password=_password(settings, environ))
        stack.callback(engine.dispose)
        try:
            engine.connect().close()
        except DBAPIError as exc:
            reason = str(exc.orig).strip().splitlines()[0] if exc.orig else "no reason given"
            raise DatabaseUnavailable(
                f"The database cannot be reached: {reason}. Check `database` in the configuration, that the server"
                " runs and lets this host in, and the password (STOCKTAKE_DATABASE_PASSWORD or PGPASSWORD)."
            ) from exc
        except SourceError as exc:  # Entra gives no token for the database
            raise DatabaseUnavailable(f"The database cannot be entered: {exc}") from exc
        yield engine


class DatabaseUnavailable(ConfigError):
    """The database does not answer, or does not let us in."""


@contextmanager
def open_app(
    settings: Settings, *, migrate_database: bool = True, environ: Mapping[str, str] | None = None
) -> Iterator[App]:
    """Put everything together for as long as the block runs."""
    environ = dict(os.environ if environ is None else environ)
    refuse_unknown(settings, load(settings))
    with open_database(settings, environ) as engine:
        if migrate_database:
            migrate.upgrade(engine)
        key = key_of(engine, settings, environ)
        redactor = redactor_of(settings, key)
        redact_with(redactor.text)
        telemetry = setup_telemetry(telemetry_config(settings, environ))
        try:
            app = App(
                settings=settings,
                engine=engine,
                redactor=redactor,
                key=key,
                telemetry=telemetry,
                environ=environ,
                ruling=Ruling(settings=settings, engine=engine),
            )
            app.refresh_found()
            yield app
        finally:
            telemetry.shutdown()


def redactor_of(settings: Settings, key: bytes) -> Redactor:
    """The redactor that the configuration asks for; a scan and a command add what people had removed."""
    redaction = settings.redaction
    return Redactor(key, keys=redaction.keys, values=redaction.values, allow=redaction.allow)


def remembering_redactor(engine: Engine, settings: Settings, environ: Mapping[str, str]) -> Redactor:
    """The same, with what people had removed, for a command that keeps words of its own."""
    redactor = redactor_of(settings, key_of(engine, settings, environ))
    with engine.connect() as connection:
        return redactor.remembering(redactions.remembered(connection))


def key_of(engine: Engine, settings: Settings, environ: Mapping[str, str]) -> bytes:
    """Return the installation key, made at first use: never for a database that was filled with one already."""
    with engine.connect() as connection:  # before the key is looked for: whoever filled it has written its key by then
        known = installation.known_check(connection)
    key = present_key(settings.data_dir, environ)
    if (why := installation.refusal(known, key, settings.data_dir)) is not None:
        raise why
    key = key or installation_key(settings.data_dir, environ)
    installation.check_key(engine, key)
    return key


def _password(settings: Settings, environ: Mapping[str, str]) -> Callable[[], str] | None:
    if settings.database_auth == "entra":
        return Identities().token(CredentialConfig(), _POSTGRES_SCOPE)
    password = secret(environ, "STOCKTAKE_DATABASE_PASSWORD") or secret(environ, "PGPASSWORD")
    return (lambda: password) if password else None


def telemetry_config(settings: Settings, environ: Mapping[str, str]) -> TelemetryConfig:
    """Translate the settings of telemetry; secrets come from the environment variables they name."""
    wanted = settings.telemetry
    otlp = azure = None
    if wanted.otlp is not None:
        headers = {}
        for pair in secret(environ, wanted.otlp.headers_env).split(","):
            name, mark, value = pair.partition("=")
            if mark:
                headers[name.strip()] = value.strip()
        otlp = OtlpConfig(endpoint=str(wanted.otlp.endpoint), headers=headers)
    if wanted.azure_monitor is not None:
        variable = wanted.azure_monitor.connection_string_env
        connection_string = secret(environ, variable)
        if not connection_string:
            raise ConfigError(
                f"telemetry.azure_monitor takes its connection string from the environment variable {variable},"
                " which is not set. Set it to the connection string of the Application Insights resource."
            )
        credential = None
        if wanted.azure_monitor.credential == "entra":
            from azure.identity import DefaultAzureCredential

            credential = DefaultAzureCredential()
        azure = AzureMonitorConfig(
            connection_string=connection_string,
            credential=credential,
            storage_directory=str(settings.data_dir / "azure-monitor"),
            live_metrics=wanted.azure_monitor.live_metrics,
        )
    return TelemetryConfig(interval=wanted.interval.total_seconds(), otlp=otlp, azure_monitor=azure)


def beat(app: App, holder: str) -> None:
    """Say, in memory and in the database, that this worker's loop has turned."""
    app.telemetry.beat()
    with app.engine.begin() as connection:
        ledger.beat(connection, holder)
