"""The chained ledger: what is altered, cut out or added afterwards is found; redaction and retention break nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from stocktake.core import chain
from stocktake.core.assets import Mode, ScanState
from stocktake.core.redact import Redactor
from stocktake.core.remembered import Sought
from stocktake.store import chain as written
from stocktake.store import chain_check, redactions, retention
from stocktake.store.chain_check import Checked
from stocktake.store.engine import driver
from tests.integration.scripted import KEY, World, scan

SALTS = chain.salt_key(KEY)


def check(engine: Engine, published: Mapping[int, str] | None = None, *, workspace: str = "w") -> Checked:
    with engine.connect() as connection, connection.begin():
        wid = next(wid for wid, name in chain_check.workspaces(connection) if name == workspace)
        return chain_check.check(connection, wid, workspace, SALTS, published or {})


def heads(engine: Engine) -> dict[str, tuple[int, str]]:
    with engine.connect() as connection:
        return chain_check.heads(connection)


def told(done: Checked) -> str:
    return "; ".join(f"{one.where}: {one.what}" for one in done.problems)


def sound(engine: Engine, **options: object) -> Checked:
    done = check(engine, **options)  # type: ignore[arg-type]
    assert done.wrong == 0, told(done)
    return done


def run(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for one in statements:
            assert connection.execute(text(one)).rowcount, one


@pytest.fixture
def world(engine: Engine) -> World:
    """A history: a baseline, edits, a run that came, one that was purged and came back, quiet hot passes."""
    world = World()
    for number in range(14):
        world.add_run(f"run{number:02d}", experiment=str(number % 2))
    scan(engine, world)
    world.runs["run00"]["tags"]["edit"] = "1"
    world.add_run("new")
    scan(engine, world)
    gone = world.runs.pop("run02")
    scan(engine, world)
    world.runs["run02"] = gone
    world.runs["run00"]["tags"]["edit"] = "2"
    scan(engine, world)
    for _ in range(3):
        scan(engine, world, Mode.HOT)
    return world


def test_an_untouched_history_is_sound_and_all_of_it_is_in_the_chain(engine: Engine, world: World) -> None:
    done = sound(engine)
    with engine.connect() as connection:
        versions, changes, scans = (
            connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one()
            for name in ("version", "change", "scan")
        )
    assert (done.states, done.changes, done.scans) == (versions, changes, scans)
    assert (done.before, done.dropped, done.redacted, done.last_before, done.waiting) == (0, 0, 0, 0, 1)


def test_the_chain_grows_with_events_and_not_with_ticks(engine: Engine, world: World) -> None:
    before = sound(engine).links
    for _ in range(5):
        scan(engine, world, Mode.HOT)
    done = sound(engine)
    assert (done.links, done.waiting) == (before, 1)
    scan(engine, world)  # what the hot passes added is taken in with the row that follows
    assert sound(engine).waiting == 0


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE version SET document = replace(document, 'FINISHED', 'FAILED') WHERE valid_to IS NOT NULL",
         "is not as link"),
        ("UPDATE version SET owner = 'somebody' WHERE kind = 'run' AND valid_to IS NULL", "is not as link"),
        ("UPDATE version SET valid_from = valid_from - interval '1 day' WHERE valid_to IS NULL AND kind = 'experiment'",
         "was not published by any scan"),
        ("UPDATE version SET valid_to = valid_to + interval '1 second' WHERE valid_to IS NOT NULL",
         "ended at another time"),
        ("UPDATE version SET valid_to = now() WHERE valid_to IS NULL AND kind = 'experiment'",
         "nothing follows and its asset was not purged"),
        ("DELETE FROM version WHERE valid_to IS NOT NULL", "is gone, and nobody dropped it"),
        ("INSERT INTO version SELECT asset_id, valid_from - interval '1 day', valid_from, workspace_id, kind, scan_id,"
         " digest, lifecycle, partition, name, state, owner, parent, run, created_at, started_at, ended_at,"
         " artifact_uri, code_version, data_version, params_digest, document, aside FROM version"
         " WHERE kind = 'experiment' LIMIT 1", "was not published by any scan"),
        ("UPDATE asset SET key = 'run99' WHERE key = 'run03'", "is not as link"),
        ("UPDATE change SET actor = 'mallory' WHERE type = 'updated'", "is not as link"),
        ("UPDATE change SET not_before = not_before - interval '1 day' WHERE type = 'purged'", "is not as link"),
        ("DELETE FROM change WHERE type = 'purged'", "is gone, and nobody dropped it"),
        ("UPDATE scan SET state = 'partial' WHERE scan_id = 2", "row of scan 2: is not as link"),
        ("UPDATE scan SET identity = 'root'", "is not as link"),
        ("UPDATE scan SET requests = requests + 1 WHERE mode = 'sweep'", "passes of scan 1: is not as link"),
        ("UPDATE scan SET last_finished_at = now(), chained = 1 WHERE mode = 'sweep'", "rows wait for more passes"),
        ("UPDATE scope_scan SET state = 'complete', listed = 99 WHERE scan_id = 1", "listing of scan 1: is not as"),
        ("DELETE FROM scope_scan WHERE scan_id = 1 AND ordinal = 0", "listing of scan 1: is gone"),
        ("DELETE FROM scan WHERE scan_id = 2", "row of scan 2: is gone"),
        ("INSERT INTO scan (workspace_id, mode, state, source, epoch, began_at, last_began_at, chained)"
         " SELECT workspace_id, 'sweep', 'complete', source, epoch, began_at, last_began_at, 2 FROM scan LIMIT 1",
         "was not published by any scan"),
        ("UPDATE ledger_link SET at = at - interval '1 day' WHERE seq = 3", "link 3: says something else"),
        ("UPDATE ledger_link SET scan_id = 77 WHERE seq = 3", "link 3: says something else"),
        ("UPDATE ledger_link SET members = overlay(members placing '\\x00'::bytea from 20) WHERE seq = 3",
         "link 3: has other members"),
        ("DELETE FROM ledger_link WHERE seq = 3", "follows link 2"),
        ("DELETE FROM ledger_link WHERE seq = 1", "follows link 0"),
    ],
)  # fmt: skip
def test_what_is_altered_cut_out_or_added_is_found(engine: Engine, world: World, statement: str, words: str) -> None:
    run(engine, statement)
    done = check(engine)
    assert done.wrong
    assert words in told(done)


def test_a_chain_cut_at_its_end_is_found_by_a_head_that_was_published(engine: Engine, world: World) -> None:
    seq, digest = heads(engine)["w"]
    assert sound(engine, published={seq: digest}).head == digest
    run(
        engine,
        "DELETE FROM version WHERE scan_id = 4",
        "DELETE FROM change WHERE scan_id = 4",
        f"DELETE FROM ledger_link WHERE seq >= {seq}",
    )
    assert f"link {seq}: was published as a head, and is gone" in told(check(engine, {seq: digest}))
    run(engine, "DELETE FROM ledger_link")
    assert "the chain is gone" in told(check(engine, {seq: digest}))


def test_a_chain_made_anew_differs_from_the_head_that_was_published(engine: Engine, world: World) -> None:
    """Whoever has the database and the key can make another chain. What was published stays."""
    seq, digest = heads(engine)["w"]
    with engine.begin() as connection:
        raw = driver(connection)
        connection.execute(text("DELETE FROM ledger_link"))
        connection.execute(text("UPDATE version SET owner = 'mallory' WHERE kind = 'run'"))
        wid = raw.execute("SELECT workspace_id FROM workspace").fetchone()[0]  # type: ignore[index]
        written.append(raw, wid, chain.What.GENESIS, [(chain.Sort.BEGINNING, 0, 0, chain.beginning(0))], key=SALTS)
        for sort in (chain.Sort.VERSION, chain.Sort.CHANGE, chain.Sort.SCAN, chain.Sort.LISTING, chain.Sort.LOOKS):
            rows = [row for _, row in written.rows(raw, sort, "true", None)]
            written.append(raw, wid, chain.What.PUBLISHED, rows, key=SALTS)
        connection.execute(text("UPDATE scan SET chained = 2"))
    done = sound(engine)
    assert f"link {seq}" in told(check(engine, {seq: digest}))
    assert done.head != digest


def test_a_redaction_breaks_no_chain_and_leaves_nothing_to_guess_by(engine: Engine, world: World) -> None:
    world.runs["run01"]["tags"]["author"] = "Maria Mustermann"
    scan(engine, world)
    del world.runs["run01"]["tags"]["author"]
    scan(engine, world)
    seq, digest = heads(engine)["w"]
    sought = Sought("Maria Mustermann", Redactor(KEY).fingerprint("Maria Mustermann"), Redactor(KEY).remembered)
    with engine.connect() as connection:
        words = redactions.survey(connection, sought).words
    redactions.redact(engine, sought, Redactor(KEY).remembered, words.values(), actor="me", reason="asked to")
    done = sound(engine, published={seq: digest})
    assert done.redacted == 3  # a state, and the two changes that told of it
    scan(engine, world)
    sound(engine)
    # A row that is rewritten once more, and not by a redaction, is found.
    run(engine, "UPDATE version SET document = replace(document, 'redacted:manual', 'redacted:auto')"
                " WHERE document LIKE '%redacted:manual%'")  # fmt: skip
    assert "is not as link" in told(check(engine))
    run(engine, "UPDATE redaction SET actor = 'somebody else'")
    assert "redaction 1: is not as link" in told(check(engine))
    run(engine, "DELETE FROM redaction")
    assert "redaction 1: is gone from the record" in told(check(engine))


def test_retention_breaks_no_chain_and_what_it_did_not_drop_is_missed(engine: Engine, world: World) -> None:
    dropped = retention.prune(engine, keep=timedelta(0))
    assert dropped["version"]
    done = sound(engine)
    assert done.dropped == dropped["version"] + dropped["change"]
    run(engine, "DELETE FROM version WHERE valid_to IS NULL AND kind = 'run'")
    assert "is gone, and nobody dropped it" in told(check(engine))


def test_what_was_there_before_the_chain_is_told_and_not_vouched_for(engine: Engine, world: World) -> None:
    with engine.begin() as connection:  # as the migration finds an older database
        connection.execute(text("DELETE FROM ledger_link"))
        connection.execute(text("UPDATE scan SET chained = 2"))
        last = connection.execute(text("SELECT max(scan_id) FROM scan")).scalar_one()
    world.runs["run05"]["tags"]["edit"] = "1"
    scan(engine, world)
    done = sound(engine)
    assert (done.last_before, done.links) == (last, 3)
    assert done.before > 14
    run(engine, "UPDATE version SET owner = 'x' WHERE valid_to IS NULL AND kind = 'run' AND document LIKE '%edit%'")
    assert check(engine).wrong == 1


def test_a_scan_that_was_given_up_is_in_the_chain_with_what_it_published(engine: Engine, world: World) -> None:
    class Died(Exception):
        pass

    def die(number: int) -> None:
        raise Died

    world.runs["run04"]["tags"]["edit"] = "1"
    world.experiments["9"] = {"name": "exp 9", "lifecycle_stage": "active"}
    world.during = die
    with pytest.raises(Died):
        scan(engine, world)
    world.during = None
    sound(engine)
    run(engine, f"UPDATE scan SET error = 'nothing' WHERE state = '{ScanState.ABANDONED}'")
    assert "row of scan" in told(check(engine))


def test_a_scan_whose_process_was_killed_is_taken_in_by_the_next(engine: Engine, world: World) -> None:
    with engine.begin() as connection:  # as a kill leaves it
        connection.execute(
            text("INSERT INTO scan (workspace_id, mode, state, source, epoch, began_at, last_began_at)"
                 " SELECT workspace_id, 'sweep', 'running', 'x', 1, now(), now() FROM workspace")
        )  # fmt: skip
    sound(engine)
    scan(engine, world)
    done = sound(engine)
    with engine.connect() as connection:
        states = connection.execute(text("SELECT state, chained FROM scan ORDER BY scan_id DESC LIMIT 2")).all()
    assert [tuple(row) for row in states] == [("complete", 2), ("abandoned", 2)]
    assert done.scans == 7


def test_workspaces_have_chains_of_their_own(engine: Engine, world: World) -> None:
    scan(engine, world, workspace="other")
    both = heads(engine)
    assert set(both) == {"w", "other"}
    run(engine, "DELETE FROM ledger_link WHERE workspace_id = (SELECT workspace_id FROM workspace WHERE name = 'other')"
                " AND seq = 2")  # fmt: skip
    sound(engine)
    assert check(engine, workspace="other").wrong


def test_a_salt_says_nothing_of_another_and_cannot_be_had_without_the_key(engine: Engine, world: World) -> None:
    with engine.connect() as connection:
        rows = driver(connection).execute("SELECT nonce, count, members FROM ledger_link WHERE nonce <> ''").fetchall()
    ours = [chain.salts(SALTS, nonce, count) for nonce, count, _ in rows]
    others = [chain.salts(chain.salt_key(b"x" * 32), nonce, count) for nonce, count, _ in rows]
    every = [salts[n : n + 16] for salts in ours for n in range(0, len(salts), 16)]
    assert len(set(every)) == len(every)
    assert not set(every) & {salts[n : n + 16] for salts in others for n in range(0, len(salts), 16)}
    assert len({nonce for nonce, *_ in rows}) == len(rows)
