"""What every source must keep, whatever it reads. A new source is one entry in SOURCES and one way to make it here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime

import pytest

from stocktake.core import canonical
from stocktake.core.assets import NOT_OF_AZURE, ONLY_OF_AZURE, Kind, Mode, ScopeState
from stocktake.core.errors import SourceError, Trouble
from stocktake.sources import SOURCES
from stocktake.sources.protocol import Source
from tests.servers.azureml import azureml_source, filled_azure, keys_in
from tests.servers.content import Content
from tests.servers.known import PlainKnown
from tests.servers.reading import database_source, files_source, mlflow_source, read
from tests.servers.shared import filled_folder, filled_server

#: How a test makes each source, over the content that tests/servers/content.py describes.
MAKERS: Mapping[str, Callable[[], Source]] = {
    "azureml": lambda: azureml_source(*filled_azure()),
    "mlflow_files": lambda: files_source(filled_folder().path),
    "mlflow_rest": lambda: mlflow_source(filled_server().server.uri),
    "mlflow_database": lambda: database_source(filled_server().database),
}

#: What each of them must find, where that is not what the shared server holds.
EVERYTHING: Mapping[str, Callable[[], Mapping[Kind, set[str]]]] = {"azureml": lambda: keys_in(filled_azure()[1])}

#: The content that the tests of hot passes look for.
CONTENT: Mapping[str, Callable[[], Content]] = {"mlflow_files": lambda: filled_folder().content}


def content_of(source: Source) -> Content:
    return CONTENT.get(source.name, lambda: filled_server().content)()


@pytest.fixture(params=sorted(SOURCES))
def source(request: pytest.FixtureRequest) -> Iterator[Source]:
    made = MAKERS[request.param]()
    yield made
    made.close()


def test_every_source_is_made_here() -> None:
    assert set(MAKERS) == set(SOURCES)


def test_a_source_bears_its_name_in_the_list(source: Source) -> None:
    assert SOURCES[source.name] is type(source)


def test_it_says_who_it_is(source: Source) -> None:
    identity = source.identify()
    assert identity.name
    assert identity.note


def test_a_sweep_names_every_kind_and_lists_only_these(source: Source) -> None:
    reading = read(source)
    assert {heard.scope.kind for heard in reading.heard} == set(source.kinds)
    assert [heard.error for heard in reading.heard] == [None] * len(reading.heard)
    assert [heard.problems for heard in reading.heard] == [[]] * len(reading.heard)


def of_mlflow(content: Content) -> Mapping[Kind, set[str]]:
    runs = {content.run, content.child, content.failed, content.running, content.deleted_run}
    return {
        Kind.RUN: runs | {content.run_of_deleted_experiment},
        Kind.EXPERIMENT: {"0", content.experiment, content.deleted_experiment},
        Kind.REGISTERED_MODEL: set(content.models),
        Kind.MODEL_VERSION: {"classifier/1", "classifier/2", "plain/1"},
        Kind.LOGGED_MODEL: {content.logged_model},
        Kind.TRACE: {content.trace},
    }


def test_a_sweep_finds_everything_and_promises_completeness(source: Source) -> None:
    reading = read(source)
    everything = EVERYTHING[source.name]() if source.name in EVERYTHING else of_mlflow(content_of(source))
    for kind, keys in everything.items():
        assert reading.assets(kind).keys() == keys
    assert len(reading.assets(Kind.WORKSPACE)) == 1
    assert len(reading.assets(Kind.WEBHOOK)) == (Kind.WEBHOOK in source.kinds)
    assert {heard.promise for heard in reading.heard} == {ScopeState.COMPLETE}


def test_an_asset_lies_in_a_partition_that_its_scope_covers(source: Source) -> None:
    for heard in read(source).heard:
        for asset in heard.assets.values():
            assert asset.partition in heard.scope.covers
            assert (asset.partition != "") == source.kinds[asset.kind].partitioned


def test_no_partition_is_covered_twice(source: Source) -> None:
    covered = [(heard.scope.kind, part) for heard in read(source).heard for part in heard.scope.covers]
    assert len(covered) == len(set(covered))


def test_an_unchanged_place_gives_the_same_bytes_again(source: Source) -> None:
    def documents() -> dict[tuple[Kind, str], bytes]:
        listed = (asset for heard in read(source).heard for asset in heard.assets.values())
        return {(asset.kind, asset.key): canonical.encode(asset.document) for asset in listed}

    assert documents() == documents()


def test_confirming_gives_the_document_that_listing_gave(source: Source) -> None:
    reading = read(source)
    for kind in source.kinds:
        listed = reading.assets(kind)
        confirmed = source.confirm(kind, sorted(listed))
        assert confirmed.keys() == listed.keys()
        for key, item in confirmed.items():
            assert item is not None
            again = source.parse(kind, item.raw)
            assert again.key == key
            assert canonical.encode(again.document) == canonical.encode(listed[key].document)


ABSENT = {
    Kind.EXPERIMENT: "987654321",
    Kind.RUN: "0" * 32,
    Kind.LOGGED_MODEL: "m-" + "0" * 32,
    Kind.REGISTERED_MODEL: "no such model",
    Kind.MODEL_VERSION: "classifier/99",
    Kind.TRACE: "tr-" + "f" * 32,
    Kind.WEBHOOK: "00000000-0000-0000-0000-000000000000",
    Kind.JOB: "no-such-job",
    Kind.CHILD_JOB: "no-such-step",
    Kind.COMPUTE: "no-such-compute",
    Kind.SCHEDULE: "no-such-schedule",
    Kind.ONLINE_ENDPOINT: "no-such-endpoint",
    Kind.ONLINE_DEPLOYMENT: "no-such-endpoint/blue",
    Kind.BATCH_ENDPOINT: "no-such-endpoint",
    Kind.BATCH_DEPLOYMENT: "no-such-endpoint/blue",
    Kind.DATASTORE: "no_such_store",
    Kind.DATA: "no-such-data",
    Kind.DATA_VERSION: "no-such-data/1",
    Kind.ENVIRONMENT: "no-such-environment",
    Kind.ENVIRONMENT_VERSION: "no-such-environment/1",
    Kind.COMPONENT: "no-such-component",
    Kind.COMPONENT_VERSION: "no-such-component/1",
    Kind.REGISTRY: "no-such-registry",
    Kind.CONNECTION: "no-such-connection",
    Kind.QUOTA: "locations/nowhere/usages/nothing",
    Kind.ROLE_ASSIGNMENT: "00000000-0000-0000-0000-000000000000",
    Kind.PRIVATE_ENDPOINT: "no-such-connection",
    Kind.DIAGNOSTIC_SETTING: "no-such-setting",
}


def test_what_does_not_exist_is_said_not_to(source: Source) -> None:
    read(source)
    for kind in source.kinds.keys() & ABSENT:
        key = ABSENT[kind]
        assert source.confirm(kind, [key]) == {key: None}


def test_a_key_that_makes_no_sense_never_raises(source: Source) -> None:
    read(source)
    for kind in source.kinds.keys() & ABSENT:
        for key in ("", "/", "'; DROP TABLE runs --", "a' OR 'b", "..%2f..", "ü", "x" * 3000):
            assert source.confirm(kind, [key]).get(key) is None


def test_a_shape_that_is_not_understood_raises_and_nothing_else(source: Source) -> None:
    for kind in source.kinds:
        for raw in (b"", b"[]", b"null", b'"x"', b"{", b"\xff\xfe", b"<html>"):
            with pytest.raises(SourceError) as caught:
                source.parse(kind, raw)
            assert caught.value.trouble is Trouble.SHAPE


def test_a_hot_pass_is_complete_in_small_kinds_and_promises_nothing_about_old_runs(source: Source) -> None:
    looks = dict.fromkeys((Kind.RUN, Kind.LOGGED_MODEL, Kind.TRACE), datetime(2100, 1, 1, tzinfo=UTC))
    running = running_of(source)
    states = {Kind.RUN: {running: "RUNNING"}}  # where a server cannot be asked for it, the inventory knows
    reading = read(source, Mode.HOT, PlainKnown(looks=looks, states=states))
    for heard in reading.heard:
        partitioned = source.kinds[heard.scope.kind].partitioned
        assert heard.error is None
        assert heard.promise is (ScopeState.INCREMENTAL if partitioned else ScopeState.COMPLETE)
        assert heard.scope.covers == (() if partitioned else ("",))
    assert reading.assets(Kind.RUN).keys() == {running}


def running_of(source: Source) -> str:
    if source.name != "azureml":
        return content_of(source).running
    return next(one.name for one in filled_azure()[1].jobs.newest() if one.status == "Running")


def test_the_first_hot_pass_looks_at_everything(source: Source) -> None:
    hot, sweep = read(source, Mode.HOT), read(source, Mode.SWEEP)
    assert [(heard.scope, heard.assets.keys()) for heard in hot.heard] == [
        (heard.scope, heard.assets.keys()) for heard in sweep.heard
    ]


def test_a_partition_that_only_the_inventory_knows_is_listed_too(source: Source) -> None:
    partitioned = [kind for kind, facts in source.kinds.items() if facts.partitioned]
    known = PlainKnown(sizes={kind: {"987654321": 3} for kind in partitioned})
    reading = read(source, known=known)
    for kind in partitioned:
        assert "987654321" in {part for heard in reading.of(kind) for part in heard.scope.covers}
        assert [heard.error for heard in reading.of(kind)] == [None] * len(reading.of(kind))


def test_what_a_source_is_said_never_to_list_it_does_not(source: Source) -> None:
    never = NOT_OF_AZURE if source.name == "azureml" else ONLY_OF_AZURE
    assert not never & set(source.kinds)
