"""Where Azure's lists say otherwise than a GET of the same thing: as recorded, and so on the loopback Azure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from stocktake.core.assets import Kind
from stocktake.sources.azureml_left_out import rows
from stocktake.sources.azureml_lifting import moment
from stocktake.sources.azureml_plan import BY_KIND
from tests.azure.recordings import Recordings
from tests.azureml_recordings import KINDS, RECORDINGS
from tests.needs import need


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    """The paths at which two bodies differ, two levels deep; null is not there."""
    return {path for path in {*_flat(one), *_flat(other)} if _flat(one).get(path) != _flat(other).get(path)}


def _flat(body: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in body.items():
        below = value if isinstance(value, dict) and name in ("properties", "systemData") else None
        found |= {name: value} if below is None else {f"{name}.{inner}": item for inner, item in below.items()}
    return {path: value for path, value in found.items() if value is not None}


def _pairs() -> Iterator[tuple[Kind, dict[str, Any], dict[str, Any]]]:
    """What was recorded in a list and by name, in the same workspace: it was made within the same second."""
    need(RECORDINGS.is_dir(), "the recorded exchanges are not here (../shared/data/azureml)")
    listed, got = list[tuple[Kind, dict[str, Any]]](), list[tuple[Kind, dict[str, Any]]]()
    for one in Recordings(RECORDINGS / "recordings").all:
        folder = one.file.parent.name
        if folder in KINDS and one.method == "GET" and one.status == 200 and "management.azure.com" in one.uri:
            bodies = one.body["value"] if folder.endswith("-list") else [one.body]
            (listed if folder.endswith("-list") else got).extend((KINDS[folder], body) for body in bodies)
    for kind, body in listed:
        for other, single in got:
            if kind is other and body.get("id") == single.get("id") and _near(_made(body), _made(single)):
                yield kind, body, single


def _made(body: Mapping[str, Any]) -> datetime | None:
    return moment((body.get("systemData") or {}).get("createdAt"))


def _near(one: datetime | None, other: datetime | None) -> bool:
    return one is not None and other is not None and abs(one - other) < timedelta(seconds=1)


def test_what_was_recorded_in_a_list_and_by_name_differs_where_the_plan_says_so_and_nowhere_else() -> None:
    found: dict[Kind, set[str]] = {}
    for kind, listed, got in _pairs():
        volatile = {row.path for row in rows(kind)}
        changed = differing(listed, got) - volatile - {"properties.isArchived"}  # archived between the two
        found.setdefault(kind, set()).update(changed)
    assert found == {
        Kind.COMPONENT: {"systemData.createdAt", "systemData.createdBy", "systemData.createdByType"},
        Kind.DATA_VERSION: {"properties.dataUri"},
        Kind.BATCH_DEPLOYMENT: set(), Kind.DATASTORE: set(), Kind.ENVIRONMENT_VERSION: set(), Kind.MODEL_VERSION: set(),
    }  # fmt: skip
    assert {kind for kind, paths in found.items() if paths} <= {
        kind for kind, row in BY_KIND.items() if row.lists_otherwise
    }
