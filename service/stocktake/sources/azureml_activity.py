"""Reads the Azure activity log: who wrote to which asset of a workspace, and when.

Of a line nothing is kept but what core.actors.Line has: no claims, no address, no request. What was done through MLflow
or the studio's own services is not in this log. It must never pass over a line that it does not understand and that
is about an asset of ours: somebody could then be called the only one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import msgspec

from stocktake.core.actors import Line, can_change
from stocktake.core.assets import Kind
from stocktake.core.errors import SourceError, Trouble
from stocktake.sources.arm import Arm
from stocktake.sources.azureml_documents import WORKSPACE_KEY
from stocktake.sources.azureml_lifting import moment
from stocktake.sources.azureml_plan import ACTIVITY_LOG, ACTIVITY_VERSION, BY_KIND, STORAGE_PARTS, Place

_ADMINISTRATIVE = "administrative"
#: What a status says in the REST API, and in what is exported from it. Whatever else there is was not done.
_STATUSES = {
    **dict.fromkeys(("started", "start", "in progress", "inprogress"), (False, False)),
    **dict.fromkeys(("accepted", "accept", "succeeded", "success"), (True, False)),
    **dict.fromkeys(("failed", "fail", "failure", "canceled", "cancelled", "timedout"), (False, True)),
}
#: Of a name, a caller, an id, in bytes: an act is found by all of them, and Postgres has an index of 2704 at most.
_LONGEST = 600
_ROLES = "/providers/microsoft.authorization/roleassignments/"


class _Event(msgspec.Struct, rename="camel"):
    category: Any = None
    status: Any = None
    operation_name: Any = None
    resource_id: Any = None
    event_timestamp: Any = None
    event_data_id: Any = None
    operation_id: Any = None
    correlation_id: Any = None
    caller: Any = None


_event = msgspec.json.Decoder(_Event)


def pages(arm: Arm, place: Place, storage: str | None, since: datetime, until: datetime) -> Iterator[Sequence[Line]]:
    """Every line about the workspace and what is in it, page by page. Raises SourceError where a page fails."""
    asked = (
        f"eventTimestamp ge '{_stamp(since)}' and eventTimestamp le '{_stamp(until)}'"
        f" and resourceGroupName eq '{place.resource_group}'"
    )
    for page in arm.pages(place.path(ACTIVITY_LOG), ACTIVITY_VERSION, {"$filter": asked}):
        if page.problems:
            raise _odd(page.problems[0])
        yield [told for raw in page.items if (told := line(raw, place, storage)) is not None]


def line(raw: bytes, place: Place, storage: str | None) -> Line | None:
    """What a line tells of an asset of ours; None where it is about nothing of ours, or nothing was done."""
    try:
        event = _event.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _odd("an event of the activity log has another shape") from None
    status = _STATUSES.get(_said(event.status).casefold())
    operation = _said(event.operation_name)
    if status is None or not can_change(operation) or _said(event.category).casefold() != _ADMINISTRATIVE:
        return None
    about = asset_of(event.resource_id, place, storage) if isinstance(event.resource_id, str) else None
    if about is None:
        return None
    at = moment(event.event_timestamp)
    event_id = _said(event.event_data_id)
    if at is None or not event_id:
        raise _odd(f"an event of the activity log about a {about[0]} has no time or no id")
    operation_id = _said(event.operation_id) or _said(event.correlation_id) or event_id
    told = Line(*about, operation, operation_id, event_id, _said(event.caller).strip(), at, *status)
    if max(len(part.encode("utf-8", "surrogatepass")) for part in told[:6]) > _LONGEST:
        raise _odd(f"an event of the activity log about a {about[0]} holds a name that is longer than Azure's are")
    return told


def asset_of(resource: str, place: Place, storage: str | None) -> tuple[Kind, str] | None:
    """The asset that a resource of Azure's is, as it is listed for this workspace. Azure minds upper case nowhere."""
    path = unquote(resource).rstrip("/")
    folded, scope = path.casefold(), unquote(place.scope).casefold()
    if folded == scope:
        return Kind.WORKSPACE, WORKSPACE_KEY
    if _ROLES in folded:  # one that is given above the workspace holds in it too
        above, _, name = folded.rpartition(_ROLES)
        if "/" not in name and (scope == above or scope.startswith(f"{above}/")):
            return Kind.ROLE_ASSIGNMENT, path[-len(name) :]
        return None
    if storage is not None and f"{folded}/".startswith(f"{unquote(storage).rstrip('/').casefold()}/"):
        below = folded[len(unquote(storage).rstrip("/")) :]
        parts = ("", *(part.casefold() for part in STORAGE_PARTS.values()))
        return (Kind.STORAGE_ACCOUNT, unquote(storage).rstrip("/").rpartition("/")[2]) if below in parts else None
    for kind, pattern in _patterns(unquote(place.scope), unquote(place.group)):
        if found := pattern.fullmatch(path):
            return kind, "/".join(found.groups())
    return None


@lru_cache(maxsize=64)
def _patterns(scope: str, group: str) -> tuple[tuple[Kind, re.Pattern[str]], ...]:
    """How the ids of the assets of a workspace look: the paths that they are asked for by, or are listed under."""
    made = []
    for kind, row in BY_KIND.items():
        template = row.item or (f"{row.lists[0]}/{{key}}" if row.lists else "")
        if not template.endswith("{key}") or kind in (Kind.QUOTA, Kind.ROLE_ASSIGNMENT):
            continue
        pattern = re.escape(template)
        for name, stands_for in (("workspace", re.escape(scope)), ("group", re.escape(group))):
            pattern = pattern.replace(rf"\{{{name}\}}", stands_for)
        for name in ("parent", "key"):
            pattern = pattern.replace(rf"\{{{name}\}}", "([^/]+)")
        made.append((kind, re.compile(pattern, re.IGNORECASE)))
    return tuple(made)


def _said(word: Any) -> str:
    """A text, perhaps with its translation ({"value": "Succeeded", "localizedValue": ...}); empty where it is none."""
    word = word.get("value") if isinstance(word, dict) else word
    return word if isinstance(word, str) else ""


def _stamp(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{at.microsecond:06d}Z"


def _odd(what: str) -> SourceError:
    return SourceError(
        Trouble.SHAPE, what, next_step="Report this: nobody is named from what was not wholly understood."
    )
