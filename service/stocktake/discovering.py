"""From the entries of `discovery:` to workspaces that are watched: looking, recording, and settings for what was found.

Settings never change: what is watched beside them is read from the database, each time it is asked for.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, Engine

from stocktake.core.discovery import SCANNED, Confirmation, Event, Look, doubted
from stocktake.core.errors import ConfigError
from stocktake.core.redact import Redactor
from stocktake.making import RESOURCE_GRAPH, Shared, address, credential_of
from stocktake.settings import AzureMlSettings, DiscoverySettings, Settings, WorkspaceSettings
from stocktake.sources.arm import ArmConfig
from stocktake.sources.azure_discovery import AzureDiscovery, DiscoveryConfig
from stocktake.sources.http import HttpConfig
from stocktake.store import discovered
from stocktake.store.discovered import Found, Happened

log = logging.getLogger(__name__)

_PATIENCE = 150.0  # seconds for one question with all its retries: a throttled subscription waits for the next look


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """One look of one entry: what it saw, what was asked about again, and what came of it."""

    entry: str
    look: Look
    confirmed: Mapping[str, Confirmation]
    happened: Sequence[Happened]
    found: Sequence[Found]  # what this entry ever found, as it stands after the look


def watched(connection: Connection, settings: Settings) -> tuple[WorkspaceSettings, ...]:
    """The workspaces that were found and are watched, as if they were named in the configuration."""
    entries = {entry.name: entry for entry in settings.discovery}
    if not entries:
        return ()
    keys, names = _configured_keys(settings), {one.name for one in settings.workspaces}
    once_more = discovered.to_look_at_once_more(connection)
    return tuple(
        as_settings(one, entries[one.entry])
        for one in discovered.found(connection)
        if (one.standing in SCANNED or one.name in once_more)
        and one.entry in entries
        and one.place.key not in keys
        and one.name not in names
    )


def widened(settings: Settings, connection: Connection) -> Settings:
    """The configuration with what was found beside what is named: for questions that take the name of a workspace."""
    return settings.model_copy(update={"workspaces": (*settings.workspaces, *watched(connection, settings))})


def refuse_taken(settings: Settings, connection: Connection) -> None:
    """Raise ConfigError when the configuration gives another workspace a name that discovery gave."""
    named = {one.name: one for one in settings.workspaces}
    for one in discovered.found(connection):
        other = named.get(one.name)
        if other is not None and address(other).casefold() != one.place.key:
            raise ConfigError(
                f"Workspace {one.name!r} is one that discovery found: {one.place.key}.",
                next_step="Give the workspace in the configuration another name: histories must not be mixed.",
            )


def as_settings(one: Found, entry: DiscoverySettings) -> WorkspaceSettings:
    """What a found workspace gets: its own address, and everything else as the entry says it."""
    given = {name: getattr(entry.azureml, name) for name in entry.azureml.model_fields_set}
    place = one.place
    return WorkspaceSettings(
        name=one.name,
        azureml=AzureMlSettings(
            subscription=place.subscription, resource_group=place.resource_group, workspace=place.workspace, **given
        ),
        schedule=entry.schedule,
        owner=entry.owner,
        labels=dict(entry.labels),
    )


def make_discovery(
    entry: DiscoverySettings,
    settings: Settings,
    environ: Mapping[str, str],
    now: Callable[[], datetime],
    shared: Shared,
    *,
    sleep: Callable[[float], object] | None = None,
    monotonic: Callable[[], float] | None = None,
) -> AzureDiscovery:
    """Make what looks. Raises ConfigError when a secret it names is not in the environment."""
    azureml = entry.azureml
    credential = credential_of(f"discovery {entry.name!r}", azureml, environ)
    cloud = credential.cloud
    http = HttpConfig(
        base_url=cloud.resource_manager,
        token=shared.identities.token(credential),
        ca_file=str(azureml.ca_file) if azureml.ca_file else None,
        posts=frozenset({RESOURCE_GRAPH}),
        read_timeout=azureml.timeout.total_seconds(),
        total_timeout=_PATIENCE,
        slots=shared.slots(cloud.resource_manager, settings.concurrency.requests_to_azure),
    )
    config = DiscoveryConfig(
        arm=ArmConfig(http=http, member=f"discovery {entry.name}"),
        bucket=lambda subscription: shared.bucket(cloud, subscription, credential.principal),
        subscriptions=entry.subscriptions,
        resource_groups=entry.groups,
        management_group=entry.management_group,
    )
    return AzureDiscovery(config, now, sleep=sleep, monotonic=monotonic)


def look(
    engine: Engine,
    settings: Settings,
    entry: DiscoverySettings,
    redactor: Redactor,
    source: AzureDiscovery,
    *,
    keep: bool = True,
) -> Looked:
    """Look once, ask about what is missing, and record it, or (not `keep`) only say what that would come to."""
    with engine.connect() as connection:
        began = discovered.clock(connection)
        known = [one.known for one in discovered.found(connection) if one.entry == entry.name]
    seen = replace(source.look(), began_at=began)
    confirmed = source.confirm(one.place for one in doubted(known, seen))
    with engine.connect() as connection, connection.begin() as transaction:
        happened = discovered.record(
            connection,
            seen,
            entry=entry.name,
            entries={one.name for one in settings.discovery},
            wanted=entry.wanted,
            naming=entry.naming,
            reserved=_reserved(settings),
            confirmed=confirmed,
            tags=_without_secrets(redactor),
        )
        found = [one for one in discovered.found(connection) if one.entry == entry.name]
        if not keep:
            transaction.rollback()
    return Looked(entry=entry.name, look=seen, confirmed=confirmed, happened=happened, found=found)


def _without_secrets(redactor: Redactor) -> Callable[[Mapping[str, str]], Mapping[str, str]]:
    def clean(tags: Mapping[str, str]) -> Mapping[str, str]:
        found: Mapping[str, str] = redactor.redact({"tags": dict(tags)}, None)[0]["tags"]
        return found

    return clean


def _reserved(settings: Settings) -> dict[str, str | None]:
    return {one.name: address(one).casefold() if one.azureml is not None else None for one in settings.workspaces}


def _configured_keys(settings: Settings) -> set[str | None]:
    return set(_reserved(settings).values())


def figures(connection: Connection, settings: Settings) -> tuple[dict[str, int], int]:
    """How many found workspaces stand how, and how many scopes could not be looked at the last time."""
    entries = {entry.name for entry in settings.discovery}
    standings = Counter(str(one.standing) for one in discovered.found(connection) if one.entry in entries)
    return dict(standings), sum(not one.looked for one in discovered.scopes(connection) if one.entry in entries)


def tell(looked: Looked) -> None:
    """Log what came of a look: a line for what happened to each workspace, and one for all of it."""
    for one in looked.happened:
        if one.baseline:
            continue
        log.log(
            logging.INFO if one.event in (Event.APPEARED, Event.RETURNED) else logging.WARNING,
            "workspace discovered" if one.event is Event.APPEARED else "discovered workspace changed",
            extra={
                "action": f"discovery_{one.event.replace('-', '_')}",
                "workspace": one.name,
                "entry": looked.entry,
                "why": one.why,
            },
        )
    unlooked = [scope for scope in looked.look.scopes if not scope.looked]
    log.log(
        logging.WARNING if unlooked else logging.INFO,
        "looked for workspaces",
        extra={
            "action": "discovery_looked",
            "entry": looked.entry,
            "seen": len(looked.look.places),
            "scopes": len(looked.look.scopes),
            "not_looked_at": len(unlooked),
            "requests": looked.look.requests,
            **({"error": unlooked[0].why, "next_step": unlooked[0].next_step} if unlooked else {}),
        },
    )
