"""From the settings of alerts to who plans and who sends. It decides nothing about who is told.

A receiver that cannot be made (a variable that is not set) fails as one that does not answer: its deliveries wait, and
the others go out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from sqlalchemy import Engine

from stocktake.core.errors import ConfigError, SendError
from stocktake.core.messages import Message, Wording
from stocktake.core.redact import Redactor
from stocktake.core.rules import Rule
from stocktake.pipeline.alerting import Outcome, Planner, Sender, give_up, prune
from stocktake.receivers import RECEIVERS
from stocktake.receivers.alertmanager import AlertmanagerConfig
from stocktake.receivers.apprise import AppriseConfig
from stocktake.receivers.azure_monitor import AzureMonitorConfig
from stocktake.receivers.email import EmailConfig
from stocktake.receivers.pagerduty import PagerDutyConfig
from stocktake.receivers.protocol import Receiver
from stocktake.receivers.slack import SlackConfig
from stocktake.receivers.teams import TeamsConfig
from stocktake.receivers.webhook import WebhookConfig
from stocktake.settings import Settings, WorkspaceSettings
from stocktake.settings.alerting import AlertSettings, ReceiverSettings
from stocktake.settings.environment import secret, unfit
from stocktake.settings.timing import period


class Alerting:
    """Plans and sends, as the configuration says."""

    def __init__(
        self,
        settings: Settings,
        alerts: AlertSettings,
        environ: Mapping[str, str],
        *,
        engine: Engine,
        redactor: Redactor,
        key: bytes,
        rules: Callable[[], Sequence[Rule]],
        workspaces: Callable[[], Sequence[WorkspaceSettings]],
        told: Callable[[Outcome], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._alerts = alerts
        self._engine = engine
        self._redactor = redactor
        self._key = key
        self._rules = rules
        self._workspaces = workspaces
        self._policy = alerts.policy()
        self._senders = {
            one.name: Sender(
                engine=engine,
                name=one.name,
                receiver=usable(one, settings, environ),
                give_up_after=alerts.give_up_after,
                told=told,
            )
            for one in alerts.receivers
        }

    @property
    def receivers(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self._senders)

    def plan(self, now: datetime | None = None) -> Counter[str]:
        """Plan what happened and what is due."""
        return Planner(
            engine=self._engine,
            policy=self._policy,
            wording=lambda: wording(self._alerts, self._rules()),
            redactor=self._redactor,
            key=self._key,
            labels={one.name: one.labels for one in self._workspaces()},
        ).plan(now)

    def send(self, receiver: str, *, stop: Callable[[], bool], now: datetime | None = None) -> Counter[str]:
        """Send what waits for a receiver."""
        return self._senders[receiver].send_all(stop=stop, now=now)

    def prune(self) -> dict[str, int]:
        """Give up what nobody sends any more, and drop what need not be kept."""
        give_up(self._engine, self.receivers, after=self._alerts.give_up_after)
        return prune(self._engine, keep=self._alerts.keep)

    def close(self) -> None:
        """Cut what is under way."""
        for one in self._senders.values():
            one.receiver.close()


def wording(alerts: AlertSettings, rules: Sequence[Rule]) -> Wording:
    """What the words of messages need."""
    events = any(one.azure_monitor is not None for one in alerts.receivers)
    return Wording(rules={rule.id: rule for rule in rules}, runbook=alerts.runbook, events=events)


def make_receiver(given: ReceiverSettings, settings: Settings, environ: Mapping[str, str]) -> Receiver:
    """Make a receiver. Raises ConfigError when a secret that it names is not in the environment, or cannot be one."""
    return RECEIVERS[given.type](_config(given, settings, environ))


def usable(given: ReceiverSettings, settings: Settings, environ: Mapping[str, str]) -> Receiver:
    """Make a receiver, or one that says at every delivery why it could not be made."""
    try:
        return make_receiver(given, settings, environ)
    except ConfigError as exc:
        return _Unmade(exc)


class _Unmade:
    def __init__(self, why: ConfigError) -> None:
        self._why = why

    def send(self, message: Message) -> int | None:  # noqa: ARG002 - the interface's
        raise SendError(
            self._why.what.rstrip("."), recoverable=True, next_step=self._why.next_step or "Correct the configuration."
        )

    def close(self) -> None:
        pass


def _config(given: ReceiverSettings, settings: Settings, environ: Mapping[str, str]) -> object:
    name = given.name

    def value(variable: str | None, *, token: bool = True) -> str | None:
        if variable is None:
            return None
        if why := unfit(environ, variable, token=token):
            raise ConfigError(
                f"Receiver {name!r} {why}.", next_step=f"Set {variable} to the secret alone where stocktake runs."
            )
        return secret(environ, variable)

    def address(variable: str) -> str:
        found = value(variable) or ""
        parts = urlsplit(found)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(
                f"Receiver {name!r} takes its address from {variable}, which holds none.",
                next_step="Copy the whole address, https://...",
            )
        return found

    if (am := given.alertmanager) is not None:
        return AlertmanagerConfig(
            name=name,
            url=am.url,
            holds=am.holds or held(settings) + am.post_again,
            token=value(am.token_env),
            username=am.username,
            password=value(am.password_env, token=False),
            ca_file=str(am.ca_file) if am.ca_file else None,
        )
    if (pd := given.pagerduty) is not None:
        return PagerDutyConfig(name=name, routing_key=value(pd.routing_key_env) or "", base_url=pd.base_url)
    if given.slack is not None:
        return SlackConfig(name=name, url=address(given.slack.url_env))
    if given.teams is not None:
        return TeamsConfig(name=name, url=address(given.teams.url_env))
    if (mail := given.email) is not None:
        return EmailConfig(
            name=name,
            host=mail.host,
            port=mail.port,
            sender=mail.sender,
            to=mail.to,
            security=mail.security,
            username=mail.username,
            password=value(mail.password_env, token=False),
            ca_file=str(mail.ca_file) if mail.ca_file else None,
        )
    if (hook := given.webhook) is not None:
        return WebhookConfig(
            name=name,
            url=hook.url or address(hook.url_env or ""),
            schema=hook.schema_,
            token=value(hook.token_env),
            ca_file=str(hook.ca_file) if hook.ca_file else None,
        )
    if (azure := given.azure_monitor) is not None:
        credential = None
        if azure.credential == "entra":
            from azure.identity import DefaultAzureCredential

            credential = DefaultAzureCredential()
        return AzureMonitorConfig(
            name=name,
            connection_string=value(azure.connection_string_env, token=False) or "",
            credential=credential,
        )
    assert given.apprise is not None
    return AppriseConfig(name=name, url=value(given.apprise.url_env) or "")


def held(settings: Settings) -> timedelta:
    """Three of the longest intervals between two looks: for so long an alert stands without being told again."""
    own = [*(one.schedule for one in settings.workspaces), *(one.schedule for one in settings.discovery)]
    schedules = [settings.schedule, *(one for one in own if one is not None)]
    return 3 * max((period(one.sweep) * (1 + one.splay) for one in schedules), default=timedelta())
