"""Checks of the entries of `discovery:`: one look each, as the worker does it; nothing of it is recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime

from stocktake.core.discovery import selected
from stocktake.core.errors import ConfigError, SourceError
from stocktake.discovering import make_discovery
from stocktake.doctor.checks import Check, fail, ok, warn
from stocktake.making import Shared
from stocktake.settings import DiscoverySettings, Settings


def entry(settings: Settings, one: DiscoverySettings, environ: Mapping[str, str]) -> Iterator[Check]:
    """Look once: what is found, and which scope could not be looked at, for want of which right."""
    check = f"discovery {one.name}"
    try:
        source = make_discovery(one, settings, environ, lambda: datetime.now(UTC), Shared())
    except (ConfigError, SourceError) as exc:
        yield fail(check, exc.what, exc.next_step or "Put the configuration right.")
        return
    with closing(source):
        look = source.look()
    hidden = [scope for scope in look.scopes if not scope.looked]
    for scope in hidden:
        cost = "workspaces there are not found, and those that were are not taken for gone"
        yield warn(check, f"{scope.path} could not be looked at: {scope.why}: {cost}", scope.next_step)
    found = [place for place in look.places.values() if selected(place.tags, one.wanted)]
    if not hidden or found:
        shown = len(look.scopes) - len(hidden)
        yield ok(check, f"{len(found)} workspaces in {shown} subscriptions and groups that can be looked at")
