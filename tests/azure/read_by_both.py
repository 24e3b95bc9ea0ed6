"""The recorded reads of one workspace (tests/azure/replay.py), read by Microsoft's client and by our source."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

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
CONTAINERS = frozenset({Kind.REGISTERED_MODEL, Kind.DATA, Kind.ENVIRONMENT, Kind.COMPONENT})


def unasked(one: Recording) -> str | None:
    """Why neither is asked for something that was recorded; None where both are."""
    folder = one.file.parent.name
    if folder not in KINDS:
        return OTHERS[folder]
    if folder == "connections-list" or "isDefault=true" in one.uri:
        return "a part of a list that is never asked for: connections of one category, the default datastore"
    if KINDS[folder] in CONTAINERS and not folder.endswith("-list"):
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


def read_by_both() -> Told:
    """Everything, read once by either."""
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


def http(replay: Replay, number: int) -> HttpConfig:
    return HttpConfig(base_url=replay.uri, token=lambda: turn(number), ca_file=str(ca_file()), retries=0)


def _one(replay: Replay, ask: Ask) -> Asset:
    """One asset, asked for by its key."""
    parent, _, name = ask.key.rpartition("/")
    row = BY_KIND[ask.kind]
    with closing(Arm(ArmConfig(http=http(replay, ask.turn)), Clock().now)) as arm:
        answer = arm.get(PLACE.path(row.item, parent=parent, key=name), row.version)
    one = item(ask.kind, answer.body)
    assert one.key == (WORKSPACE if ask.kind is Kind.WORKSPACE else ask.key)
    return parse(ask.kind, one.raw)


def _several(replay: Replay, ask: Ask) -> dict[str, Asset]:
    """A list as far as it was recorded; its further pages were not."""
    clock, row, found = Clock(), BY_KIND[ask.kind], dict[str, Asset]()
    with closing(Arm(ArmConfig(http=http(replay, ask.turn)), clock.now, sleep=clock.sleep)) as arm:
        lists = ArmLists(arm, PLACE, clock.now)
        listing = lists.some(row, [ask.key]) if row.per is not None else lists.listing(row)
        try:
            for page in listing.pages:
                found |= {one.key: parse(ask.kind, one.raw) for one in page.items}
        except SourceError as exc:
            if exc.status != 404:
                raise
    return found
