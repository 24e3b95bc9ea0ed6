"""Every receiver of the list: what it posts is what its provider documents, whatever the findings are called."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from stocktake.alerting import make_receiver, usable
from stocktake.core.alerting import Alert, Planned, Told, What
from stocktake.core.errors import ConfigError, SendError
from stocktake.core.messages import Confidence, Details, Message, Wording, decoded, message
from stocktake.core.routing import Pace
from stocktake.core.sample import sample
from stocktake.receivers import RECEIVERS
from stocktake.receivers.protocol import Receiver
from stocktake.rules import RULES
from stocktake.settings import Settings
from stocktake.settings.alerting import TYPES, ReceiverSettings
from tests.integration.ingestion import Ingestion, ingestion
from tests.servers.hooks import Hooks, Says, hooks
from tests.servers.json_schema import problems
from tests.servers.mail import Mails, mail_server

ROOT = Path(__file__).parents[2]
SCHEMAS = yaml.safe_load((ROOT / "tests" / "data" / "receivers.yaml").read_text())
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
KEY = "0123456789abcdef0123456789abcdef"
WORDING = Wording(rules={rule.id: rule for rule in RULES}, runbook="https://wiki/{rule}", events=True)
ODD = "\x1b[31m<!channel> & *b* [l](http://x) \u202e \0 \ud800 " + "long " * 80


def details(number: int, **changes: Any) -> Details:
    """A finding."""
    made = Details(
        finding=number, fingerprint=f"{number:032x}", rule="stale-running", severity="critical", state="open",
        workspace="w", source="mlflow_rest", uri="http://mlflow:5000", kind="run", key=f"run{number}", name=None,
        owner="ada", partition="1", since=NOW, first_seen=NOW, last_seen=NOW, resolved_at=None, waived_until=None,
        actor="unknown", evidence={"value": 30, "threshold": 24, "unit": "h", "cost_per_hour": 3.2, "currency": "EUR"},
        labels={"severity": "critical", "owner": "ada", "label.team": "ml"},
        confidence=[Confidence(kind="run", scopes=3, complete=3, oldest=NOW)],
    )  # fmt: skip
    return replace(made, **changes)


def made(what: What = What.FIRE, count: int = 1, *, each: bool = True, **changes: Any) -> Message:
    """A message."""
    told = Told.RESOLVED if what is What.RESOLVE else Told.FIRING
    planned = Planned(
        what=what, tells=tuple((n, told) for n in range(count)), firing=0 if what is What.RESOLVE else count
    )
    alert = Alert(
        key="stocktake-0a1b", receiver="r", labels=(("workspace", "w"), ("rule", "stale-running")), digest=False,
        pace=Pace(), since=NOW,
    )  # fmt: skip
    found = {n: details(n, **changes) for n in range(count)}
    return message(alert, planned, found, WORDING, each=each, now=NOW)


MESSAGES: dict[str, Message] = {
    "fire": made(),
    "many": made(count=300),
    "some": made(count=300, each=False),
    "odd": made(key=ODD, name=ODD, owner=ODD, evidence={"fields": [{"path": ODD, "before": ODD, "after": None}]}),
    "unknown rule": made(rule="of-an-operator", source="postgres", uri=None, severity="odd", owner=None),
    "resolve": made(What.RESOLVE, state="resolved", resolved_at=NOW),
    "waived": made(What.RESOLVE, state="waived", waived_until=NOW + timedelta(days=3)),
    "acknowledge": made(What.ACKNOWLEDGE),
    "repeat": made(What.REPEAT),
    "digest": replace(made(What.DIGEST, 30), digest=True),
    "nothing left of it": replace(made(count=1), items=(), more=1),
}


@pytest.fixture(scope="module")
def hook() -> Iterator[Hooks]:
    with hooks() as found:
        yield found


@pytest.fixture(scope="module")
def mails() -> Iterator[Mails]:
    with mail_server() as found:
        yield found


@pytest.fixture(scope="module")
def azure() -> Iterator[Ingestion]:
    with ingestion() as found:
        yield found


@pytest.fixture
def receive(hook: Hooks, mails: Mails, azure: Ingestion) -> Callable[[str], Receiver]:
    """Make a receiver of a type, as the configuration asks for it."""
    hook.posted.clear()
    hook.says(Says())
    mails.mails.clear()
    mails.to = mails.end = "250 ok"
    azure.envelopes.clear()
    given: dict[str, Any] = {
        "alertmanager": {"url": hook.url},
        "pagerduty": {"routing_key_env": "PD", "base_url": hook.url},
        "slack": {"url_env": "HOOK"},
        "teams": {"url_env": "HOOK"},
        "email": {"host": "127.0.0.1", "port": mails.port, "security": "none", "sender": "s@x.org", "to": ["a@x.org"]},
        "webhook": {"url": hook.url, "token_env": "TOKEN"},
        "azure": {"url_env": "HOOK", "schema": "azure"},
        "azure_monitor": {"connection_string_env": "AI"},
        "apprise": {"url_env": "APPRISE"},
    }
    environ = {
        "PD": KEY, "HOOK": hook.url + "/secret", "TOKEN": "t0ken", "AI": azure.connection_string,
        "APPRISE": hook.url.replace("http:", "json:") + "/secret",
    }  # fmt: skip

    def make(name: str) -> Receiver:
        kind = "webhook" if name == "azure" else name
        settings = ReceiverSettings.model_validate({"name": "it", kind: given[name]})
        return make_receiver(settings, Settings(), environ)

    return make


def test_every_file_of_the_room_is_in_the_list() -> None:
    files = {path.stem for path in (ROOT / "service" / "stocktake" / "receivers").glob("*.py")}
    assert files - {"__init__", "protocol", "posting"} == set(RECEIVERS) == set(TYPES)


@pytest.mark.parametrize("which", MESSAGES)
@pytest.mark.parametrize("name", ["alertmanager", "pagerduty", "slack", "teams", "webhook", "azure"])
def test_what_is_posted_is_what_the_provider_documents(
    name: str, which: str, receive: Callable[[str], Receiver], hook: Hooks
) -> None:
    sent = decoded(MESSAGES[which].encoded())  # as the outbox gives it back
    receive(name).send(sent)
    if not sent.items and name == "alertmanager":
        assert not hook.posted
        return
    (posted,) = hook.posted
    schema = SCHEMAS["cloudevents" if name == "webhook" else name]
    bare = {word: part for word, part in schema.items() if word != "$defs"}
    assert list(problems(posted.json(), bare, schema)) == []
    assert "\\u001b" not in posted.body.decode() or name in ("webhook", "azure")  # data for programs are as they are
    sizes = {"teams": 28 * 1024, "pagerduty": 512 * 1024}
    assert len(posted.body) <= sizes.get(name, 10**9)


def test_a_person_is_told_what_where_since_when_how_sure_and_what_to_do(
    receive: Callable[[str], Receiver], mails: Mails
) -> None:
    receive("email").send(MESSAGES["fire"])
    ((to, mail),) = mails.mails
    text = mail.get_content()
    for words in (
        "A run seems to run for ever", "w: run run0", "2026-06-01 12:00 UTC", "value 30 h, threshold 24 h",
        "Owner: ada", "3 of 3 scopes of run were completely listed, the oldest 2026-06-01 12:00 UTC", "3.2 EUR an hour",
        "stocktake finding show 0", "GET /api/2.0/mlflow/runs/get", "http://mlflow:5000/#/experiments/1/runs/run0",
        "customEvents | where", "Fix: ", "Go back: ", "https://wiki/stale-running", "stocktake-0a1b",
    ):  # fmt: skip
        assert words in text, words
    assert to == ["a@x.org"]
    assert mail["Subject"].startswith("[CRITICAL] ")


def test_mails_of_one_alert_are_one_thread_and_each_has_an_id_of_its_own(
    receive: Callable[[str], Receiver], mails: Mails
) -> None:
    for which in ("fire", "resolve", "resolve", "odd"):
        receive("email").send(decoded(MESSAGES[which].encoded()))
    threads = {mail["References"] for _, mail in mails.mails}
    assert threads == {"<stocktake-0a1b@x.org>"}
    ids = [mail["Message-ID"] for _, mail in mails.mails]
    assert len(set(ids)) == 2  # sent again, it is the same mail


@pytest.mark.parametrize(
    ("end", "recoverable"), [("451 try later", True), ("550 no such user", True), ("552 too large", False)]
)
def test_a_mail_server_that_refuses_is_told(
    receive: Callable[[str], Receiver], mails: Mails, end: str, recoverable: bool
) -> None:
    mails.end = end
    with pytest.raises(SendError, match=end) as raised:
        receive("email").send(MESSAGES["fire"])
    assert raised.value.recoverable is recoverable


def test_pagerduty_is_triggered_acknowledged_and_resolved_under_one_key(
    receive: Callable[[str], Receiver], hook: Hooks
) -> None:
    for which in ("fire", "repeat", "acknowledge", "resolve"):
        receive("pagerduty").send(MESSAGES[which])
    events = [one.json() for one in hook.posted]
    assert [one["event_action"] for one in events] == ["trigger", "trigger", "acknowledge", "resolve"]
    assert {one["dedup_key"] for one in events} == {"stocktake-0a1b"}
    assert {one.path for one in hook.posted} == {"/v2/enqueue"}


def test_a_cloud_event_that_is_sent_again_has_the_same_id(receive: Callable[[str], Receiver], hook: Hooks) -> None:
    for which in ("fire", "fire", "resolve"):
        receive("webhook").send(MESSAGES[which])
    ids = [one.json()["id"] for one in hook.posted]
    assert ids[0] == ids[1] != ids[2]
    assert hook.posted[0].headers["authorization"] == "Bearer t0ken"
    assert hook.posted[0].headers["content-type"].startswith("application/cloudevents+json")


def test_azure_monitor_gets_an_event_for_each_finding(receive: Callable[[str], Receiver], azure: Ingestion) -> None:
    for which in ("fire", "resolve", "odd"):
        receive("azure_monitor").send(decoded(MESSAGES[which].encoded()))
    found = [one["data"]["baseData"] for one in azure.envelopes]
    assert [one["name"] for one in found] == [
        "stocktake.finding.opened", "stocktake.finding.resolved", "stocktake.finding.opened",
    ]  # fmt: skip
    assert {one["data"]["baseType"] for one in azure.envelopes} == {"EventData"}
    properties = found[0]["properties"]
    assert (properties["fingerprint"], properties["rule"]) == (f"{0:032x}", "stale-running")
    azure.status = 500
    with pytest.raises(SendError) as raised:
        receive("azure_monitor").send(MESSAGES["fire"])
    azure.status = 200
    assert raised.value.recoverable
    assert len(azure.envelopes) == 3  # nothing was kept on the disk to be sent by itself


def test_alertmanager_knows_a_finding_by_what_it_was_first_told_and_until_well_after_the_next_look(
    receive: Callable[[str], Receiver], hook: Hooks
) -> None:
    receive("alertmanager").send(MESSAGES["fire"])
    receive("alertmanager").send(made(owner="bob", severity="warning"))
    receive("alertmanager").send(MESSAGES["resolve"])
    first, second, third = (one.json()[0] for one in hook.posted)
    assert first["labels"] == second["labels"] == third["labels"]
    assert first["labels"]["label_team"] == "ml"
    now = datetime.now(UTC)
    assert datetime.fromisoformat(first["endsAt"]) > now + 3 * timedelta(days=1)  # a sweep comes once a day
    assert datetime.fromisoformat(third["endsAt"]) <= now


@pytest.mark.parametrize("name", ["slack", "teams", "pagerduty", "webhook"])
def test_no_error_tells_the_secret(name: str, receive: Callable[[str], Receiver], hook: Hooks) -> None:
    hook.answer = lambda posted: Says(status=400, body=f"{hook.url}/secret {KEY} t0ken".encode())
    with pytest.raises(SendError) as raised:
        receive(name).send(MESSAGES["fire"])
    told = repr(raised.value) + str(raised.value)
    secret = {"pagerduty": KEY, "webhook": "t0ken"}.get(name, "/secret")
    assert secret not in told
    assert not raised.value.recoverable


@pytest.mark.parametrize("name", sorted(TYPES))
def test_a_sample_is_taken_by_every_receiver(name: str, receive: Callable[[str], Receiver]) -> None:
    for one in sample("it", WORDING, "me@here", NOW):
        receive(name).send(one)


def test_what_apprise_is_given_arrives_where_its_address_leads(receive: Callable[[str], Receiver], hook: Hooks) -> None:
    receive("apprise").send(MESSAGES["fire"])
    receive("apprise").send(MESSAGES["resolve"])
    fire, resolve = (one.json() for one in hook.posted)
    assert (fire["type"], resolve["type"]) == ("failure", "success")
    assert fire["title"].startswith("[CRITICAL] ")
    assert "stocktake finding show 0" in fire["message"]


def test_what_apprise_could_not_deliver_is_tried_again(receive: Callable[[str], Receiver], hook: Hooks) -> None:
    hook.says(Says(status=500))
    with pytest.raises(SendError, match="did not take") as raised:
        receive("apprise").send(MESSAGES["fire"])
    assert raised.value.recoverable
    assert "/secret" not in repr(raised.value) + str(raised.value)


def test_apprise_says_what_to_install_where_it_is_missing(
    receive: Callable[[str], Receiver], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)  # what an import of something that is not there meets
    with pytest.raises(ConfigError) as raised:
        receive("apprise")
    assert "stocktake[apprise]" in str(raised.value.next_step)


def test_a_receiver_whose_secret_is_missing_fails_at_each_delivery_and_not_at_the_start() -> None:
    settings = ReceiverSettings.model_validate({"name": "it", "slack": {"url_env": "NOWHERE"}})
    with pytest.raises(SendError, match="NOWHERE, which is not set") as raised:
        usable(settings, Settings(), {}).send(MESSAGES["fire"])
    assert raised.value.recoverable
    with pytest.raises(ConfigError, match="holds none"):
        make_receiver(settings, Settings(), {"NOWHERE": "no-address"})


def test_a_message_is_kept_and_read_back_as_it_was() -> None:
    for one in MESSAGES.values():
        assert json.loads(one.encoded())
        assert decoded(one.encoded()) == one
