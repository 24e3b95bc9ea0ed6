"""The invariants of a scan, each tried to be broken, on a real Postgres."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, text

from stocktake.core import canonical
from stocktake.core.assets import Kind, Mode, ScanState
from stocktake.core.errors import Fenced, Trouble
from stocktake.pipeline import Stopped
from stocktake.store import claims, history, ledger, standing
from stocktake.store.difference import difference
from stocktake.store.observation import observed
from tests.integration.scripted import World, changes, live, scan, twelve_runs


def _wal(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT pg_current_wal_insert_lsn() - '0/0'")).scalar_one())


@pytest.fixture
def world() -> World:
    return twelve_runs()


def test_first_sight_is_a_baseline_and_raises_nothing(engine: Engine, world: World) -> None:
    report = scan(engine, world)
    assert report.state == ScanState.COMPLETE
    assert report.counts["baseline"] == 13
    assert changes(engine) == []
    assert len(live(engine)) == 12


def test_an_unchanged_rescan_touches_no_asset(engine: Engine, world: World) -> None:
    scan(engine, world)
    with engine.connect() as connection:
        before = connection.execute(text("SELECT xmin::text, asset_id FROM asset ORDER BY 2")).all()
    scan(engine, world)
    with engine.connect() as connection:
        after = connection.execute(text("SELECT xmin::text, asset_id FROM asset ORDER BY 2")).all()
        assert connection.execute(text("SELECT count(*) FROM version WHERE valid_to IS NOT NULL")).scalar_one() == 0
    assert before == after
    assert changes(engine) == []


def test_a_late_edit_is_one_change_between_two_looks(engine: Engine, world: World) -> None:
    first = scan(engine, world)
    world.runs["run03"]["tags"]["note"] = "late"
    second = scan(engine, world)
    (change,) = changes(engine)
    assert (change.type, change.category, change.key) == ("updated", "config", "run03")
    assert change.fields == [{"path": "tags.note", "before": None, "after": "late"}]
    assert change.not_before is not None
    assert first.began_at <= change.not_before <= first.finished_at
    assert second.began_at <= change.not_after <= second.finished_at
    assert change.actor == "unknown"


def test_a_run_missing_from_a_failed_page_is_carried_forward(engine: Engine, world: World) -> None:
    scan(engine, world)
    world.fail_runs_after = 1
    report = scan(engine, world)
    assert report.state == ScanState.PARTIAL
    assert report.error is not None
    assert "500" in report.error
    assert changes(engine) == []
    assert len(live(engine)) == 12


def test_what_a_cut_scan_saw_is_published_all_the_same(engine: Engine, world: World) -> None:
    scan(engine, world)
    world.runs["run00"]["tags"]["seen"] = "yes"
    world.fail_runs_after = 1
    scan(engine, world)
    assert [c.key for c in changes(engine)] == ["run00"]


def test_a_run_confirmed_gone_is_purged_once(engine: Engine, world: World) -> None:
    scan(engine, world)
    del world.runs["run05"]
    report = scan(engine, world)
    assert report.counts["purged"] == 1
    scan(engine, world)
    assert [(c.type, c.key) for c in changes(engine)] == [("purged", "run05")]
    assert "run05" not in live(engine)
    with engine.connect() as connection:
        (last,) = history.find_asset(connection, Kind.RUN, "run05")
    assert last.gone_at is not None
    assert last.document["info"]["status"] == "FINISHED"


def test_a_purged_run_that_comes_back_is_restored(engine: Engine, world: World) -> None:
    scan(engine, world)
    kept = world.runs.pop("run05")
    scan(engine, world)
    world.runs["run05"] = kept
    scan(engine, world)
    assert [c.type for c in changes(engine)] == ["purged", "restored"]
    with engine.connect() as connection:
        assert len(history.asset_history(connection, Kind.RUN, "run05")) == 2


def test_a_run_that_moved_between_pages_is_found_by_id(engine: Engine, world: World) -> None:
    scan(engine, world)
    world.hidden = {"run07"}
    report = scan(engine, world)
    assert report.state == ScanState.COMPLETE
    assert changes(engine) == []
    assert len(live(engine)) == 12


def test_a_run_that_cannot_be_asked_for_is_carried_and_said(engine: Engine, world: World) -> None:
    scan(engine, world)
    del world.runs["run07"]
    world.unconfirmable = {"run07"}
    report = scan(engine, world)
    assert report.state == ScanState.PARTIAL
    assert report.counts["carried"] == 1
    assert changes(engine) == []


def test_a_permission_filter_never_makes_anything_vanish(engine: Engine, world: World) -> None:
    world.filtered = True
    scan(engine, world)
    kept, world.runs = world.runs, {}
    report = scan(engine, world)
    assert report.counts["carried"] == 12
    assert changes(engine) == []
    world.runs = kept
    scan(engine, world)
    assert changes(engine) == []
    assert len(live(engine)) == 12


def test_what_a_new_right_shows_is_not_called_created(engine: Engine, world: World) -> None:
    world.filtered = True
    world.hidden = {"run01"}
    scan(engine, world)
    world.hidden = set()
    scan(engine, world)
    assert changes(engine) == []
    assert "run01" in live(engine)


@pytest.mark.parametrize("trouble", [Trouble.AUTHENTICATION, Trouble.PERMISSION, Trouble.UNREACHABLE])
def test_unobservable_is_a_state_not_a_deletion(engine: Engine, world: World, trouble: Trouble) -> None:
    scan(engine, world)
    world.fail_identify = trouble
    report = scan(engine, world)
    assert report.state == ScanState.FAILED
    with engine.connect() as connection:
        (status,) = standing.status(connection)
    assert status.state == "unobservable"
    assert status.next_step == "Check the token."
    assert len(live(engine)) == 12
    assert changes(engine) == []
    world.fail_identify = None
    scan(engine, world)
    with engine.connect() as connection:
        (status,) = standing.status(connection)
    assert status.state == "complete"
    assert status.error is None


def test_a_deleted_experiment_with_its_runs_is_one_story(engine: Engine, world: World) -> None:
    scan(engine, world)
    world.experiments["1"]["lifecycle_stage"] = "deleted"
    for run in world.runs.values():
        run["info"]["lifecycle_stage"] = "deleted"
    scan(engine, world, Mode.HOT)
    (story,) = changes(engine)
    assert (story.kind, story.type, story.includes) == ("experiment", "deleted", {"run": 12})
    assert len(changes(engine, expand=True)) == 13


def test_the_runs_of_a_story_are_told_one_by_one_where_the_story_is_not(engine: Engine, world: World) -> None:
    scan(engine, world)
    world.experiments["1"]["lifecycle_stage"] = "deleted"
    for run in world.runs.values():
        run["info"]["lifecycle_stage"] = "deleted"
    scan(engine, world, Mode.HOT)
    (story,) = changes(engine)
    assert len(changes(engine, since=story.at)) == 12


def test_what_a_failed_hot_pass_did_not_see_the_next_one_does(engine: Engine, world: World) -> None:
    scan(engine, world)
    world.experiments["1"]["lifecycle_stage"] = "deleted"
    for run in world.runs.values():
        run["info"]["lifecycle_stage"] = "deleted"
    world.fail_runs_after = 0
    scan(engine, world, Mode.HOT)
    world.fail_runs_after = None
    scan(engine, world, Mode.HOT)
    with engine.connect() as connection:
        assert {row.lifecycle for row in history.list_assets(connection, Kind.RUN)} == {"deleted"}


def test_runs_of_an_experiment_that_we_saw_begin_are_created(engine: Engine, world: World) -> None:
    scan(engine, world)
    world.add_run("new1", experiment="2")
    scan(engine, world, Mode.HOT)
    assert [(c.kind, c.type) for c in changes(engine)] == [("experiment", "created"), ("run", "created")]
    assert all(c.not_before is not None for c in changes(engine))


def test_deleted_ones_that_the_source_does_not_show_are_called_deleted(engine: Engine, world: World) -> None:
    world.models["m-1"] = {"experiment_id": "1", "name": "forest"}
    scan(engine, world)
    kept = world.models.pop("m-1")
    scan(engine, world)
    scan(engine, world)
    (change,) = changes(engine)
    assert (change.type, change.key) == ("deleted", "m-1")
    world.models["m-1"] = kept
    scan(engine, world)
    assert [c.type for c in changes(engine)] == ["deleted", "restored"]


def test_an_item_that_is_not_understood_makes_its_scope_partial_and_nothing_vanish(
    engine: Engine, world: World
) -> None:
    scan(engine, world)
    world.runs["run02"]["malformed"] = True
    report = scan(engine, world)
    assert report.state == ScanState.PARTIAL
    assert report.error is not None
    assert "run02" in report.error
    assert len(live(engine)) == 12


def test_one_item_that_is_not_understood_does_not_make_every_hot_pass_a_whole_one(engine: Engine, world: World) -> None:
    world.runs["run02"]["malformed"] = True
    scan(engine, world)
    scan(engine, world, Mode.HOT)
    assert scan(engine, world, Mode.HOT).counts["seen"] < 12


def test_secrets_reach_no_column(engine: Engine, world: World) -> None:
    secret = "hunter2" + "hunter3"
    world.runs["run01"]["params"]["db_password"] = secret
    world.runs["run01"]["info"]["run_name"] = f"https://bob:{secret}@host/x"
    report = scan(engine, world)
    assert sum(report.redactions.values()) == 2
    with engine.connect() as connection:
        dump = [
            tuple(row)
            for row in connection.execute(text("SELECT v.*, a.* FROM version v JOIN asset a USING (asset_id)"))
        ]
    assert secret not in str(dump)
    assert "[redacted:" in str(dump)


def test_what_was_lifted_out_of_a_document_is_redacted_with_it(engine: Engine, world: World) -> None:
    world.runs["run01"]["params"] = {"password": "hunter", "lr": "0.1"}
    world.runs["run01"]["tags"]["owner_password"] = world.owner = "swordfish"
    world.runs["run02"]["params"] = {"lr": "0.1"}
    scan(engine, world)
    with engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT a.key, v.owner, v.params_digest FROM version v JOIN asset a USING (asset_id)"
                " WHERE v.kind = 'run'"
            )
        ).all()
    lifted = {row.key: row for row in rows}
    assert lifted["run01"].owner.startswith("[redacted:lifted:")
    plain = canonical.digest(canonical.encode({"password": "hunter", "lr": "0.1"})).hex()
    assert lifted["run01"].params_digest not in (None, plain)
    assert lifted["run02"].params_digest == canonical.params_digest({"lr": "0.1"})


def test_equal_hot_passes_extend_one_row(engine: Engine, world: World) -> None:
    scan(engine, world)
    ids = {scan(engine, world, Mode.HOT).scan_id for _ in range(4)}
    assert len(ids) == 1
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT mode, passes FROM scan ORDER BY scan_id")).all()
    assert [tuple(row) for row in rows] == [("sweep", 1), ("hot", 4)]


def test_a_stopped_scan_is_abandoned_and_the_next_goes_on(engine: Engine, world: World) -> None:
    scan(engine, world)
    with pytest.raises(Stopped):
        scan(engine, world, stop=lambda: True)
    assert scan(engine, world).state == ScanState.COMPLETE
    with engine.connect() as connection:
        states = connection.execute(text("SELECT state FROM scan ORDER BY scan_id")).scalars().all()
    assert states == ["complete", "abandoned", "complete"]


def test_two_scans_of_one_mode_do_not_overlap(engine: Engine, world: World) -> None:
    def again(page: int) -> None:
        world.during = None
        with pytest.raises(claims.Busy):
            scan(engine, world)

    world.during = again
    assert scan(engine, world).state == ScanState.COMPLETE


def test_a_scan_may_begin_the_moment_another_has_ended_or_was_stopped(engine: Engine, world: World) -> None:
    held = text(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = CAST(:space AS oid)"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as watcher:
        for _ in range(10):
            assert scan(engine, world).state == ScanState.COMPLETE
            assert watcher.execute(held, {"space": claims.LOCK}).scalar_one() == 0
            with pytest.raises(Stopped):
                scan(engine, world, stop=lambda: True)
            assert watcher.execute(held, {"space": claims.LOCK}).scalar_one() == 0


def test_a_scan_that_was_taken_over_publishes_nothing_more(engine: Engine, world: World) -> None:
    scan(engine, world)
    world.runs["run00"]["tags"]["x"] = "1"

    def take_over(page: int) -> None:
        with engine.begin() as connection:
            connection.execute(text("UPDATE claim SET token = gen_random_uuid()"))

    world.during = take_over
    with pytest.raises(Fenced):
        scan(engine, world)
    assert changes(engine) == []


def test_a_workspace_that_points_elsewhere_is_refused(engine: Engine, world: World) -> None:
    scan(engine, world)
    with engine.begin() as connection:
        connection.execute(text("UPDATE workspace SET uri = 'http://other'"))
    refused = scan(engine, world)
    assert (refused.state, refused.trouble, refused.counts.get("seen", 0)) == (ScanState.FAILED, "config", 0)
    assert "'w' was read from http://other until now and points to scripted://w" in str(refused.error)
    assert str(refused.next_step).startswith("If the address is a mistake, correct it.")
    assert str(refused.next_step).endswith("stocktake scope accept w workspace")
    with engine.connect() as connection:
        (status,) = standing.status(connection)
        last = connection.execute(text("SELECT state, trouble, error FROM scan ORDER BY scan_id DESC LIMIT 1")).one()
    assert (status.state, status.error, status.next_step) == ("unobservable", refused.error, refused.next_step)
    assert (status.uri, status.assets["run"]) == ("http://other", 12)
    assert tuple(last) == ("failed", "config", refused.error)
    with engine.begin() as connection:
        assert ledger.accept_address(connection, "w", "scripted", "scripted://w")
        assert not ledger.accept_address(connection, "w", "scripted", "scripted://w")
    assert scan(engine, world).state == ScanState.COMPLETE


def test_as_of_a_time_is_what_was_known_then(engine: Engine, world: World) -> None:
    first = scan(engine, world)
    world.runs["run00"]["tags"]["x"] = "1"
    del world.runs["run01"]
    second = scan(engine, world)
    with engine.connect() as connection:
        then = {row.key: row for row in history.list_assets(connection, Kind.RUN, at=first.finished_at)}
        assert then["run00"].document["tags"] == {}
        assert "run01" in then
        viewed = connection.execute(text("SELECT count(*) FROM inventory.run_at(:at)"), {"at": first.finished_at})
        assert viewed.scalar_one() == 12
        assert connection.execute(text("SELECT count(*) FROM inventory.run")).scalar_one() == 11
        between = list(difference(connection, start=first.finished_at, end=second.finished_at))
        (early,) = observed(connection, Kind.RUN, at=first.began_at)
        (late,) = observed(connection, Kind.RUN, at=second.finished_at)
    assert [(c.key, c.type) for c in between] == [("run00", "updated"), ("run01", "purged")]
    assert (early.workspace, early.kind, early.hidden) == ("w", "run", True)
    assert late.whole


def test_two_workspaces_do_not_meet(engine: Engine, world: World) -> None:
    scan(engine, world, workspace="one")
    scan(engine, World(), workspace="two")
    assert len(live(engine)) == 12
