"""What Azure was recorded to answer, read by Microsoft's client and by our source: field by field they say the same.

The recordings are served as they are (tests/azure/replay.py). Whatever the client's own writer says of an asset is
looked for in our document of it, at its place there (`PLACES` says how the client calls the places). Where it is not
the same, a row of DIFFERENCES says so and why; nothing else may differ, and a row that holds for nothing is an error.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from stocktake.core.assets import Asset, Kind
from stocktake.core.errors import SourceError
from stocktake.sources.arm import Arm, ArmConfig
from stocktake.sources.azureml_arm import ArmLists
from stocktake.sources.azureml_documents import parse
from stocktake.sources.azureml_keys import item
from stocktake.sources.azureml_plan import BY_KIND, Place
from stocktake.sources.http import HttpConfig
from tests.azure.recordings import Recording, Recordings
from tests.azure.replay import GROUP, SCOPE, SUBSCRIPTION, WORKSPACE, Replay, replayed, turn
from tests.azure.sdk_places import leaves, places, plain, same_name
from tests.azure.server import ca_file
from tests.azureml_recordings import KINDS, OTHERS, RECORDINGS
from tests.needs import need
from tests.servers.reading import Clock

PROGRAM = Path(__file__).parents[1] / "azure" / "sdk_recorded.py"
PLACE = Place(subscription=SUBSCRIPTION, resource_group=GROUP, workspace=WORKSPACE)


class Ask(NamedTuple):
    """One asset by its key, or the list of a kind (of a parent); and which recording of it."""

    turn: int
    kind: Kind
    key: str


class Both(NamedTuple):
    """What either says of one asset."""

    theirs: Mapping[str, Any]
    ours: Asset


class Told(NamedTuple):
    """All that was recorded, by either."""

    gets: Mapping[Ask, Both]
    lists: Mapping[Ask, tuple[Sequence[Mapping[str, Any]], Mapping[str, Asset]]]
    replay: Replay


#: Kinds whose containers the client asks for within lists alone.
_CONTAINERS = frozenset({Kind.REGISTERED_MODEL, Kind.DATA, Kind.ENVIRONMENT, Kind.COMPONENT})


def unasked(one: Recording) -> str | None:
    """Why neither is asked for something that was recorded; None where both are."""
    folder = one.file.parent.name
    if folder not in KINDS:
        return OTHERS[folder]
    if folder == "connections-list" or "isDefault=true" in one.uri:
        return "a part of a list that is never asked for: connections of one category, the default datastore"
    if KINDS[folder] in _CONTAINERS and not folder.endswith("-list"):
        return "the client asks for no container by name"
    if folder == "workspace" and "datastoreType" in one.body["properties"]:
        return "the body of a datastore: the recorder's clean-up left it the address of the workspace"
    if folder == "jobs" and "properties" not in one.body:
        return "a step of a pipeline: for one the client turns to run-history, on a host of Azure"
    return None


def _asks(replay: Replay, *, lists: bool) -> Iterator[Ask]:
    for recordings in replay.turns.values():
        for number, one in enumerate(recordings):
            if unasked(one) is None and one.file.parent.name.endswith("-list") is lists:
                parts = urlsplit(one.uri).path.removeprefix(SCOPE).strip("/").split("/")
                yield Ask(number, KINDS[one.file.parent.name], "/".join(parts[1::2]) or ("" if lists else "workspace"))


@pytest.fixture(scope="module")
def told() -> Told:
    """Everything, read once."""
    need(find_spec("azure.ai") and find_spec("azure.ai.ml"), "azure-ai-ml is missing: requirements/azure.txt")
    need(RECORDINGS.is_dir(), "the recorded exchanges are not here (../shared/data/azureml)")
    with replayed(Recordings(RECORDINGS / "recordings").all) as replay:
        gets, lists = list(_asks(replay, lists=False)), list(_asks(replay, lists=True))
        words = {
            "subscription": SUBSCRIPTION, "group": GROUP, "workspace": WORKSPACE, "cloud": replay.cloud(),
            "gets": gets, "lists": lists,
        }  # fmt: skip
        nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1", "REQUESTS_CA_BUNDLE": str(ca_file())}
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        done = subprocess.run(
            [sys.executable, str(PROGRAM)], input=json.dumps(words), env=kept | nowhere, capture_output=True, text=True,
            timeout=200, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        theirs = json.loads(done.stdout.splitlines()[-1])
        singles = {
            ask: Both(said, ours)
            for ask, said in zip(gets, theirs["gets"], strict=True)
            for ours in [_one(replay, ask)]
        }
        several = {ask: (said, _several(replay, ask)) for ask, said in zip(lists, theirs["lists"], strict=True)}
    return Told(singles, several, replay)


def _http(replay: Replay, number: int) -> HttpConfig:
    return HttpConfig(base_url=replay.uri, token=lambda: turn(number), ca_file=str(ca_file()), retries=0)


def _one(replay: Replay, ask: Ask) -> Asset:
    """One asset, asked for by its key."""
    parent, _, name = ask.key.rpartition("/")
    row = BY_KIND[ask.kind]
    with closing(Arm(ArmConfig(http=_http(replay, ask.turn)), Clock().now)) as arm:
        answer = arm.get(PLACE.path(row.item, parent=parent, key=name), row.version)
    one = item(ask.kind, answer.body)
    assert one.key == (WORKSPACE if ask.kind is Kind.WORKSPACE else ask.key)
    return parse(ask.kind, one.raw)


def _several(replay: Replay, ask: Ask) -> dict[str, Asset]:
    """A list as far as it was recorded; its further pages were not."""
    clock, row, found = Clock(), BY_KIND[ask.kind], dict[str, Asset]()
    with closing(Arm(ArmConfig(http=_http(replay, ask.turn)), clock.now, sleep=clock.sleep)) as arm:
        lists = ArmLists(arm, PLACE, clock.now)
        listing = lists.some(row, [ask.key]) if row.per is not None else lists.listing(row)
        try:
            for page in listing.pages:
                found |= {one.key: parse(ask.kind, one.raw) for one in page.items}
        except SourceError as exc:
            if exc.status != 404:
                raise
    return found


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
    } - _CONTAINERS - {Kind.CHILD_JOB, Kind.REGISTRY}  # fmt: skip


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
