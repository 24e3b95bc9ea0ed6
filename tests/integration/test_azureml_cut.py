"""A listing that was cut is taken up where it stopped: nothing is asked twice, nothing is claimed that nobody saw."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text

from stocktake import pipeline
from stocktake.core.assets import Kind, Mode, ScopeState
from stocktake.core.errors import Stopped
from stocktake.demo.azure.content import Size
from stocktake.demo.azure.estate import Estate
from stocktake.demo.azure.workspace import Workspace
from stocktake.sources.azureml_arm import ArmLists
from stocktake.store import history
from tests.azure.server import AzureServer, served
from tests.integration.azureml_told import Told
from tests.servers.azureml import keys_in

JOBS = 320  # seven pages of 50
SIZE = Size(jobs=JOBS, live=0, children=0, types=("Command",), components=6)


@dataclass(slots=True)
class Cut:
    engine: Engine
    server: AzureServer
    workspace: Workspace

    def scan(
        self,
        mode: Mode = Mode.SWEEP,
        *,
        budget: int | None = None,
        overlap: timedelta = timedelta(hours=1),
        stop: Callable[[], bool] = lambda: False,
    ) -> pipeline.ScanReport:
        self.server.seen.clear()  # what is counted is this scan's
        told = Told(self.engine, self.server, self.workspace, name=self.workspace.name)
        return told.scan(mode, budget=budget, stop=stop, read_ahead=False, run_overlap=overlap)

    def keys(self, kind: Kind) -> set[str]:
        with self.engine.connect() as connection:
            rows = history.list_assets(connection, kind)
            return {row.key for row in rows if row.workspace == self.workspace.name}

    def changes(self, kind: Kind) -> list[tuple[str, str]]:
        with self.engine.connect() as connection:
            return [(row.key, str(row.type)) for row in history.changes(connection, limit=10_000) if row.kind == kind]

    def complete_as_of(self, kind: Kind) -> datetime:
        found = "SELECT s.last_complete_at FROM scope s JOIN workspace w USING (workspace_id)"
        with self.engine.connect() as connection:
            at: datetime = connection.execute(
                text(f"{found} WHERE w.name = :name AND s.kind = :kind"), {"name": self.workspace.name, "kind": kind}
            ).scalar_one()
        return at

    def saved(self) -> set[str]:
        with self.engine.connect() as connection:
            return set(connection.execute(text("SELECT kind FROM cut_listing")).scalars())

    def requests(self) -> int:
        return self.server.seen.count(plane="arm")


@pytest.fixture
def cut(engine: Engine) -> Iterator[Cut]:
    estate = Estate()
    workspace = estate.add_workspace("cut", size=SIZE)
    with served(estate) as server:
        yield Cut(engine, server, workspace)


def state(report: pipeline.ScanReport, kind: Kind) -> str:
    return next(line.state for line in report.scopes if line.kind == kind)


def reason(report: pipeline.ScanReport, kind: Kind) -> str:
    return next(line.reason or "" for line in report.scopes if line.kind == kind)


def test_a_budget_that_ends_in_the_middle_of_the_jobs_is_no_end_the_next_scan_goes_on(cut: Cut) -> None:
    twin = replace(cut, workspace=cut.server.estate.add_workspace("twin", size=SIZE))
    twin.scan()
    budget = twin.requests() - 4  # the last three pages of jobs, and the activity log
    first = cut.scan(budget=budget)
    assert state(first, Kind.JOB) == ScopeState.PARTIAL
    assert f"the budget of {budget:,} requests" in reason(first, Kind.JOB)
    assert len(cut.keys(Kind.JOB)) == 4 * 50
    second = cut.scan(budget=budget)
    assert state(second, Kind.JOB) == ScopeState.COMPLETE
    assert cut.server.seen.count(family="jobs") == 3  # the pages that were left
    assert len(cut.keys(Kind.JOB)) == JOBS
    assert cut.changes(Kind.JOB) == []  # what the second part shows is a baseline like the first
    assert next(line.listed for line in second.scopes if line.kind == Kind.JOB) == JOBS
    assert cut.complete_as_of(Kind.JOB) < first.finished_at  # the beginning of the first part
    assert cut.saved() == set()


def test_what_neither_part_shows_is_asked_for_by_id_and_what_one_of_them_showed_is_not(cut: Cut) -> None:
    cut.scan()
    oldest = list(cut.workspace.jobs.newest())[-1].name
    newest = next(cut.workspace.jobs.newest()).name
    cut.workspace.jobs.remove(oldest)
    cut.server.faults.status(500, "jobs", page=4, times=None)
    assert state(cut.scan(), Kind.JOB) == ScopeState.PARTIAL
    cut.server.faults.clear()
    cut.workspace.jobs.remove(newest)  # after it was seen: the next listing misses it
    report = cut.scan()
    assert state(report, Kind.JOB) == ScopeState.COMPLETE
    assert cut.server.seen.count(family="jobs") == 4 + 1  # four pages, and one question by id
    assert cut.changes(Kind.JOB) == [(oldest, "purged")]
    cut.scan()
    assert set(cut.changes(Kind.JOB)) == {(oldest, "purged"), (newest, "purged")}


def test_a_job_that_changed_behind_the_cut_is_told_by_the_next_whole_listing(cut: Cut) -> None:
    cut.scan()
    newest, *_, oldest = cut.workspace.jobs.newest()
    cut.server.faults.status(500, "jobs", page=4, times=None)
    cut.scan()
    cut.server.faults.clear()
    cut.workspace.archive_job(newest.name)
    cut.workspace.archive_job(oldest.name)
    cut.scan()
    assert cut.changes(Kind.JOB) == [(oldest.name, "deleted")]
    cut.scan()
    assert sorted(cut.changes(Kind.JOB)) == sorted([(oldest.name, "deleted"), (newest.name, "deleted")])


def test_a_place_that_is_no_place_any_more_costs_one_scan_and_the_list_is_begun_anew(cut: Cut) -> None:
    cut.server.faults.status(500, "jobs", page=4, times=None)
    cut.scan()
    cut.server.faults.clear()
    cut.server.faults.status(400, "jobs", times=None)
    assert state(cut.scan(), Kind.JOB) == ScopeState.PARTIAL
    assert cut.saved() == set()
    cut.server.faults.clear()
    assert state(cut.scan(), Kind.JOB) == ScopeState.COMPLETE
    assert cut.server.seen.count(family="jobs") == 7


def test_a_server_that_does_not_answer_leaves_the_place_as_good_as_it_was(cut: Cut) -> None:
    cut.server.faults.status(500, "jobs", page=4, times=None)
    cut.scan()
    cut.server.faults.clear()
    cut.server.faults.cut("jobs", times=None)
    cut.scan()
    cut.server.faults.clear()
    assert state(cut.scan(), Kind.JOB) == ScopeState.COMPLETE
    assert cut.server.seen.count(family="jobs") == 4


def test_what_was_wrong_in_the_first_part_keeps_the_whole_from_being_complete(cut: Cut) -> None:
    cut.server.faults.unknown_item("jobs", {"neither": "a name nor an id"}, page=2)
    cut.server.faults.status(500, "jobs", page=4, times=None)
    cut.scan()
    cut.server.faults.clear()
    report = cut.scan()
    assert state(report, Kind.JOB) == ScopeState.PARTIAL
    assert cut.server.seen.count(family="jobs") == 4
    assert "without" in reason(report, Kind.JOB)
    assert state(cut.scan(), Kind.JOB) == ScopeState.COMPLETE


def test_a_hot_pass_takes_up_what_a_sweep_had_to_leave(cut: Cut) -> None:
    cut.scan()
    cut.server.faults.status(500, "jobs", page=4, times=None)
    cut.scan()
    cut.server.faults.clear()
    assert state(cut.scan(Mode.HOT), Kind.JOB) == ScopeState.COMPLETE
    assert cut.server.seen.count(family="jobs") == 4
    cut.scan(Mode.HOT)
    assert cut.server.seen.count(family="jobs") == 0  # nothing runs: nothing is asked by name


def test_a_scan_that_is_stopped_keeps_its_place(cut: Cut) -> None:
    with pytest.raises(Stopped):
        cut.scan(stop=lambda: cut.server.seen.count(family="jobs") == 3)
    assert cut.saved() == {"job"}
    assert len(cut.keys(Kind.JOB)) == 100  # the third page was not looked at
    assert state(cut.scan(), Kind.JOB) == ScopeState.COMPLETE
    assert cut.server.seen.count(family="jobs") == 5


def test_versions_go_on_with_the_container_at_which_they_were_cut(cut: Cut) -> None:
    twin = replace(cut, workspace=cut.server.estate.add_workspace("twin", size=SIZE))
    twin.scan()
    names = [what.path for what, _ in cut.server.seen.requests if what.family == "components/versions"]
    before = next(at for at, (what, _) in enumerate(cut.server.seen.requests) if what.path == names[len(names) // 2])
    spent = sum(what.plane == "arm" for what, _ in cut.server.seen.requests[:before])
    assert state(cut.scan(budget=spent), Kind.COMPONENT_VERSION) == ScopeState.PARTIAL
    assert cut.saved() == {"component_version"}
    assert state(cut.scan(), Kind.COMPONENT_VERSION) == ScopeState.COMPLETE
    # The container that was read last is read once more: whether it was at its end is not known.
    assert cut.server.seen.count(family="components/versions") == len(names) - len(names) // 2 + 1
    assert cut.keys(Kind.COMPONENT_VERSION) == keys_in(cut.workspace)[Kind.COMPONENT_VERSION]


def test_versions_are_taken_up_only_where_every_container_was_known(cut: Cut) -> None:
    big = Size(jobs=0, live=0, children=0, components=60)  # two pages of containers
    cut.workspace, twin = (cut.server.estate.add_workspace(name, size=big) for name in ("big", "twin"))
    for workspace in (cut.workspace, twin):
        workspace.register_component("a-late-one")  # on the second page, and the first by its name
    cut.server.faults.status(500, "components", page=2, times=None)
    replace(cut, workspace=twin).scan()
    arm = [what.family for what, _ in cut.server.seen.requests if what.plane == "arm"]
    cut.scan(budget=arm.index("components/versions") + 20)
    cut.server.faults.clear()
    assert state(cut.scan(), Kind.COMPONENT_VERSION) == ScopeState.COMPLETE
    assert cut.keys(Kind.COMPONENT_VERSION) == keys_in(cut.workspace)[Kind.COMPONENT_VERSION]
    cut.scan()
    assert cut.changes(Kind.COMPONENT_VERSION) == []


def test_children_are_complete_as_of_when_the_jobs_began_to_be_listed(cut: Cut) -> None:
    cut.workspace = cut.server.estate.add_workspace("parents", size=replace(SIZE, types=("Pipeline",)))
    cut.scan()
    cut.server.faults.status(500, "jobs", page=4, times=None)
    cut.scan()
    cut.server.faults.clear()
    cut.workspace.submit_job("late", kind="Pipeline")
    cut.workspace.spawn_children("late", 2)
    report = cut.scan()  # takes up the jobs behind it: neither the job nor its children are seen
    assert {state(report, kind) for kind in (Kind.JOB, Kind.CHILD_JOB)} == {ScopeState.COMPLETE}
    assert cut.complete_as_of(Kind.CHILD_JOB) == cut.complete_as_of(Kind.JOB)


def test_a_job_that_came_and_ended_while_the_list_was_cut_is_seen_by_the_next_hot_pass(cut: Cut) -> None:
    now, overlap = cut.server.estate.now, timedelta(0)
    cut.scan(overlap=overlap)
    cut.server.faults.status(500, "jobs", page=4, times=None)
    cut.scan(overlap=overlap)
    cut.server.faults.clear()
    cut.workspace.submit_job("late")
    cut.workspace.move_job("late", "Completed")
    cut.server.estate.tick((datetime.now(UTC) - now()).total_seconds())
    cut.scan(Mode.HOT, overlap=overlap)
    assert "late" not in cut.keys(Kind.JOB)  # it stands before the place that was taken up
    cut.scan(Mode.HOT, overlap=overlap)
    assert "late" in cut.keys(Kind.JOB)


def test_a_place_that_was_left_is_forgotten_once_the_whole_was_listed(cut: Cut) -> None:
    cut.server.faults.status(500, "jobs", page=4, times=None)
    cut.scan()
    cut.server.faults.clear()
    with cut.engine.begin() as connection:  # another pass that may be taking it up
        connection.execute(
            text(
                "INSERT INTO scan (workspace_id, mode, state, source, epoch, began_at, last_began_at)"
                " SELECT workspace_id, 'hot', 'running', source, epoch, began_at, began_at FROM scan"
            )
        )
    cut.scan()
    assert cut.server.seen.count(family="jobs") == 7
    assert cut.saved() == set()


def test_children_that_are_gone_were_not_looked_at_since_they_were_read(
    cut: Cut, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut.workspace = cut.server.estate.add_workspace("parents", size=replace(SIZE, types=("Pipeline",), children=2))
    cut.scan()
    cut.workspace.jobs.remove(next(cut.workspace.jobs.newest()).name)
    gone = datetime.now(UTC)
    with monkeypatch.context() as patch:
        patch.setattr(ArmLists, "_alive", lambda _: False)
        report = cut.scan()  # the job is missing, and cannot be confirmed: its children are not asked for yet
    assert (state(report, Kind.JOB), state(report, Kind.CHILD_JOB)) == (ScopeState.PARTIAL, ScopeState.COMPLETE)
    cut.scan()
    with cut.engine.connect() as connection:
        rows = connection.execute(text("SELECT type, not_before FROM change WHERE kind = 'child_job'")).all()
    assert [row.type for row in rows] == ["purged", "purged"]
    assert all(row.not_before < gone for row in rows)


def test_a_child_that_was_not_read_when_others_were_has_not_been_looked_at(cut: Cut) -> None:
    workspace = cut.server.estate.add_workspace("steps", size=Size(jobs=30, live=0, children=2, types=("Pipeline",)))
    steps = replace(cut, workspace=workspace)
    steps.scan()
    parent = next(workspace.jobs.newest())
    child = workspace.jobs.child(parent, 0).name
    workspace.edit_job(child, tags={"looked": "at"})
    edited = datetime.now(UTC)
    steps.scan()  # complete, and the children of a job that has ended are not read again
    workspace.edit_job(parent.name, tags={"due": "again"})
    steps.scan()
    with cut.engine.connect() as connection:
        (told,) = [
            row for row in history.changes(connection, limit=100) if (row.kind, row.key) == (Kind.CHILD_JOB, child)
        ]
    assert told.not_before is not None
    assert told.not_before < edited
