"""Who did it, as the activity log of the loopback Azure tells it: named where nobody else can have been, and kept."""

from __future__ import annotations

import random
import string
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from stocktake.core.actors import AZURE
from stocktake.core.assets import Kind, Mode, ScanState
from stocktake.core.errors import Trouble
from stocktake.core.redact import Redactor
from stocktake.core.remembered import Sought
from stocktake.demo.azure.content import Size
from stocktake.demo.azure.estate import Estate
from stocktake.demo.azure.estate import known_as as mail
from stocktake.demo.azure.seeded import PEOPLE
from stocktake.store import redactions
from stocktake.store.acts import unread
from tests.azure.server import served
from tests.integration.azureml_told import KEY, Told

ADA, BO, CHIARA = PEOPLE[:3]
LOG = "eventtypes/values"
UNKNOWN = ("unknown", None)
SCHEDULE, ENDPOINT, MODEL = "schedule-000", "online-000", "model-001"


def by(person: str) -> tuple[str, str]:
    return mail(person), AZURE


@pytest.fixture
def told(engine: Engine) -> Iterator[Told]:
    estate = Estate()
    workspace = estate.add_workspace("w1", size=Size(jobs=5, live=0, children=0, computes=3))
    with served(estate) as server:
        made = Told(engine, server, workspace)
        made.scan(Mode.SWEEP)
        yield made


def acts(told: Told) -> list[tuple[str, str, str]]:
    with told.engine.connect() as connection:
        rows = connection.execute(text("SELECT kind, key, operation, caller FROM inventory.act ORDER BY id"))
        return [(row.kind, row.key, row.caller) for row in rows]


def log(told: Told) -> tuple[bool, str | None]:
    """Whether it was ever read, and the trouble with it."""
    with told.engine.connect() as connection:
        row = connection.execute(text("SELECT read_to, trouble FROM inventory.act_log")).one()
    return row.read_to is not None, row.trouble


def test_whoever_changed_something_through_the_resource_manager_is_named(told: Told) -> None:
    instance = next(key for key in sorted(told.keys(Kind.COMPUTE)) if key.startswith("ci-"))
    workspace = told.now()
    workspace.disable_schedule(SCHEDULE, by=ADA)
    workspace.shift_traffic(ENDPOINT, {"green": 100}, by=BO)
    workspace.archive_model(MODEL, by=CHIARA)
    workspace.resize_cluster("cpu-cluster", 9, by=ADA)
    workspace.switch_instance(instance, on=True, by=BO)
    workspace.submit_job("train-1", by=CHIARA)
    version = workspace.register_model("model-000", by=ADA)
    told.scan(Mode.SWEEP)
    assert told.actors() == {
        ("schedule", SCHEDULE, "updated"): by(ADA),
        ("online_endpoint", ENDPOINT, "updated"): by(BO),
        ("registered_model", MODEL, "deleted"): by(CHIARA),
        ("compute", "cpu-cluster", "updated"): by(ADA),
        ("compute", instance, "updated"): by(BO),
        ("job", "train-1", "created"): by(CHIARA),
        ("model_version", f"model-000/{version}", "created"): by(ADA),
        ("registered_model", "model-000", "updated"): UNKNOWN,  # its latest version moved: nobody wrote to it itself
    }


def test_whoever_stopped_a_compute_is_named_and_not_who_started_it(told: Told) -> None:
    instance = next(key for key in sorted(told.keys(Kind.COMPUTE)) if key.startswith("ci-"))
    told.now().switch_instance(instance, on=True, by=BO)
    told.scan()
    told.now().switch_instance(instance, on=False, by=CHIARA)
    told.scan()
    with told.engine.connect() as connection:
        rows = connection.execute(text("SELECT actor FROM inventory.change WHERE kind = 'compute' ORDER BY id"))
        assert rows.scalars().all() == [mail(BO), mail(CHIARA)]


def test_what_happens_by_itself_has_no_actor_whoever_acted_beside_it(told: Told) -> None:
    told.now().submit_job("train-1", by=ADA)
    told.scan()
    workspace = told.now()
    workspace.edit_job("train-1", display="train-1", by=ADA)  # says what it said before
    workspace.move_job("train-1", "Completed")
    workspace.idle_compute("cpu-cluster", nodes=3)
    told.scan()
    actors = told.actors()
    assert actors["job", "train-1", "updated"] == UNKNOWN
    assert actors["compute", "cpu-cluster", "updated"] == UNKNOWN


def test_a_compute_that_its_schedule_switches_is_switched_by_nobody(told: Told) -> None:
    instance = next(key for key in sorted(told.keys(Kind.COMPUTE)) if key.startswith("ci-"))
    told.now().switch_instance(instance, on=True, by=None)
    told.scan()
    assert told.actors() == {("compute", instance, "updated"): UNKNOWN}


def test_a_job_that_is_cancelled_was_cancelled_by_somebody(told: Told) -> None:
    told.now().submit_job("train-1", by=ADA)
    told.now().move_job("train-1", "Running")
    told.scan()
    told.now().cancel_job("train-1", by=BO)
    told.scan()
    assert told.actors()["job", "train-1", "updated"] == by(BO)


def test_who_deleted_the_workspace_and_who_brought_it_back_is_named(told: Told) -> None:
    told.now().soft_delete(by=BO)
    told.scan(Mode.SWEEP)
    assert told.actors() == {("workspace", "workspace", "deleted"): by(BO)}
    told.now().recover(by=ADA)
    told.scan(Mode.SWEEP)
    assert told.actors()["workspace", "workspace", "restored"] == by(ADA)


def test_of_two_who_wrote_between_two_looks_neither_is_the_actor(told: Told) -> None:
    told.now().shift_traffic(ENDPOINT, {"green": 100}, by=BO)
    told.now().shift_traffic(ENDPOINT, {"green": 50, "blue": 50}, by=ADA)
    told.scan()
    expected = ("unknown", f"{AZURE}: one of {mail(ADA)}, {mail(BO)}")
    assert told.actors() == {("online_endpoint", ENDPOINT, "updated"): expected}


def test_a_line_that_comes_late_names_who_made_a_change_that_was_published_before(told: Told) -> None:
    told.server.estate.log_delay = timedelta(minutes=15)
    told.now().disable_schedule(SCHEDULE, by=ADA)
    told.scan()
    assert told.actors() == {("schedule", SCHEDULE, "updated"): UNKNOWN}
    told.server.estate.tick(15 * 60)
    told.scan()
    assert told.actors() == {("schedule", SCHEDULE, "updated"): by(ADA)}


def test_a_second_line_that_comes_late_takes_the_name_back(told: Told) -> None:
    told.now().disable_schedule(SCHEDULE, by=ADA)
    told.server.estate.log_delay = timedelta(minutes=15)
    told.now().disable_schedule(SCHEDULE, by=BO)
    told.scan()
    assert told.actors() == {("schedule", SCHEDULE, "updated"): by(ADA)}
    told.server.estate.tick(15 * 60)
    told.scan()
    ((actor, source),) = told.actors().values()
    assert (actor, source) == ("unknown", f"{AZURE}: one of {mail(ADA)}, {mail(BO)}")


def test_what_was_refused_or_reads_keys_or_is_about_another_workspace_names_nobody(told: Told) -> None:
    workspace, estate = told.now(), told.server.estate
    estate.add_workspace("w10", size=Size(jobs=0))  # of the same group, and its name begins alike
    ml = "Microsoft.MachineLearningServices/workspaces"
    estate.note(f"{workspace.scope}/schedules/{SCHEDULE}", f"{ml}/schedules/write", ADA, outcome="Failed")
    estate.note(f"{workspace.scope}/onlineEndpoints/{ENDPOINT}", f"{ml}/onlineEndpoints/listKeys/action", ADA)
    estate.note(f"{workspace.scope}0/schedules/{SCHEDULE}", f"{ml}/schedules/write", BO)
    workspace.edit("schedules", SCHEDULE, properties={"isEnabled": False})  # past the resource manager
    told.scan()
    assert told.actors() == {("schedule", SCHEDULE, "updated"): UNKNOWN}
    assert acts(told) == [("schedule", SCHEDULE, mail(ADA))]  # known to have begun, and no more
    with told.engine.connect() as connection:
        assert connection.execute(text("SELECT accepted FROM act")).scalars().all() == [False]


def test_who_wrote_to_a_container_is_not_who_registered_a_version_in_it(told: Told) -> None:
    workspace = told.now()
    workspace.archive_model("model-000", archived=False, by=ADA)  # as it was: no list shows what she wrote
    workspace.register_model("model-000", by=BO)
    workspace.register_model("new", by=BO)
    workspace.archive_model("new", archived=False, by=ADA)
    told.scan()
    actors = told.actors()
    assert actors["registered_model", "model-000", "updated"] == UNKNOWN
    assert actors["registered_model", "new", "created"] == UNKNOWN
    assert actors["model_version", "new/1", "created"] == by(BO)


def test_a_line_that_is_longer_than_azures_are_is_the_logs_own_trouble(told: Told) -> None:
    workspace = told.now()
    for letters in (string.ascii_letters, "\u00e4\u20ac"):
        name, caller = ("".join(random.Random(seed).choices(letters, k=900)) for seed in (1, 2))
        resource = f"{workspace.scope}/models/{name}"
        told.server.estate.note(resource, "Microsoft.MachineLearningServices/workspaces/models/write", caller)
    report = told.scan(Mode.SWEEP)
    assert (report.state, report.trouble) == (ScanState.COMPLETE, None)
    assert log(told) == (True, Trouble.SHAPE)


def test_azure_writes_ids_in_upper_and_lower_case_as_it_likes(told: Told) -> None:
    workspace = told.now()
    resource = f"{workspace.scope}/schedules/{SCHEDULE}".upper()
    told.server.estate.note(resource, "MICROSOFT.MACHINELEARNINGSERVICES/WORKSPACES/SCHEDULES/WRITE", ADA)
    workspace.edit("schedules", SCHEDULE, properties={"isEnabled": False})
    told.scan()
    assert told.actors() == {("schedule", SCHEDULE, "updated"): by(ADA)}


def test_without_the_right_everything_is_as_complete_as_before_but_actors_are_unknown(
    told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    told.server.estate.deny(f"/subscriptions/{told.workspace.subscription}", "Microsoft.Insights/eventtypes/*")
    told.now().disable_schedule(SCHEDULE, by=ADA)
    report = told.scan(Mode.SWEEP)
    told.scan()
    (warning,) = [one for one in caplog.records if getattr(one, "action", "") == "acts_not_read"]
    assert warning.levelname == "WARNING"  # once, not in every pass
    assert (report.state, report.trouble, report.error) == (ScanState.COMPLETE, None, None)
    assert told.actors() == {("schedule", SCHEDULE, "updated"): UNKNOWN}
    assert log(told) == (True, "permission")
    with told.engine.connect() as connection:  # what `stocktake status` says of it
        (why,) = unread(connection).values()
    assert "lacks Microsoft.Insights/eventtypes/values/read" in why
    told.server.estate.allow(f"/subscriptions/{told.workspace.subscription}", "Microsoft.Insights/eventtypes/*")
    told.scan()
    assert told.actors() == {("schedule", SCHEDULE, "updated"): by(ADA)}
    assert log(told) == (True, None)
    with told.engine.connect() as connection:
        assert unread(connection) == {}


def test_where_it_is_switched_off_nothing_is_asked_and_later_it_is_read_from_where_it_was_left(told: Told) -> None:
    told.server.seen.clear()
    told.now().disable_schedule(SCHEDULE, by=ADA)
    told.scan(activity_log=False)
    assert told.server.seen.count(family=LOG) == 0
    assert told.actors() == {("schedule", SCHEDULE, "updated"): UNKNOWN}
    told.scan()
    assert told.server.seen.count(family=LOG) == 1
    assert told.actors() == {("schedule", SCHEDULE, "updated"): by(ADA)}


def test_a_pass_reads_every_page_of_the_log_and_writes_what_is_new_once(told: Told) -> None:
    workspace = told.now()
    for number in range(130):
        workspace.submit_job(f"train-{number:03d}", by=PEOPLE[number % 6])
    told.server.seen.clear()
    told.scan()
    assert told.server.seen.count(family=LOG) == 6  # 260 lines, 50 in a page
    assert {source for _, source in told.actors().values()} == {AZURE}
    rows = "SELECT ctid, xmin, act_id FROM act ORDER BY act_id"
    with told.engine.connect() as connection:
        before = connection.execute(text(rows)).all()
    told.scan()
    with told.engine.connect() as connection:
        assert connection.execute(text(rows)).all() == before
    assert len(before) == 130


def test_of_a_line_neither_claims_nor_addresses_are_kept(told: Told) -> None:
    told.now().disable_schedule(SCHEDULE, by=ADA)
    told.scan()
    with told.engine.connect() as connection:
        (row,) = connection.execute(text("SELECT row_to_json(act)::text FROM act")).scalars()
        tables = connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).scalars()
        whole = [
            line for table in tables for line in connection.execute(text(f"SELECT t::text FROM {table} t")).scalars()
        ]
    assert mail(ADA) in row
    assert not [line for line in whole if "203.0.113.7" in line and "connectivityEndpoints" not in line]


def test_the_statement_of_the_auditors_page_tells_the_acts(told: Told) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "audit.md").read_text("utf-8")
    statement = page.split("<!-- sql of acts: a test runs it -->\n```sql\n")[1].split("```")[0].rstrip().rstrip(";")
    told.now().shift_traffic(ENDPOINT, {"green": 100}, by=BO)
    told.scan()
    with told.engine.connect() as connection:
        (row,) = connection.execute(text(statement)).all()
    assert (row.workspace, row.key, row.caller) == ("w", ENDPOINT, mail(BO))


def test_a_mail_address_that_is_removed_is_gone_from_acts_and_changes_and_does_not_come_back(told: Told) -> None:
    told.now().disable_schedule(SCHEDULE, by=ADA)
    told.now().shift_traffic(ENDPOINT, {"green": 100}, by=BO)
    told.scan()
    value, redactor = mail(ADA), Redactor(KEY)
    sought = Sought(value, redactor.fingerprint(value), redactor.remembered)
    with told.engine.connect() as connection:
        words = redactions.survey(connection, sought).words.values()
    redactions.redact(told.engine, sought, redactor.remembered, words, actor="me", reason="asked to")
    mark = f"[redacted:manual:{redactor.fingerprint(value)}]"
    for _ in range(2):
        assert told.actors() == {
            ("schedule", SCHEDULE, "updated"): (mark, AZURE),
            ("online_endpoint", ENDPOINT, "updated"): by(BO),
        }
        assert sorted(caller for _, _, caller in acts(told)) == [mark, mail(BO)]
        told.scan()  # the line is read again
