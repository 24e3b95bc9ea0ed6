"""From findings to receivers: planned with what they are made of, sent at least once, in order, whatever breaks."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from stocktake.core.assets import Kind, Mode
from stocktake.core.errors import Trouble
from stocktake.core.redact import Redactor
from stocktake.sources.protocol import Known, Listing, failing
from stocktake.store import alerts as store
from stocktake.store import outbox
from tests.integration.alerting import DAY, HOUR, MINUTE, Desk, desk, move, plant
from tests.integration.registry import Registry, WithRegistry, look, stands
from tests.integration.scripted import KEY, broken
from tests.servers.hooks import Hooks, Says, hooks

WORDS = """
receivers:
  - {{name: hook, webhook: {{url: "{0}/hook"}}}}
  - {{name: team, slack: {{url_env: SLACK}}}}
receiver: team
pages: hook
"""


@pytest.fixture
def hook() -> Iterator[Hooks]:
    with hooks() as made:
        yield made


@pytest.fixture
def installed(engine: Engine, hook: Hooks) -> Desk:
    return desk(engine, WORDS.format(hook.url), {"SLACK": hook.url + "/slack"})


def told(hook: Hooks, path: str = "/hook") -> list[tuple[str, list[str]]]:
    """What was posted: what for, and what of each finding."""
    events = [one.json() for one in hook.posted if one.path == path]
    return [(one["data"]["what"], [item["status"] for item in one["data"]["items"]]) for one in events]


# ---- from a scan to a receiver ---------------------------------------------------------------------------------------


def test_a_scan_pages_what_is_critical_and_the_rest_goes_into_the_digest(
    engine: Engine, installed: Desk, hook: Hooks
) -> None:
    world = Registry()
    world.add_run("run0")
    world.experiments["1"]["owner"] = "ada"
    look(engine, world)
    world.runs["run0"]["params"]["lr"] = "0.1"
    look(engine, world)  # run-edited-after-finish: a warning
    installed.after()
    assert installed.after(HOUR)[0] == Counter()
    assert installed.over(DAY, HOUR) == Counter(sent=1)
    (one,) = hook.posted
    assert one.path == "/slack"
    assert one.json()["text"].startswith("[DIGEST] stocktake: 1 new, 0 over, 1 open")
    words = json.dumps(one.json())
    assert "A finished run was edited" in words
    assert "params.lr: (absent) -&gt; 0.1" in words
    assert "scopes of run were completely listed" in words
    assert "docs/runbook/run-edited-after-finish.md" in words


def test_a_page_and_its_end_have_one_key(engine: Engine, installed: Desk, hook: Hooks) -> None:
    one = plant(engine)
    installed.after(MINUTE)
    installed.after(MINUTE)
    move(engine, one, "resolved")
    installed.after(MINUTE)
    installed.after(HOUR)
    assert told(hook) == [("fire", ["firing"]), ("resolve", ["resolved"])]
    assert len({posted.json()["subject"] for posted in hook.posted}) == 1
    assert len({posted.json()["id"] for posted in hook.posted}) == 2
    assert installed.deliveries("what", "state", "tries", "status") == [
        ("fire", "sent", 1, 200), ("resolve", "sent", 1, 200),
    ]  # fmt: skip


def test_what_was_so_before_we_looked_never_pages(engine: Engine, installed: Desk, hook: Hooks) -> None:
    plant(engine, 3, inherited=True)
    installed.over(DAY, HOUR)
    assert [one.path for one in hook.posted] == ["/slack"]


def test_a_kind_that_cannot_be_looked_at_goes_before_nothing_of_what_can(
    engine: Engine, installed: Desk, hook: Hooks
) -> None:
    class Forbidden(WithRegistry):
        def listings(self, mode: Mode, known: Known) -> Iterator[Listing]:
            for listing in super().listings(mode, known):
                denied = listing.scope.kind == Kind.LOGGED_MODEL
                yield replace(listing, pages=failing(broken(Trouble.PERMISSION))) if denied else listing

    world = Registry()
    world.add_run("run0")
    world.registered["m"] = {"name": "m", "owner": "ada", "aliases": {"champion": "1"}}
    look(engine, world)
    for _ in range(2):
        look(engine, world, source=Forbidden)
    assert stands(engine, "access-lost") == {"w": "open"}
    world.registered["m"]["aliases"] = {"champion": "2"}
    look(engine, world, source=Forbidden)
    installed.after()
    installed.after(MINUTE)
    installed.over(HOUR, MINUTE)
    rules = {item["rule"] for one in hook.posted if one.path == "/hook" for item in one.json()["data"]["items"]}
    assert rules == {"access-lost", "production-model-changed"}


def test_production_that_moves_twice_is_two_pages_each_with_its_own_facts(
    engine: Engine, installed: Desk, hook: Hooks
) -> None:
    world = Registry()
    world.registered["m"] = {"name": "m", "owner": "ada", "aliases": {"champion": "1"}}
    look(engine, world)
    for version in ("2", "3"):
        world.registered["m"]["aliases"] = {"champion": version}
        look(engine, world)
        installed.over(10 * MINUTE, MINUTE)
    look(engine, world)
    installed.over(HOUR, MINUTE)
    pages = [one.json()["data"] for one in hook.posted if one.path == "/hook"]
    assert [(one["what"], [item["status"] for item in one["items"]]) for one in pages] == [("fire", ["firing"])] * 2
    first, second = (json.dumps(one["items"]) for one in pages)
    assert ("1 -> 2" in first, "1 -> 3" in first) == (True, False)
    assert "1 -> 3" in second, "what it was before it began to move, and what it is now"


def test_a_number_that_is_no_change_and_a_change_that_becomes_known_are_no_news(
    engine: Engine, installed: Desk, hook: Hooks
) -> None:
    (one,) = plant(engine, evidence='{"change": 0.13}')
    installed.over(10 * MINUTE, MINUTE)
    for evidence in ('{"change": 0.14}', '{"change": 40}'):
        with engine.begin() as connection:
            connection.execute(
                text(
                    "INSERT INTO finding_event (finding_id, at, before, after, evidence)"
                    " VALUES (:one, now(), 'open', 'open', :evidence)"
                ),
                {"one": one, "evidence": evidence},
            )
        installed.over(HOUR, MINUTE)
    assert told(hook) == [("fire", ["firing"])]


def test_ten_thousand_findings_are_one_message_for_people(engine: Engine, hook: Hooks) -> None:
    made = desk(engine, "receivers: [{name: team, slack: {url_env: SLACK}}]\nreceiver: team", {"SLACK": hook.url})
    plant(engine, 10_000)
    made.after()
    assert made.after(MINUTE) == (Counter(fire=1), Counter(sent=1))
    (one,) = hook.posted
    assert "(10,000 findings)" in one.json()["text"]
    assert len(one.json()["blocks"]) <= 50
    with engine.connect() as connection:
        left = connection.execute(text("SELECT count(*) FROM finding_event WHERE NOT planned")).scalar_one()
        assert left == 0
    move(engine, range(1, 10_001), "resolved")
    made.after()
    assert made.after(HOUR) == (Counter(resolve=1), Counter(sent=1))


def test_an_acknowledged_alert_is_not_repeated(engine: Engine, installed: Desk, hook: Hooks) -> None:
    one = plant(engine)
    installed.over(11 * HOUR, HOUR)
    assert [what for what, _ in told(hook)] == ["fire", "repeat", "repeat"]
    move(engine, one, "acknowledged")
    installed.over(DAY, HOUR)
    assert [what for what, _ in told(hook)] == ["fire", "repeat", "repeat"]


def test_events_that_were_committed_out_of_order_are_planned_all_the_same(
    engine: Engine, installed: Desk, hook: Hooks
) -> None:
    with engine.connect() as slow:
        with slow.begin():
            slow.execute(text("SELECT nextval(pg_get_serial_sequence('finding_event', 'event_id'))"))
            number = slow.execute(text("SELECT currval(pg_get_serial_sequence('finding_event', 'event_id'))")).scalar()
        (late,) = plant(engine, workspace="late")
        installed.after(MINUTE)
        with slow.begin():  # its number is below those that were planned
            slow.execute(
                text(
                    "INSERT INTO finding_event (event_id, finding_id, at, before, after, evidence)"
                    " OVERRIDING SYSTEM VALUE VALUES (:number, :finding, now(), 'open', 'resolved', '{}')"
                ),
                {"number": number, "finding": late},
            )
            slow.execute(text("UPDATE finding SET state = 'resolved' WHERE finding_id = :finding"), {"finding": late})
    installed.over(HOUR, MINUTE)
    assert told(hook) == [("fire", ["firing"]), ("resolve", ["resolved"])]


def test_what_nothing_moves_writes_nothing(engine: Engine, installed: Desk) -> None:
    plant(engine, 5)
    installed.after(MINUTE)
    installed.after(MINUTE)
    with engine.connect() as connection:
        before = connection.execute(text("SELECT xmin::text, ctid::text FROM alert")).all()
        installed.after(MINUTE)
        assert connection.execute(text("SELECT xmin::text, ctid::text FROM alert")).all() == before


def test_a_rule_that_reaches_another_route_is_told_there_and_ends_where_it_was_told(
    engine: Engine, hook: Hooks
) -> None:
    words = (
        f'receivers: [{{name: a, webhook: {{url: "{hook.url}/a"}}}}, {{name: b, webhook: {{url: "{hook.url}/b"}}}}]\n'
    )
    one = plant(engine)
    before = desk(engine, words + "receiver: none\npages: a")
    before.after()
    before.after(MINUTE)
    after = desk(engine, words + "receiver: none\npages: b")
    after.now = before.now
    move(engine, one, "resolved")
    after.over(HOUR, MINUTE)
    assert [one.path for one in hook.posted] == ["/a", "/a"]
    assert told(hook, "/a") == [("fire", ["firing"]), ("resolve", ["resolved"])]


def test_a_receiver_that_left_the_configuration_leaves_dead_letters(
    engine: Engine, hook: Hooks, installed: Desk
) -> None:
    one = plant(engine)
    installed.after()
    installed.after(MINUTE)
    other = desk(engine, "receivers: [{name: team, slack: {url_env: SLACK}}]\nreceiver: none", {"SLACK": hook.url})
    other.now = installed.now
    move(engine, one, "resolved")
    other.over(HOUR, 5 * MINUTE)
    assert other.deliveries("what", "state") == [("fire", "sent"), ("resolve", "dead")]
    (error,) = [error for error in other.deliveries("error") if error]
    assert "no receiver 'hook' any more" in error


def test_what_waits_for_a_receiver_that_left_is_given_up_in_the_end_and_not_at_once(
    engine: Engine, hook: Hooks, installed: Desk
) -> None:
    hook.says(Says(status=503))
    plant(engine)
    installed.after()
    installed.after(MINUTE)
    other = desk(engine, "receivers: [{name: team, slack: {url_env: SLACK}}]\nreceiver: none", {"SLACK": hook.url})
    for back, state in ((timedelta(), "failed"), (2 * DAY, "failed"), (2 * DAY, "dead")):
        with engine.begin() as connection:
            connection.execute(text("UPDATE delivery SET created_at = created_at - :back"), {"back": back})
        installed.alerting.prune()  # whoever has it in the configuration gives nothing up
        assert installed.deliveries("state") == ["failed"]
        other.alerting.prune()
        assert other.deliveries("state") == [state]
    assert other.deliveries("error") == ["The configuration has no receiver 'hook' any more."]


# ---- what breaks -----------------------------------------------------------------------------------------------------


def test_a_receiver_that_is_down_for_an_hour_gets_everything_in_order(
    engine: Engine, installed: Desk, hook: Hooks
) -> None:
    hook.says(Says(status=503, body=b"down"))
    one = plant(engine)
    for state in ("resolved", "open"):
        assert installed.over(30 * MINUTE, MINUTE)["sent"] == 0
        move(engine, one, state)
    installed.over(10 * MINUTE, MINUTE)
    tried = len(hook.posted)
    assert 5 < tried < 40  # not at every turn
    hook.says(Says())
    hook.posted.clear()
    installed.over(30 * MINUTE, MINUTE)
    assert told(hook) == [("fire", ["firing"]), ("resolve", ["resolved"]), ("fire", ["firing"])]
    assert len({posted.json()["subject"] for posted in hook.posted}) == 1


def test_one_receiver_that_is_down_holds_up_no_other(engine: Engine, hook: Hooks) -> None:
    words = (
        f'receivers: [{{name: a, webhook: {{url: "{hook.url}/a"}}}}, {{name: b, webhook: {{url: "{hook.url}/b"}}}}]\n'
    )
    made = desk(engine, words + "receiver: none\nroutes: [{receiver: a, continue: true}, {receiver: b}]")
    hook.answer = lambda posted: Says(status=500 if posted.path == "/a" else 200)
    plant(engine)
    made.over(5 * MINUTE, MINUTE)
    assert made.deliveries("receiver", "state") == [("a", "failed"), ("b", "sent")]


def test_retry_after_is_honoured(engine: Engine, installed: Desk, hook: Hooks) -> None:
    hook.says(Says(status=429, headers={"Retry-After": "1800"}))
    plant(engine)
    installed.after()
    installed.after(MINUTE)
    hook.says(Says())
    assert installed.over(25 * MINUTE, MINUTE) == Counter()
    assert installed.over(10 * MINUTE, MINUTE) == Counter(sent=1)


@pytest.mark.parametrize(
    ("says", "state", "words"),
    [
        (Says(status=400, body=b'{"message": "no such \x1b field"}'), "dead", "status 400: "),
        (Says(status=401), "failed", "Check the secret"),
        (Says(status=404, body=b"no_service"), "failed", "Check its address"),
        (Says(body=b"<!doctype html><h1>Sign in</h1>", headers={"Content-Type": "text/html"}), "failed", "a web page"),
        (Says(status=400, body=b"<html>bad gateway"), "failed", "a web page"),
        (Says(status=302, headers={"Location": "https://elsewhere/"}), "failed", "points elsewhere"),
        (Says(drop=True), "failed", "broke the connection off"),
    ],
)
def test_what_a_receiver_answers_is_said_in_words(
    engine: Engine, installed: Desk, hook: Hooks, says: Says, state: str, words: str
) -> None:
    hook.says(says)
    plant(engine)
    installed.after()
    installed.after(MINUTE)
    ((found, error),) = installed.deliveries("state", "error")
    assert (found, words in error) == (state, True), error
    assert "\x1b" not in error
    assert hook.url not in error


@pytest.mark.parametrize("trickle", [True, False])
def test_a_receiver_that_never_ends_its_answer_is_cut_off(engine: Engine, hook: Hooks, trickle: bool) -> None:
    from stocktake.core.errors import SendError
    from stocktake.receivers.posting import Poster

    released = threading.Event()
    hook.says(Says(trickle=True) if trickle else Says(hang=released))
    with pytest.raises(SendError, match="did not answer in time") as raised:
        Poster(whose="it", silence=0.5, total=0.8).post(hook.url, b"{}")
    released.set()
    assert raised.value.recoverable


def test_what_cannot_be_delivered_for_days_is_a_dead_letter_and_can_be_revived(
    engine: Engine, installed: Desk, hook: Hooks
) -> None:
    hook.says(Says(status=500))
    plant(engine)
    installed.over(4 * DAY, 2 * HOUR)
    assert installed.deliveries("what", "state") == [("fire", "dead")] or installed.deliveries("state")[0] == "dead"
    hook.says(Says())
    with engine.begin() as connection:
        assert outbox.revive(connection, None, installed.now) >= 1
    installed.over(HOUR, MINUTE)
    assert installed.deliveries("state")[0] == "sent"


def test_a_dead_letter_that_is_revived_is_followed_by_what_came_after_it(
    engine: Engine, installed: Desk, hook: Hooks
) -> None:
    hook.says(Says(status=400))
    one = plant(engine)
    installed.after()
    installed.after(MINUTE)
    assert installed.deliveries("what", "state") == [("fire", "dead")]
    hook.says(Says())
    move(engine, one, "resolved")
    installed.over(HOUR, MINUTE)
    assert installed.deliveries("what", "state") == [("fire", "dead"), ("resolve", "sent")]
    with engine.begin() as connection:
        assert outbox.revive(connection, None, installed.now) == 1
    hook.posted.clear()
    installed.over(HOUR, MINUTE)
    assert told(hook) == [("fire", ["firing"]), ("resolve", ["resolved"])]


def test_a_poisoned_delivery_holds_up_its_own_alert_alone(engine: Engine, hook: Hooks) -> None:
    made = desk(
        engine,
        f'receivers: [{{name: hook, webhook: {{url: "{hook.url}"}}}}]\nreceiver: none\n'
        "routes: [{receiver: hook, group_by: [finding]}]",
    )
    numbers = plant(engine, 10)
    poison = f'"finding": {numbers[0]},'.encode()
    hook.answer = lambda posted: Says(status=500 if poison in posted.body else 200)
    made.over(HOUR, MINUTE)
    assert Counter(made.deliveries("state")) == Counter(sent=9, failed=1)


def test_a_worker_that_is_killed_between_the_answer_and_the_commit_sends_it_again_with_the_same_key(
    engine: Engine, installed: Desk, hook: Hooks
) -> None:
    plant(engine)
    installed.after()
    installed.alerting.plan(installed.now + MINUTE)
    with engine.connect() as dying:
        dying.begin()
        taken = outbox.take(dying, "hook", installed.now + MINUTE)
        assert taken is not None
        other = engine.connect()
        assert outbox.take(other, "hook", installed.now + MINUTE) is None  # it is taken
        other.close()
        dying.invalidate()  # the connection goes, as with the process
    installed.after(2 * MINUTE)
    assert [posted.json()["subject"] for posted in hook.posted] == [taken.key]


def test_two_planners_do_not_plan_the_same(engine: Engine, installed: Desk) -> None:
    plant(engine)
    with engine.connect() as other, other.begin():
        assert store.claim(other)
        assert installed.alerting.plan(installed.now) == Counter()
        assert installed.deliveries("state") == []


def test_what_people_had_removed_is_in_no_message(engine: Engine, installed: Desk, hook: Hooks) -> None:
    from stocktake.core.remembered import Sought
    from stocktake.store import redactions

    secret = "Maria-Mustermann-42"
    plant(engine, evidence=json.dumps({"who": secret}))
    redactor = Redactor(KEY)
    sought = Sought(secret, redactor.fingerprint(secret), redactor.remembered)
    with engine.connect() as connection:
        found = redactions.survey(connection, sought)
        connection.rollback()
    redactions.redact(engine, sought, redactor.remembered, found.words.values(), actor="a", reason="r")
    with engine.begin() as connection:  # judging that began before writes it once more
        connection.execute(text("UPDATE finding SET evidence = :evidence"), {"evidence": json.dumps({"who": secret})})
    installed.after()
    installed.after(MINUTE)
    assert hook.posted
    assert all(secret.encode() not in posted.body for posted in hook.posted)


def test_old_deliveries_are_dropped_and_waiting_ones_are_not(engine: Engine, installed: Desk, hook: Hooks) -> None:
    plant(engine, 2)
    plant(engine, 1, workspace="v")
    hook.answer = lambda posted: Says(status=500 if b'"v"' in posted.body else 200)
    installed.after()
    installed.after(MINUTE)
    with engine.begin() as connection:
        connection.execute(text("UPDATE delivery SET ended_at = ended_at - interval '60 days'"))
    assert installed.alerting.prune()["delivery"] == 1
    assert installed.deliveries("state") == ["failed"]


def test_a_silence_and_a_mass_of_small_steps_lose_nothing(engine: Engine, installed: Desk, hook: Hooks) -> None:
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO silence (matchers, starts_at, ends_at, actor, reason)"
                " VALUES ('{\"workspace\": [\"w\"]}', :now, :end, 'me', 'r')"
            ),
            {"now": installed.now, "end": installed.now + 2 * HOUR},
        )
    plant(engine)
    installed.over(110 * MINUTE, 10 * MINUTE)
    assert hook.posted == []
    installed.over(timedelta(minutes=20), MINUTE)
    assert told(hook) == [("fire", ["firing"])]


def test_a_delivery_that_cannot_be_read_is_given_up_and_the_others_go_out(
    engine: Engine, installed: Desk, hook: Hooks
) -> None:
    plant(engine)
    plant(engine, workspace="v")
    installed.after()
    installed.alerting.plan(installed.now + MINUTE)
    with engine.begin() as connection:
        connection.execute(text('UPDATE delivery SET message = \'{"of": "a later version"}\' WHERE delivery_id = 1'))
    installed.after(2 * MINUTE)
    assert installed.deliveries("state") == ["dead", "sent"]
    assert len(hook.posted) == 1
