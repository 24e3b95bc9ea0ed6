"""What Azure was recorded to answer, read by Microsoft's client and by our source: field by field they say the same.

The recordings are served as they are (tests/azure/replay.py). Whatever the client's own writer says of an asset is
looked for in our document of it, at its place there (`PLACES` says how the client calls the places). Where it is not
the same, a row of DIFFERENCES says so and why; nothing else may differ, and a row that holds for nothing is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import closing
from typing import Any, NamedTuple

import pytest

from stocktake.core.assets import Asset, Kind
from stocktake.core.errors import Trouble
from stocktake.sources.arm import ArmConfig
from stocktake.sources.azureml import AzureMl, AzureMlConfig
from stocktake.sources.azureml_plan import BY_KIND
from tests.azure.read_by_both import CONTAINERS, PLACE, Ask, Told, http, read_by_both
from tests.azure.recordings import Recordings
from tests.azure.replay import GROUP, SUBSCRIPTION, WORKSPACE, replayed
from tests.azure.sdk_places import leaves, places, plain, same_name
from tests.azureml_recordings import KINDS, RECORDINGS
from tests.needs import need
from tests.servers.reading import Clock, read


@pytest.fixture(scope="module")
def told() -> Told:
    return read_by_both()


def own(ask: Ask) -> dict[str, str]:
    """What the client shows and our document leaves out, because the key says it."""
    parent, _, name = ask.key.rpartition("/")
    here = {"id": PLACE.path(BY_KIND[ask.kind].item, parent=parent, key=name), "name": name}
    if ask.kind is Kind.WORKSPACE:
        return {"resource_group": GROUP, "name": WORKSPACE, "id": here["id"]}
    if parent and "deployment" in ask.kind:
        return here | {"endpoint_name": parent}
    return here | {"name": parent, "version": name} if parent else here


def compared(ask: Ask, theirs: Mapping[str, Any], ours: Asset) -> dict[str, tuple[Any, Any]]:
    """Whatever the client says, with what our document says in the same place; None where that says nothing."""
    document = {same_name(path): value for path, value in leaves(ours.document)}
    document |= {f"@{path}": value for path, value in own(ask).items()}
    found = {}
    for path, value in leaves(theirs):
        names = (f"@{path}", *map(same_name, places(ask.kind, path)))
        held = next((document[name] for name in names if name in document), None)
        found[path] = plain(path, value), plain(path, held)
    return found


class Row(NamedTuple):
    """Fields of the client (of one kind, or of every) that are not in our document as they are in it, and why."""

    kind: Kind | None
    path: str
    why: str

    def holds(self, kind: Kind, path: str) -> bool:
        return self.kind in (None, kind) and re.fullmatch(self.path, path) is not None


_MADE_UP = "the client fills in what was not answered"
_READ = "the client parses a text that we keep as it came"
#: All that differs.
DIFFERENCES = (
    Row(None, r"creation_context\.last_modified_(at|by|by_type)", "left out: it moves (azureml_left_out)"),
    Row(Kind.BATCH_ENDPOINT, r"properties\.AzureAsyncOperationUri", "left out: it moves (azureml_left_out)"),
    Row(Kind.BATCH_DEPLOYMENT, r"properties\.AzureAsyncOperationUri", "left out: it moves (azureml_left_out)"),
    Row(Kind.JOB, r"(component\.)?tags\._aml_system_ComputeTargetStatus", "left out: it moves (azureml_left_out)"),
    Row(Kind.COMPUTE, r"ssh_settings\.ssh_key_value", "left out: a way into the machine (azureml_left_out)"),
    Row(Kind.COMPONENT_VERSION, r"(name|version)", "of an anonymous component the client shows what its writer called"
        " it; we key it as Azure addresses it"),
    Row(Kind.COMPONENT_VERSION, r"is_deterministic|inputs\.\w+\.optional|resources\.instance_count", "Azure answers"
        " with a text, of which the client makes a truth value or a number"),
    Row(Kind.COMPUTE, r"ssh_settings\.ssh_port", "Azure answers with a number, of which the client makes a text"),
    Row(Kind.COMPUTE, r"enable_(node_public_ip|os_patching|root_access|sso)|release_quota_on_stop", _MADE_UP),
    Row(Kind.COMPUTE, r"identity\.user_assigned_identities\.0\.resource_id", "Azure answers with a map by resource id,"
        " of which the client makes a list"),
    Row(Kind.ENVIRONMENT_VERSION, r"conda_file\..*", _READ),
    Row(Kind.MODEL_VERSION, r"flavors\..*", _READ),
    Row(Kind.JOB, r"component\.(is_deterministic|name)|compute|jobs\.\w+\.type", _MADE_UP),
    Row(Kind.JOB, r"queue_settings\.priority", "Azure answers with a number, of which the client makes a word"),
    Row(Kind.JOB, r"search_space\..*", _READ),
    Row(Kind.JOB, r"type", "a command job that imports data: the client tells it by its command"),
)  # fmt: skip

#: What the client cannot read of what was recorded, and why.
UNREAD = {
    (Kind.ONLINE_ENDPOINT, "online-endp4e07306aec3d482"): "it asks for its deployments too, which nobody recorded",
    (Kind.SCHEDULE, "test_920634239342"): "a monitor in a preview's words: it looks for a monitoringTarget",
    (Kind.SCHEDULE, "test_538347638401"): "a monitor in a preview's words: it looks for a monitoringTarget",
}  # fmt: skip
#: Lists of which only the first page was recorded; the next one answers 404.
FIRST_PAGES = {
    "/models", "/models/test_849099544689/versions", "/models/test_1336047502/versions",
    "/components/test_628309516947/versions",
}  # fmt: skip


def differing(ask: Ask, theirs: Mapping[str, Any], ours: Asset) -> dict[str, tuple[Any, Any]]:
    """What is not the same, and in no row of the table."""
    return {
        path: pair
        for path, pair in compared(ask, theirs, ours).items()
        if pair[0] != pair[1] and not any(one.holds(ask.kind, path) for one in DIFFERENCES)
    }


@pytest.mark.timeout(300)
def test_of_every_recorded_asset_both_say_the_same(told: Told) -> None:
    readable = {ask: one for ask, one in told.gets.items() if (ask.kind, ask.key) not in UNREAD}
    assert {ask: one.theirs["!"] for ask, one in readable.items() if "!" in one.theirs} == {}
    assert {ask: found for ask, one in readable.items() if (found := differing(ask, one.theirs, one.ours))} == {}
    # Nothing was compared with nothing: some hundred assets, of each kind, and some thousand fields.
    assert len(readable) > 80
    assert sum(len(compared(ask, *one)) for ask, one in readable.items()) > 2000
    assert {ask.kind for ask in told.gets} == {
        kind for name, kind in KINDS.items() if (RECORDINGS / "recordings" / name).is_dir()
    } - CONTAINERS - {Kind.CHILD_JOB, Kind.REGISTRY}  # fmt: skip


def lifted(kind: Kind, theirs: Mapping[str, Any], ours: Asset) -> list[tuple[str, Any, Any]]:
    """What stands in columns of ours, beside what the client says of it."""
    outputs, context = theirs.get("outputs") or {}, theirs.get("creation_context") or {}
    pairs = [("created_at", context.get("created_at"), ours.created_at and ours.created_at.isoformat())]
    state = theirs.get("status") or (theirs.get("provisioning_state") if kind is not Kind.SCHEDULE else None)
    pairs += [("status", state, ours.state)] if kind is not Kind.COMPUTE else []
    pairs += [("status", theirs.get("state"), ours.state)]
    pairs += [("display_name", theirs.get("display_name"), ours.name)] if kind in (Kind.JOB, Kind.SCHEDULE) else []
    pairs += [("job_name", theirs.get("job_name"), ours.run)]
    pairs += [("endpoint_name", theirs.get("endpoint_name"), ours.parent)]
    place = (outputs.get("default") or {}).get("path") if kind is Kind.JOB else theirs.get("path")
    pairs += [("path", place, ours.artifact_uri)]
    return [(name, _to_the_millisecond(plain(name, said)), _to_the_millisecond(plain(name, held)))
            for name, said, held in pairs if said is not None]  # fmt: skip


def _to_the_millisecond(value: Any) -> Any:
    """A column holds milliseconds."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\dT[\d:]{8})(\.\d{1,3})?\d*", value) if isinstance(value, str) else None
    return found[1] + (found[2] or "").rstrip("0").rstrip(".") if found else value


def test_what_stands_in_columns_is_what_the_client_says(told: Told) -> None:
    pairs = {
        (ask, name): (said, held)
        for ask, one in told.gets.items()
        if "!" not in one.theirs
        for name, said, held in lifted(ask.kind, *one)
    }
    assert {name: pair for name, pair in pairs.items() if pair[0] != pair[1]} == {}
    assert {name for _, name in pairs} == {"created_at", "status", "display_name", "job_name", "endpoint_name", "path"}
    assert len(pairs) > 120


def test_of_every_recorded_list_both_see_the_same_assets_and_say_the_same_of_each(told: Told) -> None:
    wrong, fields = {}, 0
    for ask, (theirs, ours) in told.lists.items():
        said = {_key(ask, one): one for one in theirs if "!" not in one}
        assert said.keys() == ours.keys(), ask
        for key, one in said.items():
            of_one = Ask(ask.turn, ask.kind, key)
            fields += len(compared(of_one, one, ours[key]))
            if found := differing(of_one, one, ours[key]):
                wrong[of_one] = found
    assert wrong == {}
    assert fields > 1000


def _key(ask: Ask, one: Mapping[str, Any]) -> str:
    return f"{ask.key}/{one.get('version') or one['name']}" if ask.key else str(one["name"])


def test_every_difference_in_the_table_was_seen(told: Told) -> None:
    pairs = [(ask, *one) for ask, one in told.gets.items() if "!" not in one.theirs]
    for ask, (theirs, ours) in told.lists.items():
        pairs += [
            (Ask(ask.turn, ask.kind, _key(ask, one)), one, ours[_key(ask, one)]) for one in theirs if "!" not in one
        ]
    seen = {
        (ask.kind, path)
        for ask, theirs, ours in pairs
        for path, (said, held) in compared(ask, theirs, ours).items()
        if said != held
    }
    assert [one for one in DIFFERENCES if not any(one.holds(kind, path) for kind, path in seen)] == []
    assert {(ask.kind, ask.key) for ask, one in told.gets.items() if "!" in one.theirs} == UNREAD.keys()


def test_what_nobody_recorded_answers_404_and_is_said(told: Told) -> None:
    endpoint = "/onlineendpoints/online-endp4e07306aec3d482/deployments"
    assert set(told.replay.missed) == {path.lower() for path in FIRST_PAGES} | {endpoint}
    cut = {ask.key for ask, (theirs, _) in told.lists.items() if any("!" in one for one in theirs)}
    assert cut == {"" if path.count("/") == 1 else path.split("/")[2] for path in FIRST_PAGES}
    # Almost all was recorded in an older version of the API than either asks for today.
    assert all(recorded < asked for _, asked, recorded in told.replay.others)


def test_a_sweep_of_the_recorded_workspace_claims_what_was_recorded_whole_and_says_what_was_not() -> None:
    need(RECORDINGS.is_dir(), "the recorded exchanges are not here (../shared/data/azureml)")
    clock = Clock()
    with replayed(Recordings(RECORDINGS / "recordings").all) as replay:
        reached = http(replay, 0)
        config = AzureMlConfig(
            arm=ArmConfig(http=reached), subscription=SUBSCRIPTION, resource_group=GROUP, workspace=WORKSPACE,
            data_plane=reached, data_hosts=(), mlflow=False, history=False, posture=False,
        )  # fmt: skip
        with closing(AzureMl(config, clock.now, sleep=clock.sleep, monotonic=clock.monotonic)) as source:
            reading = read(source)
    whole = {one.scope.kind: len(one.assets) for one in reading.heard if one.error is None and not one.problems}
    assert whole == {Kind.WORKSPACE: 1, Kind.SCHEDULE: 1, Kind.DATASTORE: 6, Kind.COMPONENT: 22}
    models = reading.only(Kind.REGISTERED_MODEL)
    assert len(models.assets) == 20
    others = [one for one in reading.heard if one.scope.kind not in whole]
    assert {one.error.trouble for one in others if one.error is not None} == {Trouble.NOT_FOUND}
    assert all(one.error is not None for one in others)
