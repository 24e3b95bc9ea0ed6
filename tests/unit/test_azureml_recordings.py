"""What Azure was seen to answer is read without loss: but for the documented fields, the document is the body."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from stocktake.core import canonical
from stocktake.core.assets import Kind
from stocktake.core.reconcile import MLFLOW_STATES
from stocktake.core.redact import Redactor
from stocktake.sources.azureml_documents import parse
from stocktake.sources.azureml_jobs import ENDED
from stocktake.sources.azureml_left_out import WHILE_RUNNING, Why, rows
from tests.azureml_recordings import Recorded, recorded


@pytest.fixture(scope="module")
def items() -> list[Recorded]:
    return usable(list(recorded()))


def usable(items: list[Recorded]) -> list[Recorded]:
    """Examples of the specification write "string" where an id would be: given one, they are as good as the others."""
    return [one._replace(body=one.body | {"id": _example_id(one)}) if _has_no_id(one) else one for one in items]


def _has_no_id(one: Recorded) -> bool:
    return one.where.startswith("rest-api-specs") and one.body.get("id") in ("string", None)


def _example_id(one: Recorded) -> str:
    below = {
        Kind.ONLINE_DEPLOYMENT: "onlineEndpoints/e/deployments/d",
        Kind.BATCH_DEPLOYMENT: "batchEndpoints/e/deployments/d",
        Kind.MODEL_VERSION: "models/n/versions/1",
        Kind.DATA_VERSION: "data/n/versions/1",
        Kind.ENVIRONMENT_VERSION: "environments/n/versions/1",
        Kind.COMPONENT_VERSION: "components/n/versions/1",
    }
    return "/subscriptions/s/resourceGroups/g/workspaces/w/" + below.get(one.kind, "things/t")


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is no map, with its path; empty maps too, and never null: that is the same as not there."""
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from leaves(item, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        yield path, [dict(leaves(item)) if isinstance(item, dict) else item for item in value]
    elif value is not None:
        yield path, value


def documented(kind: Kind, body: dict[str, Any]) -> re.Pattern[str]:
    """The paths that the table says are left out, and everything below them."""
    table = [row.path for row in rows(kind)]
    if kind is Kind.CHILD_JOB and body.get("status") not in ENDED:
        table += [row.path for row in WHILE_RUNNING]
    patterns = [
        r"(?:.*\.)?" + re.escape(path.removeprefix("**.")) if path.startswith("**.") else re.escape(path)
        for path in table
    ]
    return re.compile(r"(?:" + "|".join(patterns) + r")(?:\..*)?")


def test_what_is_stored_misses_nothing_of_a_body_but_the_documented_fields(items: list[Recorded]) -> None:
    seen = Counter[Kind]()
    for where, kind, body in items:
        document = parse(kind, json.dumps(body).encode()).document
        ours, left_out = dict(leaves(document)), documented(kind, body)
        missing = {
            path: value
            for path, value in leaves(body)
            if not left_out.fullmatch(path) and ours.get(path, _emptied(document, path, value)) != value
        }
        assert not missing, where
        assert not {path for path in ours if left_out.fullmatch(path)}, where
        assert not ours.keys() - dict(leaves(body)).keys() - _parents(body), where
        seen[kind] += 1
    assert sum(seen.values()) > 150
    without_a_recording = {Kind.ROLE_ASSIGNMENT, Kind.DIAGNOSTIC_SETTING, Kind.STORAGE_ACCOUNT}
    azure = {kind for kind in Kind if kind.value in _AZURE}
    assert azure - seen.keys() == without_a_recording


_AZURE = frozenset(
    {"workspace", "registered_model", "model_version"}
    | {kind.value for kind in list(Kind)[list(Kind).index(Kind.JOB) :]}
)


def _emptied(document: Any, path: str, value: Any) -> Any:
    """A list of maps in which only null was dropped is compared by its leaves; a map that is empty is there."""
    return value if value == {} and _at(document, path) == {} else None


def _at(document: Any, path: str) -> Any:
    for name in path.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _parents(body: Any, path: str = "") -> set[str]:
    """Paths of maps: one whose fields are all null, or all left out, is an empty map in the document."""
    if not isinstance(body, dict):
        return set()
    below = (_parents(item, f"{path}.{name}" if path else name) for name, item in body.items())
    return {path}.union(*below)


def test_a_recorded_item_read_twice_gives_the_same_bytes_and_a_key_that_is_text(items: list[Recorded]) -> None:
    for where, kind, body in items:
        once, again = parse(kind, json.dumps(body).encode()), parse(kind, json.dumps(body, indent=1).encode())
        assert canonical.encode(once.document) == canonical.encode(again.document), where
        assert once.key, where
        assert b"null" not in re.sub(rb'"(?:[^"\\]|\\.)*"', b"", canonical.encode(once.document)), where


def test_of_every_recorded_job_the_state_is_known_and_the_time_it_was_made_is_read(items: list[Recorded]) -> None:
    states = set()
    for where, kind, body in items:
        if kind in (Kind.JOB, Kind.CHILD_JOB) and where.startswith("recordings"):
            asset = parse(kind, json.dumps(body).encode())
            if "status" in body or "properties" in body:  # the resource manager shows a step without properties
                assert asset.state in MLFLOW_STATES, where
            assert asset.created_at is not None, where
            states.add(asset.state)
    assert states >= {"Queued", "Preparing", "Starting", "Running", "Finalizing", "CancelRequested", *ENDED} - {
        "Canceled"
    }


_ARTIFACTS = "azureml://datastores/workspaceartifactstore/ExperimentRun"


def test_a_recorded_child_names_the_container_of_its_artifacts_and_whose_it_reuses(items: list[Recorded]) -> None:
    reused = 0
    for where, kind, body in items:
        if kind is Kind.CHILD_JOB:
            asset = parse(kind, json.dumps(body).encode())
            document = asset.document
            assert asset.artifact_uri == f"{_ARTIFACTS}/{body['dataContainerId']}", where
            assert document["dataContainerId"] == body["dataContainerId"], where
            if other := body["properties"].get("azureml.reusedrunid"):
                reused += 1
                assert body["dataContainerId"] == f"dcid.{other}", where
                assert document["properties"]["azureml.reusedrunid"] == other, where
    assert reused == 7


def test_no_recorded_secret_passes_the_parser_and_the_redactor(items: list[Recorded]) -> None:
    redactor = Redactor(b"k" * 32)
    for where, kind, body in items:
        raw = json.dumps(body).encode()
        document = parse(kind, raw).document
        clean, _ = redactor.redact(document, canonical.encode(document))
        written = canonical.encode(clean).decode()
        for row in rows(kind):
            if row.why is Why.SECRET and not row.path.startswith("**."):
                secret = _at(body, row.path)
                assert not (isinstance(secret, str) and secret in written), where
