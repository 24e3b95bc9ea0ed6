"""The configuration of alerts: a tree that tells nobody is refused, and everything wrong is said in one clear line."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from stocktake.alerting import held
from stocktake.core.errors import ConfigError
from stocktake.core.routing import destinations
from stocktake.settings import Settings, check, load_settings
from stocktake.settings.alerting import AlertSettings

HOOK = '{name: hook, webhook: {url: "http://127.0.0.1:1"}}'
PAGER = "{name: pager, pagerduty: {routing_key_env: PD}}"


def read(words: str) -> AlertSettings:
    """Read the part of the configuration."""
    made = Settings.model_validate({"alerts": yaml.safe_load(words)}).alerts
    assert made is not None
    return made


def goes(settings: AlertSettings, *, quiet: bool = False, **labels: str) -> list[tuple[str, bool]]:
    """Where a finding goes, and whether by digest."""
    given = {
        "workspace": "w",
        "rule": "r",
        "severity": "warning",
        "kind": "run",
        "key": "k",
        "owner": "",
        "finding": "f",
    }
    return [(one.receiver, one.digest) for one in destinations(settings.policy(), given | labels, quiet=quiet)]


def test_three_lines_page_what_is_critical_and_leave_the_rest_to_the_digest() -> None:
    made = read(f"receivers: [{HOOK}, {PAGER}]\nreceiver: hook\npages: pager")
    assert goes(made) == [("hook", True)]
    assert goes(made, severity="critical") == [("pager", False)]
    assert goes(made, severity="critical", quiet=True) == [("hook", True)]
    assert made.policy().digest.at == time(9, 0)


def test_routes_are_asked_first_and_inherit_the_receiver_above() -> None:
    made = read(
        f"receivers: [{HOOK}, {PAGER}]\nreceiver: hook\n"
        "routes:\n"
        "  - match: {workspace: 'prod-*', label.tier: ['1', '2']}\n"
        "    receiver: pager\n"
        "    routes: [{match: {severity: '!critical'}, receiver: hook, digest: true}, {match: {rule: x}}]\n"
        "  - {match: {owner: ''}, receiver: none}\n"
    )
    prod: Any = {"workspace": "prod-1", "label.tier": "2"}
    assert goes(made, **prod) == [("hook", True)]
    assert goes(made, **prod, severity="critical") == [("pager", False)]
    assert goes(made, **prod, severity="critical", rule="x") == [("pager", False)]
    assert goes(made) == []
    assert goes(made, owner="ada") == [("hook", True)]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (f"receivers: [{HOOK}]", "alerts.receiver (line 1) is missing"),
        (f"receivers: [{HOOK}]\nreceiver: hok", "'hok', which is none of its receivers. There are: hook, none"),
        ("receivers: []\nreceiver: none", "receivers"),
        (f"receivers: [{HOOK}, {HOOK}]\nreceiver: hook", "two receivers of one name"),
        (f"receivers: [{PAGER}]\nreceiver: pager", "a digest to 'pager'"),
        (
            f"receivers: [{HOOK}, {PAGER}]\nreceiver: hook\nroutes: [{{receiver: pager, digest: true}}]",
            "a digest to 'pager'",
        ),
        (f"receivers: [{HOOK}]\nreceiver: hook\nroutes: [{{receiver: x}}]", "sends `routes[0].receiver` to 'x'"),
        (f"receivers: [{HOOK}]\nreceiver: hook\nroutes: [{{}}, {{}}]", "never comes to routes[1]"),
        (f"receivers: [{HOOK}]\nreceiver: hook\nroutes: [{{match: {{team: x}}}}]", "matches 'team'"),
        (f"receivers: [{HOOK}]\nreceiver: hook\nroutes: [{{match: {{severity: fatal}}}}]", "matches no severity"),
        (f"receivers: [{HOOK}]\nreceiver: hook\nroutes: [{{group_by: [team]}}]", "matches 'team'"),
        (f"receivers: [{HOOK}]\nreceiver: hook\nroutes: [{{mute: [night]}}]", "the mute time 'night'"),
        (f"receivers: [{HOOK}]\nreceiver: hook\ntime_zone: Mars/Olympus", "is not a time zone"),
        (f'receivers: [{HOOK}]\nreceiver: hook\ndigest: {{at: "25:00"}}', "is not a time of the day"),
        (f"receivers: [{HOOK}]\nreceiver: hook\nrunbook: https://wiki/", "where the rule's id belongs"),
        ("receivers: [{name: a, email: {host: h, sender: x, to: [a@b]}}]\nreceiver: a", "is not a mail address"),
        (f"receivers: [{HOOK}]\nreceiver: hook\nrecievers: []", "Did you mean `receiver"),
        ("receivers: [{name: a}]\nreceiver: a", "needs exactly one of alertmanager"),
        ("receivers: [{name: a, slack: {url_env: A}, teams: {url_env: B}}]\nreceiver: a", "needs exactly one of"),
        ("receivers: [{name: none, slack: {url_env: A}}]\nreceiver: none", "stands for nobody"),
        ("receivers: [{name: a, webhook: {}}]\nreceiver: a", "exactly one of `webhook.url` and `webhook.url_env`"),
        ("receivers: [{name: a, slack: {url: https://hooks/secret}}]\nreceiver: a", "url"),
        ("receivers: [{name: a, pagerduty: {routing_key: 0123}}]\nreceiver: a", "routing_key"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, words: str, says: str) -> None:
    file = tmp_path / "stocktake.yaml"
    file.write_text("alerts:\n" + "".join(f"  {line}\n" for line in words.splitlines()))
    with pytest.raises(ConfigError) as raised:
        load_settings(file, {})
    told = str(raised.value)
    assert says in told, told
    assert "secret" not in told.replace("holds a secret", "")


def test_a_secret_that_is_not_set_is_said_by_the_check() -> None:
    settings = Settings.model_validate(
        {"alerts": yaml.safe_load(f"receivers: [{PAGER}]\nreceiver: none\npages: pager")}
    )
    (problem,) = check(settings, {})
    assert problem.fatal
    assert "alerts.receivers[0].pagerduty.routing_key_env names the environment variable PD" in str(problem)
    assert check(settings, {"PD": "k" * 32}) == []


def test_findings_are_told_by_stocktake_or_by_azure_and_never_by_both() -> None:
    made: dict[str, Any] = {"alerts": yaml.safe_load(f"receivers: [{HOOK}]\nreceiver: hook")}
    made["telemetry"] = {"azure_monitor": {"findings": "alert"}}
    environ = {"APPLICATIONINSIGHTS_CONNECTION_STRING": "InstrumentationKey=x"}
    (problem,) = check(Settings.model_validate(made), environ)
    assert "alerts tells nobody" in str(problem)
    assert not problem.fatal


def test_times_of_the_day_are_read_as_people_and_yaml_write_them() -> None:
    made = read(f"receivers: [{HOOK}]\nreceiver: hook\ndigest: {{at: 08:30}}\nmute_times: [{{name: n, end: 6:15}}]")
    assert made.digest.at == time(8, 30)
    assert made.mute_times[0].mute().end == time(6, 15)
    assert yaml.safe_load("at: 10:30")["at"] == 630  # YAML's base 60
    assert read(f"receivers: [{HOOK}]\nreceiver: hook\ndigest: {{at: 10:30}}").digest.at == time(10, 30)


def test_an_alert_stands_for_three_of_the_longest_intervals() -> None:
    def workspace(schedule: dict[str, Any]) -> dict[str, Any]:
        return {"name": "w", "mlflow": {"uri": "http://x"}, "schedule": schedule}

    assert held(Settings()) == 3 * timedelta(days=1) * 1.1
    weekly = Settings.model_validate({"workspaces": [workspace({"sweep": "7d", "splay": 0})]})
    assert held(weekly) == timedelta(days=21)


def test_the_configuration_in_effect_can_be_written_and_read_again() -> None:
    made = Settings.model_validate(
        {
            "alerts": yaml.safe_load(
                f"receivers: [{HOOK}]\nreceiver: hook\nroutes: [{{match: {{rule: x}}, continue: true}}]"
            )
        }
    )
    again = Settings.model_validate(yaml.safe_load(yaml.safe_dump(made.model_dump(mode="json", by_alias=True))))
    assert again.alerts == made.alerts
    assert again.alerts is not None
    assert again.alerts.policy().digest.after(datetime(2026, 6, 1, 9, tzinfo=UTC), UTC).hour == 9


def test_what_the_guide_shows_can_be_read() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "alerts.md").read_text()
    first, second, *_ = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    made = AlertSettings.model_validate(yaml.safe_load(first)["alerts"] | yaml.safe_load(second))
    assert goes(made, workspace="sandbox-1") == []
    tier: Any = {"label.tier": "1"}
    assert goes(made, severity="critical", **tier) == [("on-call", False)]
    assert goes(made, owner="ada") == [("team", True)]
    assert goes(made, owner="ada", rule="model-alias-moved") == [("team", False)]
    assert goes(made, owner="ada", rule="missing-owner") == [("team", True)]
