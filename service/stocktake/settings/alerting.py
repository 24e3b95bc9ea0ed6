"""The part of the configuration that says who is told of findings, and when. It becomes the pure policy of the core."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import time, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema, model_validator

from stocktake.core import routing
from stocktake.core.rules import Severity
from stocktake.settings.fields import Http, Model, Variable, WorkspaceName
from stocktake.settings.timing import Duration, Retention

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def _clock(value: object) -> time:
    """Read `09:00`. YAML reads 09:00 without quotes as text, and 10:30 as a number of minutes."""
    if isinstance(value, time):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 24 * 60:
        return time(value // 60, value % 60)
    found = re.fullmatch(r"([01]?\d|2[0-4]):([0-5]\d)", value.strip()) if isinstance(value, str) else None
    if found is None or (found[1] == "24" and found[2] != "00"):
        raise ValueError('is not a time of the day. Write it like "09:00"')
    return time(int(found[1]) % 24, int(found[2]))


Clock = Annotated[
    time,
    BeforeValidator(_clock),
    PlainSerializer(lambda value: f"{value:%H:%M}", return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^([01]?\d|2[0-4]):[0-5]\d$", "examples": ["09:00"]}),
]


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ValueError, OSError, LookupError):
        raise ValueError("is not a time zone that this machine knows. Write for example Europe/Vienna or UTC") from None
    return value


def _matchers(value: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
    for label, patterns in value.items():
        if label not in routing.LABELS and not (label.startswith(routing.LABEL) and label != routing.LABEL):
            raise ValueError(
                f"matches {label!r}, which no finding has. Known: {', '.join(routing.LABELS)}, and label.NAME for a"
                " label of the workspace"
            )
        if not patterns:
            raise ValueError(f"gives no value for {label!r}. Leave it out, or write the values that fit")
        if label == "severity" and not any(
            routing.Matcher(label=label, patterns=patterns).fits({label: one}) for one in Severity
        ):
            raise ValueError(f"matches no severity. There are: {', '.join(Severity)}")
    return value


def _listed(value: object) -> object:
    if not isinstance(value, Mapping):
        return value
    return {name: (words,) if isinstance(words, str) else words for name, words in value.items()}


Match = Annotated[
    dict[str, tuple[str, ...]],
    BeforeValidator(_listed),
    AfterValidator(_matchers),
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": {
                "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
            },
        }
    ),
]


def _page(value: str) -> str:
    if "{rule}" not in value:
        raise ValueError("does not say where the rule's id belongs. Write for example https://wiki/{rule}")
    return value


def _mailbox(value: str) -> str:
    if not re.fullmatch(r"[^\s@<>,;\x00-\x1f\x7f]+@[^\s@<>,;\x00-\x1f\x7f]+", value):
        raise ValueError("is not a mail address. Write it alone, like ops@example.org")
    return value


Mailbox = Annotated[str, AfterValidator(_mailbox)]
#: The name of a receiver, or `none`.
ReceiverName = WorkspaceName


class AlertmanagerSettings(Model):
    """Prometheus Alertmanager, v2 API. It groups, routes and silences by itself: it is posted every finding."""

    url: Http = Field(description="Its address, with the path prefix if it has one.", examples=["http://am:9093"])
    token_env: Variable | None = Field(None, description="Name of the environment variable with a bearer token.")
    username: str | None = Field(None, min_length=1, description="Or a user name for basic authentication,")
    password_env: Variable | None = Field(None, description="and the variable that holds the password.")
    ca_file: Path | None = Field(None, description="PEM file of authorities to trust besides the system's.")
    post_again: Duration = Field(
        timedelta(minutes=15),
        description="How often what fires is posted again: Alertmanager forgets it when it is started anew.",
    )
    holds: Duration | None = Field(
        None,
        description="How long after a post an alert ends by itself, should stocktake be down. [default: a little more"
        " than three of the longest intervals between scans]",
    )


class PagerDutySettings(Model):
    """PagerDuty, Events API v2."""

    routing_key_env: Variable = Field(description="Name of the environment variable with the integration key.")
    base_url: Http = Field(
        "https://events.pagerduty.com", description="Where the API is; https://events.eu.pagerduty.com in Europe."
    )


class SlackSettings(Model):
    """Slack, by an incoming webhook."""

    url_env: Variable = Field(description="Name of the environment variable with the address, which is the secret.")


class TeamsSettings(Model):
    """Microsoft Teams, by a workflow that posts a card when a webhook request is received."""

    url_env: Variable = Field(description="Name of the environment variable with the address, which is the secret.")


class EmailSettings(Model):
    """Mail, by SMTP."""

    host: str = Field(min_length=1, description="The mail server.")
    port: int = Field(587, ge=1, le=65_535, description="Its port.")
    security: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="`tls` from the first byte on (port 465), or `none` on a network that is trusted."
    )
    sender: Mailbox = Field(description="The address that mails are from.")
    to: tuple[Mailbox, ...] = Field(min_length=1, description="The addresses that they go to.")
    username: str | None = Field(None, min_length=1, description="The user, where the server wants one,")
    password_env: Variable | None = Field(None, description="and the variable that holds the password.")
    ca_file: Path | None = Field(None, description="PEM file of the authorities to trust instead of the system's.")


class WebhookSettings(Model):
    """Any HTTP address that takes JSON."""

    url: Http | None = Field(None, description="The address; or, where it is a secret,")
    url_env: Variable | None = Field(None, description="the variable that holds it.")
    schema_: Literal["cloudevents", "azure"] = Field(
        "cloudevents",
        alias="schema",
        description="`cloudevents` posts CloudEvents 1.0; `azure` the common alert schema of Azure Monitor.",
    )
    token_env: Variable | None = Field(None, description="Name of the environment variable with a bearer token.")
    ca_file: Path | None = Field(None, description="PEM file of authorities to trust besides the system's.")


class AzureMonitorEventsSettings(Model):
    """Application Insights: a custom event for each finding that opens or is over; Azure's alert rules do the rest."""

    connection_string_env: Variable = Field(
        "APPLICATIONINSIGHTS_CONNECTION_STRING", description="Name of the environment variable that holds it."
    )
    credential: Literal["key", "entra"] = Field(
        "key", description="`entra` signs in with the machine's identity (role Monitoring Metrics Publisher)."
    )


class AppriseSettings(Model):
    """Any service that apprise knows, by an extra: pip install 'stocktake[apprise]'."""

    url_env: Variable = Field(description="Name of the environment variable with apprise's address of the service.")


TYPES = ("alertmanager", "pagerduty", "slack", "teams", "email", "webhook", "azure_monitor", "apprise")


class ReceiverSettings(Model):
    """One place that is told of findings. Exactly one of the keys below its name says what it is."""

    name: ReceiverName = Field(
        min_length=1, max_length=63, description="Our name for it: small letters, digits and hyphens.", examples=["ops"]
    )
    alertmanager: AlertmanagerSettings | None = Field(None, description="Prometheus Alertmanager.")
    pagerduty: PagerDutySettings | None = Field(None, description="PagerDuty.")
    slack: SlackSettings | None = Field(None, description="Slack.")
    teams: TeamsSettings | None = Field(None, description="Microsoft Teams.")
    email: EmailSettings | None = Field(None, description="Mail.")
    webhook: WebhookSettings | None = Field(None, description="Any HTTP address.")
    azure_monitor: AzureMonitorEventsSettings | None = Field(None, description="Application Insights.")
    apprise: AppriseSettings | None = Field(None, description="Any service that apprise knows.")

    @property
    def type(self) -> str:
        """What it is."""
        return next(name for name in TYPES if getattr(self, name) is not None)

    @property
    def traits(self) -> routing.Traits:
        """What it can take."""
        refresh = self.alertmanager.post_again if self.alertmanager is not None else None
        return routing.Traits(
            each=self.type in ("alertmanager", "webhook", "azure_monitor")
            and not (self.webhook is not None and self.webhook.schema_ == "azure"),
            refresh=refresh,
            acknowledges=self.type == "pagerduty",
        )

    @property
    def digests(self) -> bool:
        """Whether a digest makes sense there: an incident is none."""
        return self.type != "pagerduty"

    @model_validator(mode="after")
    def _one(self) -> ReceiverSettings:
        given = [name for name in TYPES if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of {', '.join(TYPES)}")
        if self.name == routing.NONE:
            raise ValueError("is named `none`, which stands for nobody. Choose another name")
        webhook = self.webhook
        if webhook is not None and (webhook.url is None) == (webhook.url_env is None):
            raise ValueError("needs exactly one of `webhook.url` and `webhook.url_env`")
        return self


class PaceSettings(Model):
    """How long an alert waits."""

    wait: Duration = Field(timedelta(seconds=30), description="For company, before something new is told.")
    interval: Duration = Field(timedelta(minutes=5), description="Before more is told of an alert that fires.")
    repeat: Retention = Field(
        timedelta(hours=4), description="Until what nobody took on is told again, or `forever` for never."
    )

    def pace(self, mutes: tuple[str, ...]) -> routing.Pace:
        """As the core knows it."""
        return routing.Pace(wait=self.wait, interval=self.interval, repeat=self.repeat, mutes=mutes)


class RouteSettings(Model):
    """One branch of the tree. The first that fits takes a finding, unless it says `continue`."""

    match: Match = Field(
        {},
        description="Labels and the values that fit: workspace, rule, severity, kind, key, owner, and label.NAME for a"
        " label of the workspace. `*` and `?` are wildcards, `!` before a value means any other, a list means any of"
        " them; all labels must fit. `owner: \"\"` is an owner that nobody knows.",
    )  # fmt: skip
    receiver: ReceiverName | None = Field(
        None, description="Who is told; `none` for nobody, on purpose. [default: that of the branch above]"
    )
    continue_: bool = Field(False, alias="continue", description="Whether the branches after it are asked as well.")
    digest: bool = Field(False, description="Whether it goes into the digest rather than out at once.")
    group_by: tuple[str, ...] = Field(
        ("workspace", "rule"),
        description="Labels that findings of one alert have in common; `finding` makes each an alert of its own.",
    )
    pace: PaceSettings = Field(PaceSettings(), description="How long its alerts wait.")
    mute: tuple[str, ...] = Field((), description="Names of `mute_times` in which nothing new is told.")
    routes: tuple[RouteSettings, ...] = Field((), description="Branches of this one, as this one is written.")


class MuteSettings(Model):
    """A time of the week in which nothing new is told."""

    name: ReceiverName = Field(min_length=1, max_length=63, description="Our name for it; several may share one.")
    days: tuple[Day, ...] = Field(_DAYS, min_length=1, description="Days of the week.")
    start: Clock = Field(time(0, 0), description="From this time of the day on,")
    end: Clock = Field(time(0, 0), description="until this one; on the next day, where it is not later.")

    def mute(self) -> routing.Mute:
        """As the core knows it."""
        return routing.Mute(days=frozenset(_DAYS.index(day) for day in self.days), start=self.start, end=self.end)


class DigestSettings(Model):
    """When the digest goes out: what is new, what is over, and what is still open, in one message."""

    at: Clock = Field(time(9, 0), description="The time of the day.")
    days: tuple[Day, ...] = Field(_DAYS, min_length=1, description="Days of the week.")


class FlappingSettings(Model):
    """What opens and closes all the time is told once more when it stands still."""

    moves: int = Field(4, ge=3, le=16, description="So many openings and closings")
    within: Duration = Field(timedelta(hours=2), description="within this time are too many:")
    settle: Duration = Field(timedelta(hours=1), description="it is told of when none came for so long.")


class InhibitionSettings(Model):
    """While one finding is there, others that are not worse go without saying."""

    source: Match = Field(description="The finding that goes before others, as `match` of a route.")
    target: Match = Field({}, description="Those others. [default: every other rule's of the same workspace]")
    below: bool = Field(
        False, description="Only those of assets that lie in the source's: runs of an experiment, versions of a model."
    )


class AlertSettings(Model):
    """Who is told of findings, and when."""

    receivers: tuple[ReceiverSettings, ...] = Field(min_length=1, description="The places that are told.")
    receiver: ReceiverName = Field(
        description="Who is told what no route takes, by digest; `none` for nobody, on purpose. There is no tree"
        " without a default."
    )
    pages: ReceiverName | None = Field(
        None, description="Who is told at once of what is critical and no route takes. [default: `receiver`]"
    )
    routes: tuple[RouteSettings, ...] = Field((), description="Branches that are asked before those two.")
    digest: DigestSettings = Field(DigestSettings(), description="When the digest goes out.")
    time_zone: Annotated[str, AfterValidator(_zone)] = Field(
        "UTC", description="The time zone of `digest` and `mute_times`.", examples=["Europe/Vienna"]
    )
    pace: PaceSettings = Field(PaceSettings(), description="How long alerts of `pages` wait.")
    mute_times: tuple[MuteSettings, ...] = Field((), description="Times of the week in which nothing new is told.")
    flapping: FlappingSettings = Field(FlappingSettings(), description="What opens and closes all the time.")
    inhibit: tuple[InhibitionSettings, ...] | None = Field(
        None,
        description="Findings that go before others. [default: access-lost over all of its workspace; a deleted"
        " experiment or run over what lies in it]",
    )
    runbook: Annotated[str, AfterValidator(_page)] = Field(
        "docs/runbook/{rule}.md",
        description="Where the page of a rule is, `{rule}` for its id.",
        examples=["https://wiki.example.org/stocktake/{rule}"],
    )
    give_up_after: Duration = Field(
        timedelta(days=3), description="How long a delivery that fails is tried before it is a dead letter."
    )
    keep: Duration = Field(timedelta(days=30), description="How long deliveries that ended are kept.")

    @model_validator(mode="after")
    def _agree(self) -> AlertSettings:
        known = {one.name: one for one in self.receivers}
        if len(known) < len(self.receivers):
            raise ValueError("has two receivers of one name. Give each a name of its own")
        mutes = {one.name for one in self.mute_times}
        for path, route in self._nodes(self.routes, "routes"):
            if unknown := set(route.mute) - mutes:
                raise ValueError(f"names the mute time {min(unknown)!r} in {path}, which `mute_times` does not have")
            for label in route.group_by:
                _matchers({label: ("*",)})
            if route.receiver is not None:
                self._known(known, f"{path}.receiver", route.receiver)
        self._reached(self.routes, "routes")
        for name in ("receiver", "pages"):
            if (given := getattr(self, name)) is not None:
                self._known(known, name, given)
        self._can_digest(known, self.root(), "receiver")
        return self

    @staticmethod
    def _known(known: Mapping[str, ReceiverSettings], path: str, name: str) -> None:
        if name != routing.NONE and name not in known:
            raise ValueError(
                f"sends `{path}` to {name!r}, which is none of its receivers. There are: {', '.join(known)}, none"
            )

    def _nodes(self, routes: tuple[RouteSettings, ...], path: str) -> Iterator[tuple[str, RouteSettings]]:
        for number, route in enumerate(routes):
            yield f"{path}[{number}]", route
            yield from self._nodes(route.routes, f"{path}[{number}].routes")

    def _reached(self, routes: tuple[RouteSettings, ...], path: str) -> None:
        """Refuse what nothing can reach: a branch behind one that takes everything."""
        for number, route in enumerate(routes):
            if not route.match and not route.continue_ and number + 1 < len(routes):
                raise ValueError(
                    f"never comes to {path}[{number + 1}]: {path}[{number}] has no `match` and takes everything. Move"
                    " it to the end, or let it `continue`"
                )
            self._reached(route.routes, f"{path}[{number}].routes")

    def _can_digest(self, known: Mapping[str, ReceiverSettings], route: routing.Route, path: str) -> None:
        if route.digest and route.receiver in known and not known[route.receiver].digests:
            raise ValueError(
                f"sends a digest to {route.receiver!r} ({path}), where it would be an incident. Name another receiver,"
                " or `none`; PagerDuty belongs under `pages`, or into a route without `digest`"
            )
        for number, below in enumerate(route.routes):
            self._can_digest(known, below, f"branch {number} of {path}")

    def root(self) -> routing.Route:
        """The tree: the routes, then what is critical, then everything else."""
        made = tuple(_route(one, self.receiver) for one in self.routes)
        pages = routing.Route(
            receiver=self.pages or self.receiver,
            match=routing.matchers({"severity": Severity.CRITICAL}),
            pace=self.pace.pace(()),
        )
        return routing.Route(receiver=self.receiver, digest=True, pace=self.pace.pace(()), routes=(*made, pages))

    def policy(self) -> routing.Policy:
        """Everything that decides, as the core knows it."""
        mutes: dict[str, list[routing.Mute]] = {}
        for one in self.mute_times:
            mutes.setdefault(one.name, []).append(one.mute())
        flapping = self.flapping
        return routing.Policy(
            root=self.root(),
            receivers={one.name: one.traits for one in self.receivers},
            zone=ZoneInfo(self.time_zone),
            digest=routing.Digest(at=self.digest.at, days=frozenset(_DAYS.index(day) for day in self.digest.days)),
            mutes=mutes,
            flapping=routing.Flapping(moves=flapping.moves, within=flapping.within, settle=flapping.settle),
            inhibitions=routing.INHIBITIONS
            if self.inhibit is None
            else tuple(
                routing.Inhibition(
                    source=routing.matchers(one.source), target=routing.matchers(one.target), below=one.below
                )
                for one in self.inhibit
            ),
        )


def _route(route: RouteSettings, above: str) -> routing.Route:
    receiver = route.receiver or above
    return routing.Route(
        receiver=receiver,
        match=routing.matchers(route.match),
        group_by=route.group_by,
        pace=route.pace.pace(route.mute),
        digest=route.digest,
        goes_on=route.continue_,
        routes=tuple(_route(one, receiver) for one in route.routes),
    )


def variables(settings: AlertSettings) -> Iterator[tuple[str, str]]:
    """Every variable that a receiver names: where, and its name."""
    for number, one in enumerate(settings.receivers):
        given: Any = getattr(one, one.type)
        for name in type(given).model_fields:
            if name.endswith("_env") and getattr(given, name) is not None:
                yield f"alerts.receivers[{number}].{one.type}.{name}", getattr(given, name)
