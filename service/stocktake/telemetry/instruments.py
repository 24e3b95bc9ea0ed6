"""The one catalogue of instruments: what stocktake measures about itself and about the servers it watches.

Nothing is recorded that is not declared here. An attribute is taken from a closed list, never from data: no run id,
no asset name, no user. docs/metrics.md is written from this file and compared with it by a test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from stocktake.core.assets import Category, ChangeType, Kind, Lifecycle, Mode, ScanState, ScopeState
from stocktake.core.discovery import Standing
from stocktake.core.findings import State as FindingState
from stocktake.core.rules import Severity

#: The value that stands for every value outside an attribute's list (the same word OpenTelemetry uses).
OTHER = "_OTHER"


class Instrument(StrEnum):
    """How a figure behaves."""

    GAUGE = "observable gauge"  # a state, held in memory and read when somebody asks; it never vanishes
    COUNTER = "counter"  # only ever grows
    OBSERVABLE_COUNTER = "observable counter"  # only ever grows, held in memory and read when somebody asks
    HISTOGRAM = "histogram"


class Fold(StrEnum):
    """How the figures of several workspaces become one, once there are more workspaces than series allowed."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """One dimension. `values` is the closed list; None is for names out of the configuration."""

    name: str
    meaning: str
    values: frozenset[str] | None


STATUS_CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx", "none")  # none: no answer came (refused, timeout, TLS)
EXPORTERS = ("otlp", "azure_monitor")
RESULTS = ("success", "failure")
OUTCOMES = ("sent", "failed", "dead")  # of an attempt to deliver; failed: it is tried again

ATTRIBUTES: Mapping[str, Attribute] = {
    attribute.name: attribute
    for attribute in (
        Attribute(name="workspace", meaning="a workspace's name in the configuration", values=None),
        Attribute(name="kind", meaning="what the assets are", values=frozenset(Kind)),
        Attribute(name="lifecycle", meaning="whether the source marks it deleted", values=frozenset(Lifecycle)),
        Attribute(name="type", meaning="what happened", values=frozenset(ChangeType)),
        Attribute(name="category", meaning="the weightiest field that changed", values=frozenset(Category)),
        Attribute(name="mode", meaning="how much the scan promised to look at", values=frozenset(Mode)),
        Attribute(
            name="state",
            meaning="how a scan ended, how completely a scope was listed, or where a finding stands",
            values=frozenset(ScanState) | frozenset(ScopeState) | frozenset(FindingState),
        ),
        Attribute(name="rule", meaning="a rule's id: one that is shipped, or the operator's own", values=None),
        Attribute(name="severity", meaning="how bad a finding is", values=frozenset(Severity)),
        Attribute(name="standing", meaning="how a found workspace stands", values=frozenset(Standing)),
        Attribute(name="status_class", meaning="class of the HTTP answer", values=frozenset(STATUS_CLASSES)),
        Attribute(name="exporter", meaning="where figures are pushed", values=frozenset(EXPORTERS)),
        Attribute(name="result", meaning="whether the receiver took them", values=frozenset(RESULTS)),
        Attribute(
            name="receiver", meaning="a receiver's name in the configuration; any other is `_OTHER`", values=None
        ),
        Attribute(name="outcome", meaning="what became of an attempt to deliver", values=frozenset(OUTCOMES)),
        # Facts of the build: one value per process, so they cannot grow.
        Attribute(name="version", meaning="stocktake's version", values=None),
        Attribute(name="python", meaning="Python's version", values=None),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """One instrument: everything a person needs to read its figures."""

    name: str
    instrument: Instrument
    unit: str  # UCUM, as OpenTelemetry writes it: s, By, 1, {scan}
    description: str
    attributes: tuple[str, ...] = ()
    fold: Fold = Fold.SUM
    buckets: tuple[float, ...] = field(default=())  # upper bounds, of histograms only


SCAN_COVERAGE = Declaration(
    name="stocktake.scan.coverage",
    instrument=Instrument.GAUGE,
    unit="1",
    description="Share of the scopes of a kind whose last look that promised completeness was complete.",
    attributes=("workspace", "kind"),
    fold=Fold.MIN,
)
SCOPE_COUNT = Declaration(
    name="stocktake.scopes",
    instrument=Instrument.GAUGE,
    unit="{scope}",
    description="Scopes by how completely they were last listed.",
    attributes=("workspace", "kind", "state"),
)
SCAN_AGE = Declaration(
    name="stocktake.scan.age",
    instrument=Instrument.GAUGE,
    unit="s",
    description=(
        "Time since the oldest complete look among the scopes of a kind; of a kind never completely seen, time since "
        "the workspace is watched."
    ),
    attributes=("workspace", "kind"),
    fold=Fold.MAX,
)
SCAN_AGE_LIMIT = Declaration(
    name="stocktake.scan.age_limit",
    instrument=Instrument.GAUGE,
    unit="s",
    description="The staleness bound the schedule promises for a kind; an age well above it is stale.",
    attributes=("workspace", "kind"),
    fold=Fold.MAX,
)
ASSET_COUNT = Declaration(
    name="stocktake.assets",
    instrument=Instrument.GAUGE,
    unit="{asset}",
    description="Assets known, by kind and lifecycle.",
    attributes=("workspace", "kind", "lifecycle"),
)
WITHHELD_REMOVALS = Declaration(
    name="stocktake.withheld_removals",
    instrument=Instrument.GAUGE,
    unit="{asset}",
    description="Assets that look removed, whose removal the guard withholds until it is confirmed or accepted.",
    attributes=("workspace", "kind"),
)
WORKSPACE_OBSERVABLE = Declaration(
    name="stocktake.workspace.observable",
    instrument=Instrument.GAUGE,
    unit="{workspace}",
    description="1 when the last scan could see the workspace, 0 when it was unreachable or access was denied.",
    attributes=("workspace",),
    fold=Fold.MIN,
)
DISCOVERED = Declaration(
    name="stocktake.discovery.workspaces",
    instrument=Instrument.GAUGE,
    unit="{workspace}",
    description="Workspaces that discovery ever found, by how they stand.",
    attributes=("standing",),
)
DISCOVERY_NOT_LOOKED = Declaration(
    name="stocktake.discovery.scopes_not_looked_at",
    instrument=Instrument.GAUGE,
    unit="{scope}",
    description="Subscriptions, resource and management groups that discovery could not look at the last time.",
)
HEARTBEAT_AGE = Declaration(
    name="stocktake.worker.heartbeat.age",
    instrument=Instrument.GAUGE,
    unit="s",
    description="Time since the worker's loop last turned.",
)
DATABASE_SIZE = Declaration(
    name="stocktake.database.size",
    instrument=Instrument.GAUGE,
    unit="By",
    description="Size of stocktake's own database.",
)
BUILD_INFO = Declaration(
    name="stocktake.build.info",
    instrument=Instrument.GAUGE,
    unit="{build}",
    description="Always 1; the attributes name what runs.",
    attributes=("version", "python"),
)
SCANS = Declaration(
    name="stocktake.scans",
    instrument=Instrument.COUNTER,
    unit="{scan}",
    description="Scans finished, by mode and by how they ended.",
    attributes=("workspace", "mode", "state"),
)
SCAN_DURATION = Declaration(
    name="stocktake.scan.duration",
    instrument=Instrument.HISTOGRAM,
    unit="s",
    description="How long scans took.",
    attributes=("workspace", "mode"),
    buckets=(0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400),
)
CHANGES = Declaration(
    name="stocktake.changes",
    instrument=Instrument.COUNTER,
    unit="{change}",
    description="Changes published, by what happened and what it is about.",
    attributes=("workspace", "kind", "type", "category"),
)
REDACTIONS = Declaration(
    name="stocktake.redactions",
    instrument=Instrument.COUNTER,
    unit="{value}",
    description="Values that looked like secrets and were replaced by a fingerprint before they were stored.",
    attributes=("workspace", "kind"),
)
FINDINGS = Declaration(
    name="stocktake.findings",
    instrument=Instrument.GAUGE,
    unit="{finding}",
    description="Findings that are not resolved, by rule and by where they stand; of rules that ever found something.",
    attributes=("workspace", "rule", "severity", "state"),
)
TRANSITIONS = Declaration(
    name="stocktake.finding.transitions",
    instrument=Instrument.COUNTER,
    unit="{transition}",
    description="Findings that came to stand otherwise, by the state they came to; each replica counts all of them.",
    attributes=("workspace", "rule", "severity", "state"),
)
NOT_JUDGED = Declaration(
    name="stocktake.rules.not_judged",
    instrument=Instrument.GAUGE,
    unit="{rule}",
    description="Rules that claim nothing of a workspace, because what they need was never completely listed.",
    attributes=("workspace",),
)
RULES_FAILING = Declaration(
    name="stocktake.rules.failing",
    instrument=Instrument.GAUGE,
    unit="{rule}",
    description="Rules that could not be asked about a workspace the last time; their findings stay as they were.",
    attributes=("workspace",),
)
PLANNING_AGE = Declaration(
    name="stocktake.alerts.planning.age",
    instrument=Instrument.GAUGE,
    unit="s",
    description="Time since this worker last planned alerts, or since it began to try.",
)
DELIVERY_ATTEMPTS = Declaration(
    name="stocktake.delivery.attempts",
    instrument=Instrument.COUNTER,
    unit="{attempt}",
    description="Attempts of this worker to deliver, by what became of them; dead: given up.",
    attributes=("receiver", "outcome"),
)
DELIVERIES_WAITING = Declaration(
    name="stocktake.delivery.waiting",
    instrument=Instrument.GAUGE,
    unit="{delivery}",
    description="Deliveries in the outbox that have not arrived and are not given up.",
    attributes=("receiver",),
)
DELIVERY_AGE = Declaration(
    name="stocktake.delivery.oldest.age",
    instrument=Instrument.GAUGE,
    unit="s",
    description="Time since the oldest delivery that still waits was planned; 0 where none waits.",
    attributes=("receiver",),
    fold=Fold.MAX,
)
DEAD_LETTERS = Declaration(
    name="stocktake.delivery.dead",
    instrument=Instrument.GAUGE,
    unit="{delivery}",
    description="Deliveries that were given up, until they are tried once more or dropped (`alerts.keep`).",
    attributes=("receiver",),
)
RECEIVER_RESTING = Declaration(
    name="stocktake.receiver.resting",
    instrument=Instrument.GAUGE,
    unit="{receiver}",
    description="1 while a receiver fails and is left alone between two tries, 0 while it takes what it is sent.",
    attributes=("receiver",),
    fold=Fold.MAX,
)
HEAD_AGE = Declaration(
    name="stocktake.evidence.head.age",
    instrument=Instrument.GAUGE,
    unit="s",
    description="Time since this worker last published the head of the evidence chain, or since it began to try.",
)
HEAD_AGE_LIMIT = Declaration(
    name="stocktake.evidence.head.age_limit",
    instrument=Instrument.GAUGE,
    unit="s",
    description="How old a published head may become: what the configuration promises.",
)
REQUESTS = Declaration(
    name="stocktake.source.requests",
    instrument=Instrument.COUNTER,
    unit="{request}",
    description="Requests sent to watched servers, by class of the answer.",
    attributes=("workspace", "status_class"),
)
REQUEST_DURATION = Declaration(
    name="stocktake.source.request.duration",
    instrument=Instrument.HISTOGRAM,
    unit="s",
    description="How long watched servers took to answer.",
    attributes=("workspace",),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
THROTTLED = Declaration(
    name="stocktake.source.throttled",
    instrument=Instrument.COUNTER,
    unit="{response}",
    description="Answers of watched servers that asked us to slow down (429, or 503 with Retry-After).",
    attributes=("workspace",),
)
RETRIES = Declaration(
    name="stocktake.source.retries",
    instrument=Instrument.COUNTER,
    unit="{request}",
    description="Requests to watched servers that were sent again.",
    attributes=("workspace",),
)
BYTES_READ = Declaration(
    name="stocktake.source.read",
    instrument=Instrument.COUNTER,
    unit="By",
    description="Bytes of answers read from watched servers.",
    attributes=("workspace",),
)
WAITED = Declaration(
    name="stocktake.source.waited",
    instrument=Instrument.COUNTER,
    unit="s",
    description="Time that requests waited for their turn in what Azure grants a subscription's identity.",
    attributes=("workspace",),
)
BUDGET_USED = Declaration(
    name="stocktake.source.budget_used",
    instrument=Instrument.GAUGE,
    unit="1",
    description="Share of a workspace's budget of requests that its last scan used; at 1 the scan was cut short.",
    attributes=("workspace",),
    fold=Fold.MAX,
)
EXPORTS = Declaration(
    name="stocktake.telemetry.exports",
    instrument=Instrument.OBSERVABLE_COUNTER,
    unit="{export}",
    description="Attempts to push these figures, by exporter and result.",
    attributes=("exporter", "result"),
)

#: Listed by hand, in the order in which docs/metrics.md tells them.
CATALOGUE: tuple[Declaration, ...] = (
    SCAN_AGE,
    SCAN_AGE_LIMIT,
    SCAN_COVERAGE,
    SCOPE_COUNT,
    WORKSPACE_OBSERVABLE,
    WITHHELD_REMOVALS,
    SCANS,
    SCAN_DURATION,
    ASSET_COUNT,
    CHANGES,
    REDACTIONS,
    FINDINGS,
    TRANSITIONS,
    NOT_JUDGED,
    RULES_FAILING,
    PLANNING_AGE,
    DELIVERY_ATTEMPTS,
    DELIVERIES_WAITING,
    DELIVERY_AGE,
    DEAD_LETTERS,
    RECEIVER_RESTING,
    HEAD_AGE,
    HEAD_AGE_LIMIT,
    REQUESTS,
    REQUEST_DURATION,
    THROTTLED,
    RETRIES,
    BYTES_READ,
    WAITED,
    BUDGET_USED,
    DISCOVERED,
    DISCOVERY_NOT_LOOKED,
    HEARTBEAT_AGE,
    DATABASE_SIZE,
    EXPORTS,
    BUILD_INFO,
)


class UndeclaredAttribute(ValueError):
    """A figure came with other attributes than its instrument declares: a mistake in stocktake itself."""


def checked(declaration: Declaration, attributes: Mapping[str, str]) -> dict[str, str]:
    """The attributes as they may leave the process: exactly those declared, values from their closed lists.

    A wrong name raises, whatever the data. A value outside its list becomes `_OTHER`: data can never add a series.
    """
    if set(attributes) != set(declaration.attributes):
        raise UndeclaredAttribute(
            f"{declaration.name} takes the attributes {sorted(declaration.attributes)}, not {sorted(attributes)}"
        )
    allowed: dict[str, str] = {}
    for name in declaration.attributes:
        values = ATTRIBUTES[name].values
        value = str(attributes[name])
        allowed[name] = value if values is None or value in values else OTHER
    return allowed
