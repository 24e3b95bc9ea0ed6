"""A value is removed from everything that is stored, is not let in again, and no change is reported because of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import ARRAY, Engine, Text, text
from sqlalchemy.dialects import postgresql

from stocktake.core.assets import Kind, Mode, ScanState
from stocktake.core.errors import Fenced
from stocktake.core.redact import Redactor
from stocktake.core.remembered import Sought
from stocktake.store import history, redactions
from stocktake.store.tables import METADATA
from tests.integration.scripted import KEY, World, scan

#: No automatic rule takes it for a secret, so it gets in.
VALUE = "Maria Mustermann-Ölçer"
MARK = f"[redacted:manual:{Redactor(KEY).fingerprint(VALUE)}]"


def _sought(engine: Engine, value: str = VALUE) -> Sought:
    with engine.connect() as connection:
        redactor = Redactor(KEY).remembering(redactions.remembered(connection))
    return Sought(value, redactor.fingerprint(value), redactor.remembered)


def _redact(engine: Engine, value: str = VALUE) -> int:
    sought = _sought(engine, value)
    with engine.connect() as connection:
        found = redactions.survey(connection, sought)
        known = Redactor(KEY).remembering(redactions.remembered(connection)).remembered
    return redactions.redact(engine, sought, known, found.words.values(), actor="me@here", reason="asked to")


def _world() -> World:
    """The value as a whole tag, inside texts, inside a longer word, inside JSON, in a name, as an owner."""
    world = World(owner=VALUE)
    for number in range(12):
        world.add_run(f"run{number:02d}", experiment=str(number % 2))
    world.runs["run00"]["tags"]["author"] = VALUE
    world.runs["run01"]["params"]["command"] = f"--user '{VALUE}' --x"
    world.runs["run02"]["params"]["glued"] = f"xx{VALUE}yy {VALUE}"
    world.runs["run03"]["tags"]["notes"] = json.dumps({"who": VALUE, "ascii": True})
    world.runs["run04"]["tags"][f"seen by {VALUE}"] = "yes"
    world.runs["run05"]["info"]["run_name"] = f"run of {VALUE}"
    world.runs["run06"]["tags"]["uri"] = "https://x/?q=Maria%20Mustermann-%C3%96l%C3%A7er&z"
    world.runs["run07"]["tags"]["odd"] = f'\0 tab\t"{VALUE}"\\ \ue000 \ud800'
    world.experiments["1"]["name"] = f"experiment of {VALUE}"
    return world


def _dump(engine: Engine) -> Iterator[str]:
    """Everything that is stored, row by row."""
    with engine.connect() as connection:
        for table in METADATA.sorted_tables:
            for row in connection.execute(text(f"SELECT t::text FROM {table.name} t")).scalars():
                yield f"{table.name}: {row}"


def _holding(engine: Engine, value: str = VALUE) -> list[str]:
    forms = {value, json.dumps(value)[1:-1], "Maria%20Mustermann"}
    return [row for row in _dump(engine) if any(form in row for form in forms)]


@pytest.fixture
def world(engine: Engine) -> World:
    """A history of three scans in which the value came and went."""
    world = _world()
    scan(engine, world)
    world.runs["run08"]["tags"]["author"] = VALUE
    world.runs["run00"]["tags"]["author"] = "nobody"
    world.runs["run09"]["tags"]["author"] = VALUE
    scan(engine, world)
    del world.runs["run09"]
    world.runs["run01"]["tags"]["review"] = "done"
    assert scan(engine, world).counts["purged"] == 1
    return world


def test_nothing_that_is_stored_holds_the_value_afterwards(engine: Engine, world: World) -> None:
    assert {row.partition(":")[0] for row in _holding(engine)} == {"version", "change", "finding", "finding_event"}
    number = _redact(engine)
    assert _holding(engine) == []
    with engine.connect() as connection:
        row = connection.execute(text("SELECT * FROM redaction")).one()
        tags = next(history.list_assets(connection, Kind.RUN, where={"name": "run08"})).document["tags"]
        told = [c for c in history.changes(connection) if c.key == "run00"]
    assert (row.redaction_id, row.actor, row.reason) == (number, "me@here", "asked to")
    assert row.finished_at is not None
    assert f"[redacted:manual:{row.fingerprint}]" == MARK
    assert (row.assets, row.versions > 12, row.changes > 2) == (13, True, True)
    assert tags == {"author": MARK}
    assert [dict(field) for field in told[0].fields] == [{"path": "tags.author", "before": MARK, "after": "nobody"}]


def test_what_stands_around_the_value_stays(engine: Engine, world: World) -> None:
    _redact(engine)
    with engine.connect() as connection:
        runs = {one.key: one for one in history.list_assets(connection, Kind.RUN)}
    assert runs["run01"].document["params"]["command"] == f"--user '{MARK}' --x"
    assert runs["run02"].document["params"]["glued"] == f"xx{MARK}yy {MARK}"
    assert runs["run05"].name == runs["run05"].document["info"]["run_name"] == f"run of {MARK}"
    assert runs["run06"].document["tags"]["uri"] == f"https://x/?q={MARK}&z"
    assert runs["run07"].document["tags"]["odd"] == f'\0 tab\t"{MARK}"\\ \ue000 \ud800'
    assert {run.owner for run in runs.values()} == {MARK}


@pytest.mark.parametrize("mode", [Mode.SWEEP, Mode.HOT])
def test_the_next_scan_reports_nothing_and_lets_nothing_in(engine: Engine, world: World, mode: Mode) -> None:
    with engine.connect() as connection:
        before = len(list(history.changes(connection, expand=True)))
    _redact(engine)
    report = scan(engine, world, mode)
    assert report.state == ScanState.COMPLETE
    assert not {name for name in ("created", "updated", "deleted", "purged", "rebased") if report.counts.get(name)}
    assert _holding(engine) == []
    with engine.connect() as connection:
        assert len(list(history.changes(connection, expand=True))) == before
    again = scan(engine, world)
    assert again.redactions == {} or mode == Mode.HOT  # recognised by their raw bytes: nothing is decoded
    assert scan(engine, world).redactions == {}


def test_the_value_is_not_let_in_where_it_is_new(engine: Engine, world: World) -> None:
    _redact(engine)
    world.runs["run10"]["tags"] = {"a": VALUE, "b": f"by {VALUE}, again", "c": f"xx{VALUE}yy", f"{VALUE}": "1"}
    world.add_run("late", run_name=VALUE)
    report = scan(engine, world)
    assert (report.counts["updated"], report.counts["created"]) == (1, 1)
    assert _holding(engine) == []


def test_redacting_again_changes_nothing(engine: Engine, world: World) -> None:
    _redact(engine)
    stored = sorted(row for row in _dump(engine) if not row.startswith("redaction:"))
    with engine.connect() as connection:
        assert redactions.survey(connection, _sought(engine)).rows == 0
    _redact(engine)
    assert sorted(row for row in _dump(engine) if not row.startswith("redaction:")) == stored


def test_a_scan_under_way_that_does_not_know_the_value_loses_its_claim(engine: Engine) -> None:
    world = _world()
    scan(engine, world)
    world.runs["run10"]["tags"]["author"] = VALUE

    def redact_once(page: int) -> None:
        world.during = None
        _redact(engine)

    world.during = redact_once
    with pytest.raises(Fenced):
        scan(engine, world)
    assert _holding(engine) == []
    report = scan(engine, world)
    assert (report.state, report.counts["updated"]) == (ScanState.COMPLETE, 1)
    assert _holding(engine) == []


def test_cut_short_it_can_be_done_again_and_no_scan_between_reports_a_change(
    engine: Engine, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Exception):
        pass

    def die(rows: int) -> None:
        raise Killed

    sought = _sought(engine)
    with engine.connect() as connection:
        found = redactions.survey(connection, sought)
        known = Redactor(KEY).remembered
    monkeypatch.setattr(redactions, "_BLOCK", 3)
    with pytest.raises(Killed):
        redactions.redact(engine, sought, known, found.words.values(), actor="a", reason="r", tell=die)
    assert _holding(engine)
    report = scan(engine, world)
    assert report.state == ScanState.COMPLETE
    assert report.counts.get("updated", 0) == 0
    with engine.connect() as connection:
        assert redactions.unfinished(connection, sought.fingerprint)
    _redact(engine)
    assert _holding(engine) == []
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM redaction WHERE finished_at IS NOT NULL")).scalar() == 1
    assert scan(engine, world).counts.get("updated", 0) == 0


def test_what_is_still_there_and_known_by_the_value_is_counted_as_fixed(engine: Engine) -> None:
    world = World()
    world.add_run("Erika Mustermann", experiment="1")
    scan(engine, world)
    with engine.connect() as connection:
        assert redactions.survey(connection, _sought(engine, "Erika Mustermann")).fixed["asset"] == 1
    del world.runs["Erika Mustermann"]
    world.add_run("other", experiment="1")
    scan(engine, world)
    with engine.connect() as connection:
        assert not redactions.survey(connection, _sought(engine, "Erika Mustermann")).fixed["asset"]
    _redact(engine, "Erika Mustermann")
    assert _holding(engine, "Erika Mustermann") == []


@pytest.mark.parametrize(
    "value", ["Seán O'Brien-Smith", 'a "quoted" name', "back\\slash\\name", "two\nlines\there", "\0nul and \ue000"]
)
def test_a_value_with_signs_that_are_escaped_is_gone_from_names_paths_and_texts(engine: Engine, value: str) -> None:
    world = World()
    for number in range(3):
        world.add_run(f"run{number}")
        world.runs[f"run{number}"]["tags"] = {f"seen by {value}": "yes", "by": value, "json": json.dumps([value])}
    scan(engine, world)
    for run in world.runs.values():
        run["tags"] |= {f"seen by {value}": "no", "by": "nobody"}
    assert scan(engine, world).counts["updated"] == 3
    _redact(engine, value)
    words = [word for word in ("Brien", "quoted", "slash", "lines", "nul and") if word in value]
    assert not [row for row in _dump(engine) if any(word in row for word in words)]
    report = scan(engine, world)
    assert not {"created", "updated", "rebased"} & {name for name, number in report.counts.items() if number}
    with engine.connect() as connection:
        fields = [field for change in history.changes(connection) for field in change.fields]
    assert {len(one["path"].split("[redacted:manual:")) for one in fields} == {1, 2}


def test_errors_in_the_ledger_lose_the_value_too(engine: Engine, world: World) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE scan SET error = :e, identity = :i"), {"e": f"no {VALUE}!", "i": VALUE})
        connection.execute(text("UPDATE scope_scan SET reason = :e, covers = ARRAY['1', :i]"), {"e": VALUE, "i": VALUE})
        connection.execute(text("UPDATE workspace SET error = :e"), {"e": f"x{VALUE}"})
    _redact(engine)
    assert _holding(engine) == []
    with engine.connect() as connection:
        assert connection.execute(text("SELECT DISTINCT error FROM scan")).scalar() == f"no {MARK}!"


#: Columns of text that hold our own words, or what the value is refused for.
_OURS = {
    "workspace": {"name", "source", "uri", "trouble"},
    "claim": {"mode"},
    "scan": {"mode", "state", "source", "trouble"},
    "scope_scan": {"kind", "state"},
    "scope": {"kind", "state"},
    "former_scope": {"kind"},
    "horizon": {"kind"},
    "ledger_link": {"what"},
    "asset": {"kind", "lifecycle"},
    "version": {"kind", "lifecycle", "params_digest"},
    "change": {"kind", "type", "category", "story_kind", "story_type"},
    "withheld": {"kind"},
    "redaction": {"actor", "reason", "fingerprint"},
    "redacted_text": {"fingerprint"},
    "fetched": {"workspace", "kind", "what", "state"},
    "discovered": {
        "key",
        "name",
        "entry",
        "subscription",
        "resource_group",
        "workspace",
        "region",
        "guid",
        "how",
        "standing",
    },
    "discovery_scope": {"entry", "path", "trouble"},
    "discovery_event": {"key", "name", "entry", "event", "before", "after"},
    "act": {"kind", "operation", "operation_id", "event_id"},
    "act_log": {"trouble"},
    "heartbeat": {"holder"},
    "cut_listing": {"kind"},
    "finding": {"rule", "severity", "kind", "state"},
    "finding_event": {"before", "after"},
    "alert": {"key", "receiver", "pace", "told"},  # names of the configuration, and keyed digests
    "alert_finding": {"told"},
    "delivery": {"receiver", "key", "what", "state"},
    "receiver": {"name"},
    "judging": {"rule", "kind", "severity"},
}


def test_every_column_that_may_hold_a_value_is_rewritten() -> None:
    """A new column of text is listed in redactions.PLACES, or here with the words that hold no value."""
    rewritten = {place.table: set(place.columns) for place in redactions.PLACES}
    for table in METADATA.sorted_tables:
        texts = {
            column.name
            for column in table.columns
            if isinstance(column.type, Text | postgresql.JSONB)
            or (isinstance(column.type, ARRAY) and isinstance(column.type.item_type, Text))
        }
        known = rewritten.get(table.name, set())
        assert texts - known == _OURS.get(table.name, set()) & texts, table.name


def test_the_value_is_never_sent_to_the_database(engine: Engine, world: World, tmp_path: Path) -> None:
    """A server that logs every statement with its parameters has not seen it."""
    with engine.connect() as connection:
        logged = connection.execute(text("SHOW logging_collector")).scalar()
        assert logged == "off"
        folder = Path(connection.execute(text("SHOW data_directory")).scalar_one()).parent
    log = folder / "postgres.log"
    if not log.exists():
        pytest.skip("the log of this server is not at hand")
    name = engine.url.database
    with engine.begin() as connection:
        connection.execute(text(f"ALTER DATABASE \"{name}\" SET log_statement = 'all'"))
    engine.dispose()
    position = log.stat().st_size
    _redact(engine)
    written = log.read_bytes()[position:]
    assert b"INSERT INTO redacted_text" in written
    assert b"Mustermann" not in written
