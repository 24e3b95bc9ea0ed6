"""A store gives the same documents whichever way it is read: over HTTP, or straight from its backend database.

Whoever changes a workspace from `uri` to `database` must not see a storm of changes that nobody made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from msgspec.structs import replace

from stocktake.core import canonical
from stocktake.core.assets import Asset, Kind, Lifecycle, Mode
from stocktake.sources.mlflow_rest import MlflowRest
from stocktake.sources.protocol import Source
from tests.servers.known import PlainKnown
from tests.servers.reading import Reading, database_source, mlflow_source, read
from tests.servers.shared import Filled

#: The server itself is described by what can be known of it, which differs; everything else must be the same.
KINDS = [kind for kind in MlflowRest.kinds if kind is not Kind.WORKSPACE]
OWNERS = ("owner",)


@pytest.fixture(scope="module")
def rest(rich: Filled) -> Iterator[Source]:
    source = mlflow_source(rich.server.uri, owner_tags=OWNERS)
    yield source
    source.close()


@pytest.fixture(scope="module")
def database(rich: Filled) -> Iterator[Source]:
    source = database_source(rich.database, owner_tags=OWNERS)
    yield source
    source.close()


@pytest.fixture(scope="module")
def by_rest(rest: Source) -> Reading:
    return read(rest)


@pytest.fixture(scope="module")
def by_database(database: Source) -> Reading:
    return read(database)


def only_the_database_shows(asset: Asset) -> bool:
    """Deleted logged models and tombstones of model versions."""
    return asset.lifecycle is Lifecycle.DELETED and asset.kind in (Kind.LOGGED_MODEL, Kind.MODEL_VERSION)


def same(one: Asset, other: Asset) -> None:
    """Everything but what stands aside: document, key, lifted columns, lifecycle."""
    assert canonical.encode(one.document) == canonical.encode(other.document)
    assert replace(one, aside={}) == replace(other, aside={})


def shared(assets: Mapping[str, Asset]) -> dict[str, Asset]:
    return {key: asset for key, asset in assets.items() if not only_the_database_shows(asset)}


@pytest.mark.parametrize("kind", KINDS)
def test_what_both_show_is_the_same_in_every_byte(by_rest: Reading, by_database: Reading, kind: Kind) -> None:
    theirs, ours = by_rest.assets(kind), shared(by_database.assets(kind))
    assert ours.keys() == theirs.keys()
    assert ours, "a kind of which nothing is there proves nothing"
    for key, asset in ours.items():
        same(asset, theirs[key])


def test_neither_had_trouble(by_rest: Reading, by_database: Reading) -> None:
    for reading in (by_rest, by_database):
        assert [(one.scope.kind, one.error, one.problems) for one in reading.heard if one.error or one.problems] == []


def test_only_the_database_shows_what_was_deleted_and_what_stands_aside(
    rich: Filled, by_rest: Reading, by_database: Reading
) -> None:
    everything = [asset for kind in KINDS for asset in by_database.assets(kind).values()]
    hidden = {(asset.kind, asset.name) for asset in everything if only_the_database_shows(asset)}
    assert hidden == {(Kind.LOGGED_MODEL, "doomed"), (Kind.MODEL_VERSION, "buried/1")}
    runs, versions = by_database.assets(Kind.RUN), by_database.assets(Kind.MODEL_VERSION)
    deleted = {key for key, run in runs.items() if "deleted_time" in run.aside}
    assert deleted == {rich.content.deleted_run, rich.content.run_of_deleted_experiment}
    (eaten,) = (model for model in by_database.assets(Kind.LOGGED_MODEL).values() if model.name == "eaten")
    assert runs[rich.content.child].aside == {"model_inputs": {eaten.key: {}}}
    assert runs[rich.content.run].aside == {"model_outputs": {rich.content.logged_model: {"step": 7}}}
    tombstone = versions["buried/1"]
    assert tombstone.aside == {"storage_location": f"runs:/{rich.content.run}/model"}
    assert (tombstone.run, tombstone.artifact_uri, tombstone.state) == (None, None, "Deleted_Internal")
    by_search = {key for kind in KINDS for key, asset in by_rest.assets(kind).items() if asset.aside}
    assert by_search == {rich.content.run}  # what a run made is told over HTTP too, by newer servers


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_asked_for_by_id_is_what_was_listed(
    rest: Source, database: Source, by_rest: Reading, by_database: Reading, kind: Kind
) -> None:
    listed = by_rest.assets(kind)
    for source in (rest, database):
        answers = source.confirm(kind, sorted(listed))
        assert answers.keys() == listed.keys()
        for key, item in answers.items():
            assert item is not None
            same(source.parse(kind, item.raw), listed[key])


def test_a_run_that_took_a_model_is_no_edit_when_it_is_asked_for_alone(rich: Filled, by_rest: Reading) -> None:
    """runs/get shows model inputs and runs/search does not: which of the two is asked must not look like an edit."""
    fresh = mlflow_source(rich.server.uri, owner_tags=OWNERS)  # has listed no experiment: asks by runs/get
    try:
        item = fresh.confirm(Kind.RUN, [rich.content.child])[rich.content.child]
        assert item is not None
        assert b"model_inputs" in item.raw
        same(fresh.parse(Kind.RUN, item.raw), by_rest.assets(Kind.RUN)[rich.content.child])
    finally:
        fresh.close()


def test_both_see_the_same_moving_in_a_hot_pass(rich: Filled, rest: Source, database: Source) -> None:
    at = read(rest).assets(Kind.RUN)[rich.content.run].started_at
    assert at is not None
    looks = {Kind.RUN: at.replace(year=at.year + 1), Kind.LOGGED_MODEL: at, Kind.TRACE: at}
    passes = [read(source, Mode.HOT, PlainKnown(looks=looks)) for source in (rest, database)]
    for kind in (Kind.RUN, Kind.LOGGED_MODEL, Kind.TRACE):
        theirs, ours = (shared(one.assets(kind)) for one in passes)
        deleted = {key for key, asset in ours.items() if "deleted_time" in asset.aside}  # moved, where only we see it
        assert ours.keys() - deleted == theirs.keys()
        assert theirs
