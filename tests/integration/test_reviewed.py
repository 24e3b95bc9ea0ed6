"""What a hard review of the scan broke once: each defect keeps its test."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, no-any-return, type-arg, arg-type, union-attr"
# mypy: disable-error-code="index, misc, operator, assignment"
from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from stocktake import pipeline
from stocktake.core.assets import Kind, Mode, ScanState, Scope, ScopeState
from stocktake.core.errors import ConfigError
from stocktake.core.guard import Guard
from stocktake.core.redact import Redactor
from stocktake.pipeline import Stopped, story
from stocktake.sources.protocol import Listing, Page
from stocktake.store import figures, history, ledger, retention
from stocktake.store.difference import difference
from stocktake.store.observation import observed
from tests.integration.scripted import KEY, Scripted, World, scan


def changes(engine, **o):
    with engine.connect() as c:
        return list(history.changes(c, **o))


def sql(engine, q, **p):
    with engine.begin() as c:
        r = c.execute(text(q), p)
        return r.all() if r.returns_rows else None


@pytest.fixture
def world() -> World:
    w = World()
    for n in range(12):
        w.add_run(f"run{n:02d}")
    return w


def scan_with(engine, make, mode=Mode.SWEEP, workspace="w", **o):
    return pipeline.scan(
        engine,
        make,
        workspace=workspace,
        source_name="scripted",
        uri="scripted://" + workspace,
        mode=mode,
        redactor=o.pop("redactor", None) or Redactor(KEY),
        key=KEY,
        guard=o.pop("guard", Guard()),
        **o,
    )


# 1 seen forgotten in mid-scope
def test_seen_forgotten_mid_scope(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    w = World(page=5)
    for n in range(40):
        w.add_run(f"a{n:02d}", experiment="1")
    for n in range(40):
        w.add_run(f"b{n:02d}", experiment="2")
    scan(engine, w)
    monkeypatch.setattr(story, "_BATCH_DOCUMENTS", 3)
    w.runs["b30"]["tags"]["x"] = "1"
    w.runs["b31"]["tags"]["x"] = "1"
    w.runs["b32"]["tags"]["x"] = "1"
    w.unconfirmable = set(w.runs)
    r = scan(engine, w)
    rows = sql(
        engine, "SELECT partition, missing, carried, state FROM scope_scan WHERE scan_id=:s AND kind='run'", s=r.scan_id
    )
    assert all(x.missing == 0 for x in rows), rows


def test_seen_forgotten_filtered(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    w = World(page=5, filtered=True)
    for n in range(40):
        w.add_run(f"a{n:02d}", experiment="1")
        w.add_run(f"b{n:02d}", experiment="2")
    scan(engine, w)
    monkeypatch.setattr(story, "_BATCH_DOCUMENTS", 3)
    for k in ("b30", "b31", "b32"):
        w.runs[k]["tags"]["x"] = "1"
    r = scan(engine, w)
    assert r.counts.get("carried", 0) == 0, r.counts


# 2 not_before > not_after
def test_not_before_after_not_after(engine: Engine, world: World) -> None:
    scan(engine, world)
    # sweep reads the changed experiment; meanwhile it is changed back; a hot pass sees it as the head has it
    world.experiments["1"]["note"] = "x"

    def meanwhile(page):
        world.during = None
        del world.experiments["1"]["note"]
        scan(engine, world, Mode.HOT)

    world.during = meanwhile
    scan(engine, world)
    cs = changes(engine)
    with engine.connect() as c:
        (row,) = history.find_asset(c, Kind.EXPERIMENT, "1")
    print([(c.type, c.not_before, c.not_after) for c in cs], row.document)
    assert all(c.not_before <= c.not_after for c in cs)


def test_stale_state_wins(engine: Engine, world: World) -> None:
    scan(engine, world)
    world.experiments["1"]["note"] = "x"

    def meanwhile(page):
        world.during = None
        del world.experiments["1"]["note"]
        scan(engine, world, Mode.HOT)

    world.during = meanwhile
    scan(engine, world)
    with engine.connect() as c:
        (row,) = history.find_asset(c, Kind.EXPERIMENT, "1")
    assert "note" not in row.document


def test_created_interval_inverted(engine: Engine, world: World) -> None:
    scan(engine, world)
    world.experiments["9"] = {"name": "short lived", "lifecycle_stage": "active"}

    def meanwhile(page):
        world.during = None
        del world.experiments["9"]
        scan(engine, world, Mode.HOT)

    world.during = meanwhile
    scan(engine, world)
    cs = changes(engine)
    assert all(c.not_before <= c.not_after for c in cs), [(c.type, c.key, c.not_before, c.not_after) for c in cs]


# 3 keys that Postgres cannot store
def test_key_private_use_is_not_purged(engine: Engine) -> None:
    w = World()
    w.experiments["m\ue000x"] = {"name": "odd", "lifecycle_stage": "active"}
    scan(engine, w)
    r = scan(engine, w)
    assert r.counts.get("purged", 0) == 0, r.counts


@pytest.mark.parametrize("odd", ["m\x00x", "m\ud83dx"])
def test_key_nul(engine: Engine, world: World, odd) -> None:
    world.experiments[odd] = {"name": "odd", "lifecycle_stage": "active"}
    assert scan(engine, world).state == ScanState.COMPLETE


@pytest.mark.parametrize("odd", ["m\x00x", "m\ud83dx"])
def test_problem_text_nul(engine: Engine, world: World, odd) -> None:
    class S(Scripted):
        def _pages(self, kind, items):
            for p in super()._pages(kind, items):
                yield Page(items=p.items, requested_at=p.requested_at, problems=[f"aliases of {odd} are odd"])

    r = scan_with(engine, lambda now: S(world, now))
    assert r.state == ScanState.PARTIAL


def test_big_int(engine: Engine, world: World) -> None:
    world.runs["run01"]["big"] = 2**70
    assert scan(engine, world).state in (ScanState.COMPLETE, ScanState.PARTIAL)


# 4 stuck coverage of partitions that are gone
def test_age_of_purged_partition(engine: Engine, world: World) -> None:
    world.add_run("gone1", experiment="2")
    scan(engine, world)
    del world.runs["gone1"]
    del world.experiments["2"]
    scan(engine, world)
    scan(engine, world)
    b = scan(engine, world)
    with engine.connect() as c:
        (_s,) = ledger.status(c)
        f = figures.workspace_figures(c, "w", age_limits={Mode.HOT: 600, Mode.SWEEP: 86400})
    run = next(k for k in f.kinds if k.kind == Kind.RUN)
    assert run.oldest_complete >= b.began_at, (run.oldest_complete, b.began_at)


# 5 withheld not dropped when confirmed present
def test_withheld_but_answers_by_id(engine: Engine, world: World) -> None:
    scan(engine, world)
    kept = world.runs
    world.runs = {}
    first = scan(engine, world)
    assert first.counts["withheld"] == 12
    world.runs = kept
    world.hidden = set(kept)
    scan(engine, world)  # all twelve are found by id
    left = sql(engine, "SELECT count(*) FROM withheld")[0][0]
    world.runs = {}
    third = scan(engine, world)
    assert (left, third.counts.get("purged", 0)) == (0, 0)


# 6 guard denominators with deleted tombstones
def test_guard_denominator_tombstones(engine: Engine) -> None:
    w = World(page=500)
    for n in range(300):
        e = str(n // 5)
        w.experiments.setdefault(e, {"name": e, "lifecycle_stage": "active"})
        w.models[f"m-{n:03d}"] = {"experiment_id": e, "name": f"n{n}"}
    scan(engine, w)
    big = Guard(share=1.1, assets=10**6)
    for n in range(300):
        if n % 5 >= 1:
            del w.models[f"m-{n:03d}"]
    scan(engine, w, guard=big)  # 240 deleted, accepted over time
    for n in list(w.models)[:45]:
        del w.models[n]
    r = scan(engine, w)  # 45 of 60 live models vanish: 75 %
    assert r.counts["withheld"] > 0, r.counts


# 7 rebased loses deletion
def test_rebased_swallows_deletion(engine: Engine, world: World) -> None:
    world.runs["run01"]["tags"]["badge"] = "badge-12345678"
    scan(engine, world)
    world.runs["run02"]["info"]["lifecycle_stage"] = "deleted"
    scan(engine, world, redactor=Redactor(KEY, values=["badge-[0-9]+"]))
    assert [(c.key, c.type) for c in changes(engine)] == [("run02", "deleted")]


# 8 killed hot pass loses runs of the deleted experiment
def test_hot_failed_then_hot(engine: Engine, world: World) -> None:
    scan(engine, world)
    world.experiments["1"]["lifecycle_stage"] = "deleted"
    for r in world.runs.values():
        r["info"]["lifecycle_stage"] = "deleted"
    world.fail_runs_after = 0
    scan(engine, world, Mode.HOT)
    world.fail_runs_after = None
    scan(engine, world, Mode.HOT)
    with engine.connect() as c:
        states = {r.lifecycle for r in history.list_assets(c, Kind.RUN)}
    assert states == {"deleted"}


# 9 fold loses the scan of a rebased version
def test_fold_dangling_scan(engine: Engine, world: World) -> None:
    world.runs["run01"]["tags"]["badge"] = "badge-12345678"
    scan(engine, world)
    scan(engine, world, Mode.HOT)

    def red():
        return Redactor(KEY, values=["badge-[0-9]+"])

    scan(engine, world, Mode.HOT, redactor=red())
    world.runs["run01"]["info"]["status"] = "RUNNING"
    scan(engine, world, Mode.HOT, redactor=red())
    rows = sql(
        engine, "SELECT v.scan_id FROM version v WHERE NOT EXISTS (SELECT 1 FROM scan s WHERE s.scan_id=v.scan_id)"
    )
    assert rows == []


# 10 unsupported kind
def test_unsupported_kind_is_said(engine: Engine, world: World) -> None:
    class S(Scripted):
        def listings(self, mode, known):
            yield from super().listings(mode, known)
            yield Listing(scope=Scope(kind=Kind.WEBHOOK, covers=()), pages=iter(()), promise=ScopeState.UNSUPPORTED)

    r = scan_with(engine, lambda now: S(world, now))
    with engine.connect() as c:
        assert observed(c, Kind.WEBHOOK, at=r.finished_at) == []


# 12 difference claims creation of what merely became visible
def test_difference_false_creation(engine: Engine, world: World) -> None:
    world.filtered = True
    world.hidden = {"run01"}
    a = scan(engine, world)
    world.hidden = set()
    scan(engine, world)
    world.runs["run01"]["tags"]["x"] = "1"
    b = scan(engine, world)
    with engine.connect() as c:
        rows = [(r.key, r.type) for r in difference(c, start=a.finished_at, end=b.finished_at)]
    assert ("run01", "created") not in rows, rows


def test_difference_after_retention(engine: Engine, world: World) -> None:
    a = scan(engine, world)
    world.runs["run01"]["tags"]["x"] = "1"
    b = scan(engine, world)
    world.runs["run01"]["tags"]["x"] = "2"
    c_ = scan(engine, world)
    with engine.connect() as c:
        now = c.execute(text("SELECT clock_timestamp()")).scalar_one()
    retention.prune(engine, keep=now - b.finished_at)
    with engine.connect() as c:
        rows = [(r.key, r.type) for r in difference(c, start=a.finished_at, end=c_.finished_at)]
        {r.key for r in history.list_assets(c, Kind.RUN, at=a.finished_at)}
        (seen,) = observed(c, Kind.RUN, at=a.finished_at)
        assert a.finished_at < seen.dropped_before < b.finished_at
    assert ("run01", "created") not in rows, rows


# 13 changes hides parts whose story is outside the window
def test_parts_outside_window(engine: Engine, world: World) -> None:
    scan(engine, world)
    world.experiments["1"]["lifecycle_stage"] = "deleted"
    for r in world.runs.values():
        r["info"]["lifecycle_stage"] = "deleted"
    scan(engine, world, Mode.HOT)
    (story,) = changes(engine)
    assert len(changes(engine, since=story.at)) == 12


# 14 retention drops creations still evidenced
def test_retention_keeps_creation_of_registered_run(engine: Engine, world: World) -> None:
    scan(engine, world)
    world.add_run("new1")
    scan(engine, world)
    assert [c.type for c in changes(engine)] == ["created"]
    # a registered model version stands on new1
    sql(
        engine,
        "INSERT INTO asset (workspace_id, kind, key, partition, digest, raw_digest, epoch, observed_at, first_seen, lifecycle, baseline) VALUES (1,'model_version','m/1','','','',1,now(),now(),'active',true)",  # noqa: E501
    )
    sql(
        engine,
        "INSERT INTO version (asset_id, valid_from, workspace_id, kind, scan_id, digest, lifecycle, partition, run, document) SELECT asset_id, now(), 1, 'model_version', 1, '', 'active', '', 'new1', '{}' FROM asset WHERE key='m/1'",  # noqa: E501
    )
    retention.prune(engine, keep=timedelta(0))
    assert [(c.key, c.type) for c in changes(engine)] == [("new1", "created")]


def test_retention_keeps_logged_model_registered_without_run(engine: Engine, world: World) -> None:
    world.models["m-1"] = {"experiment_id": "1", "name": "forest"}
    scan(engine, world)
    world.models["m-1"]["tag"] = "x"
    scan(engine, world)
    sql(
        engine,
        "INSERT INTO asset (workspace_id, kind, key, partition, digest, raw_digest, epoch, observed_at, first_seen, lifecycle, baseline) VALUES (1,'model_version','f/1','','','',1,now(),now(),'active',true)",  # noqa: E501
    )
    sql(
        engine,
        "INSERT INTO version (asset_id, valid_from, workspace_id, kind, scan_id, digest, lifecycle, partition, artifact_uri, document) SELECT asset_id, now(), 1, 'model_version', 1, '', 'active', '', 'models:/m-1', '{\"model_id\":\"m-1\"}' FROM asset WHERE key='f/1'",  # noqa: E501
    )
    retention.prune(engine, keep=timedelta(0))
    with engine.connect() as c:
        assert len(history.asset_history(c, Kind.LOGGED_MODEL, "m-1")) == 2


# 15 raw digest not renewed
def test_raw_bytes_change_is_learnt(engine: Engine, world: World) -> None:
    scan(engine, world)
    for k, r in world.runs.items():
        world.runs[k] = dict(reversed(list(r.items())))
    scan(engine, world)
    n = 0

    class S(Scripted):
        def parse(self, kind, raw):
            nonlocal n
            n += 1
            return super().parse(kind, raw)

    scan_with(engine, lambda now: S(world, now))
    assert n == 0, n


# 16 one malformed new item makes every hot pass a full one
def test_hot_is_hot_despite_one_malformed(engine: Engine, world: World) -> None:
    world.runs["run02"]["malformed"] = True
    scan(engine, world)
    scan(engine, world, Mode.HOT)
    r = scan(engine, world, Mode.HOT)
    assert r.counts["seen"] < 12, r.counts


# 17 status says scanning after a stop
def test_status_scanning_after_stop(engine: Engine, world: World) -> None:
    scan(engine, world)
    with pytest.raises(Stopped):
        scan(engine, world, stop=lambda: True)
    with engine.connect() as c:
        (s,) = ledger.status(c)
    assert s.scanning is None


def test_config_error_in_source_leaves_running(engine: Engine, world: World) -> None:
    def bad(now):
        raise ConfigError("secret not set")

    for _ in range(3):
        assert scan_with(engine, bad, Mode.HOT).error == "secret not set"
    rows = sql(engine, "SELECT state, error FROM scan ORDER BY 1")
    assert not any("went away" in (r.error or "") for r in rows), rows


# 18 one scope unobservable makes the workspace unobservable
def test_one_403_scope(engine: Engine, world: World) -> None:
    from stocktake.core.errors import Trouble

    scan(engine, world)
    world.fail_runs_after = 1
    world.fail_with = Trouble.PERMISSION
    r = scan(engine, world)
    with engine.connect() as c:
        (s,) = ledger.status(c)
        obs = figures.workspace_figures(c, "w", age_limits={Mode.HOT: 1, Mode.SWEEP: 1}).observable
    assert (s.state == "unobservable") == (not obs), (s.state, obs, r.state)
