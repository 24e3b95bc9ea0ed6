"""The stable shape of machine-readable answers: which names, in which order. docs/reference/cli.md documents them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

ASSET = (
    "workspace", "kind", "key", "name", "state", "lifecycle", "owner", "partition", "parent", "run", "first_seen",
    "last_changed", "created_at", "started_at", "ended_at", "artifact_uri", "code_version", "data_version", "gone_at",
    "document", "aside",
)  # fmt: skip
ASSET_TSV = tuple(name for name in ASSET if name not in ("document", "aside"))
VERSION = (
    "workspace", "kind", "key", "name", "state", "lifecycle", "valid_from", "valid_to", "ended_by", "digest",
    "document",
)  # fmt: skip
VERSION_TSV = tuple(name for name in VERSION if name != "document")
CHANGE = (
    "id", "at", "not_before", "not_after", "actor", "actor_source", "workspace", "kind", "key", "name", "type",
    "category", "scan", "fields", "includes", "part_of",
)  # fmt: skip
PRODUCTION = (
    "workspace", "model", "version", "because", "certainty", "became_not_before", "became_not_after",
    "ceased_not_before", "ceased_not_after", "run", "run_state", "code_version", "data_version", "environment",
    "evidence", "workspace_deletion", "run_why", "run_listed_at",
)  # fmt: skip
PRODUCTION_TSV = tuple(name for name in PRODUCTION if name != "evidence")
LINEAGE = ("workspace", "kind", "key", "at", "workspace_deletion", "cut", "nodes", "edges")
DELETION = ("state", "not_before", "not_after", "last_seen", "recoverable_until")
LINEAGE_NODE = (
    "kind", "key", "name", "state", "standing", "why", "listed_at", "code_version", "valid_from", "digest", "scan",
)  # fmt: skip
JOB_RUN = (
    "workspace", "key", "verdict", "job_kind", "job_state", "run_state", "expected_run_state", "job_since",
    "run_since", "job_seen", "run_seen", "other_listed", "job_valid_from", "run_valid_from", "queue_seconds",
    "startup_seconds", "duration_seconds",
)  # fmt: skip
FETCH = (
    "id", "began_at", "finished_at", "workspace", "kind", "key", "what", "state", "place", "blobs", "bytes", "identity",
    "operator", "error",
)  # fmt: skip
DOWNLOAD = (
    "workspace", "key", "output", "folder", "place", "told_by", "job_state", "blobs", "bytes", "there_before",
    "refused", "examples", "error",
)  # fmt: skip
COUNTS = (
    "seen", "created", "updated", "deleted", "restored", "purged", "baseline", "carried", "withheld", "redacted",
)  # fmt: skip
SCAN = (
    "workspace", "mode", "state", "scan_id", "began_at", "finished_at", *COUNTS, "requests", "identity", "trouble",
    "error", "next_step", "scopes",
)  # fmt: skip
SCAN_TSV = tuple(name for name in SCAN if name != "scopes")
SCOPE = ("kind", "partition", "state", "reason", "listed")
STATUS = (
    "name", "source", "uri", "configured", "state", "state_since", "error", "next_step", "last_hot", "last_sweep",
    "age", "staleness_bound", "scanning", "assets", "coverage", "withheld", "found_by", "standing", "standing_why",
    "deletion", "failing_rules",
)  # fmt: skip
STATUS_TSV = tuple(
    name for name in STATUS if name not in ("coverage", "withheld", "last_hot", "last_sweep", "failing_rules")
)
PASS = ("scan_id", "mode", "state", "began_at", "finished_at", "passes", "last_finished_at")
COVERAGE = ("kind", "partitions", "complete", "oldest_complete", "state", "reason")
WITHHELD = ("kind", "partition", "count", "since", "confirmations", "accepted")
COVERED = ("workspace", *COVERAGE, "withheld")
FIGURE = ("figure", "meaning", "count", "bytes", "examples")
DISCOVERED = (
    "entry", "workspace", "standing", "since", "subscription", "resource_group", "azure_workspace", "region", "tags",
    "how", "watched_since", "last_seen", "scope", "why", "next_step",
)  # fmt: skip
DISCOVERED_TSV = tuple(name for name in DISCOVERED if name != "tags")
FINDING = (
    "id", "fingerprint", "workspace", "rule", "severity", "kind", "key", "name", "owner", "state", "since", "inherited",
    "first_seen", "last_seen", "opened_at", "resolved_at", "acknowledged_at", "waived_until", "evidence", "change",
    "actor", "actor_source", "scan",
)  # fmt: skip
FINDING_TSV = tuple(name for name in FINDING if name != "evidence")
FINDING_SHOWN = (*FINDING, "history", "words")
FINDING_EVENT = ("at", "before", "after", "actor", "reason", "evidence", "scan")
RULE = (
    "id", "severity", "group", "sort", "kinds", "needs", "opens_after", "resolves_after", "title", "why", "inspect_cli",
    "inspect_rest", "inspect_portal", "fix", "rollback", "signal", "runbook", "statement", "origin", "off", "failing",
)  # fmt: skip
RULE_TSV = (
    "id", "severity", "group", "sort", "kinds", "needs", "opens_after", "resolves_after", "title", "runbook", "origin",
    "off",
)  # fmt: skip
FAILING = ("workspace", "rule", "error", "since")
RULE_CHECKED = ("file", "line", "rule", "sort", "ok", "problem")
RULE_TESTED = ("workspace", "kind", "key", "state", "evidence")
RULE_TESTED_TSV = ("workspace", "kind", "key", "state")
RULE_TRIED = ("at", "workspace", "rule", "kind", "key", "before", "after", "inherited", "evidence")
RULE_TRIED_TSV = tuple(name for name in RULE_TRIED if name != "evidence")
CHECK = ("level", "check", "workspace", "message", "next_step")


def record(row: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Take the named fields of a row, in this order; a field that the row does not have is null."""
    if isinstance(row, Mapping):
        return {name: row.get(name) for name in names}
    return {name: getattr(row, name, None) for name in names}


def deletion(of: Any) -> dict[str, Any] | None:
    """What became of a workspace that is deleted, as programs read it; null of one that is not."""
    return record(of, DELETION) if of is not None else None


def change(row: Any) -> dict[str, Any]:
    """A change as programs read it: who did it is "unknown" unless a source named the actor."""
    made = record(row, CHANGE)
    made["actor"] = made["actor"] or "unknown"
    made["fields"] = [
        {"path": item["path"], "before": item.get("before"), "after": item.get("after")}
        for item in (dict(field) if isinstance(field, Mapping) else _field(field) for field in made["fields"] or ())
    ]
    made["includes"] = dict(made["includes"] or {})
    return made


def scan(report: Any) -> dict[str, Any]:
    """What one scan did, as programs read it."""
    made = record(report, SCAN)
    for name in COUNTS:
        made[name] = int(report.counts.get(name, 0))
    made["requests"] = report.traffic.requests
    made["scopes"] = [record(one, SCOPE) for one in report.scopes]
    return made


def status(
    of: Any, *, configured: bool, bound: float | None, found: Any = None, failing: Sequence[Any] = ()
) -> dict[str, Any]:
    """How a workspace stands, as programs read it. `age` and `staleness_bound` are seconds."""
    made = record(of, STATUS)
    if found is not None:
        made["found_by"], made["standing"], made["standing_why"] = found.entry, found.standing, found.why or None
    made["configured"], made["staleness_bound"] = configured, bound
    made["assets"], made["deletion"] = dict(of.assets), deletion(of.deletion)
    made["coverage"] = [record(one, COVERAGE) for one in of.coverage]
    made["withheld"] = [record(one, WITHHELD) for one in of.withheld]
    made["failing_rules"] = [record(one, FAILING) for one in failing]
    for name in ("last_hot", "last_sweep"):
        made[name] = record(made[name], PASS) if made[name] is not None else None
    return made


def discovered(one: Any) -> dict[str, Any]:
    """A workspace that discovery found, as programs read it."""
    made = record(one, DISCOVERED) | {
        "workspace": one.name, "subscription": one.place.subscription, "resource_group": one.place.resource_group,
        "azure_workspace": one.place.workspace, "region": one.place.region, "tags": dict(one.place.tags),
        "watched_since": one.first_seen,
    }  # fmt: skip
    return {name: made[name] or None if name in ("why", "next_step") else made[name] for name in DISCOVERED}


def not_looked_at(entry: str, scope: Any) -> dict[str, Any]:
    """A scope that could not be looked at, among what was found."""
    made = dict.fromkeys(DISCOVERED) | {"entry": entry, "standing": "not-looked-at", "scope": scope.path}
    return made | {"why": scope.why, "next_step": scope.next_step}


def _field(item: Any) -> dict[str, Any]:
    return {"path": item.path, "before": item.before, "after": item.after}
