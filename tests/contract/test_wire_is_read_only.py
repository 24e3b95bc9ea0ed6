"""Read-only towards what we watch: every request of every source, seen on the wire."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stocktake.core.assets import Kind, Mode
from stocktake.sources import SOURCES
from stocktake.sources.protocol import Source
from tests.servers.known import PlainKnown
from tests.servers.reading import mlflow_source, read
from tests.servers.recording_proxy import recording_proxy
from tests.servers.shared import filled_server

#: The searches of MLflow's documentation that are asked by POST.
SEARCHES = {
    "/api/2.0/mlflow/runs/search",
    "/api/2.0/mlflow/logged-models/search",
    "/api/3.0/mlflow/traces/search",
}

MAKERS: Mapping[str, Callable[[str], Source]] = {"mlflow_rest": mlflow_source}


#: Sources that have no wire, and the test that holds them to reading only.
OFF_THE_WIRE = {"mlflow_files": "tests/contract/test_folder_is_read_only.py"}


def test_every_source_is_held_to_reading_only() -> None:
    assert set(MAKERS) | set(OFF_THE_WIRE) == set(SOURCES)
    assert all((Path(__file__).parents[2] / test).is_file() for test in OFF_THE_WIRE.values())


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_nothing_but_get_head_and_searches_goes_over_the_wire(name: str) -> None:
    with recording_proxy(filled_server().server.uri) as proxy:
        source = MAKERS[name](proxy.uri)
        source.identify()
        looks = dict.fromkeys(Kind, datetime(2020, 1, 1, tzinfo=UTC))
        changes = {Kind.EXPERIMENT: frozenset({"1", "2"})}
        aliases = {"classifier": {"gone": "1"}}
        for mode in Mode:
            reading = read(source, mode, PlainKnown(looks=looks, changes=changes, published_aliases=aliases))
            for kind in source.kinds:
                source.confirm(kind, [*reading.assets(kind), "no-such-thing"])
        source.close()
        asked = {(seen.method, seen.path if seen.method == "POST" else "") for seen in proxy.seen}
        assert asked <= {("GET", ""), ("HEAD", "")} | {("POST", path) for path in SEARCHES}
        assert {path for method, path in asked if method == "POST"} == SEARCHES
        assert all(seen.headers["user-agent"].startswith("stocktake/") for seen in proxy.seen)
