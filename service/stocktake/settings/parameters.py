"""What of the configuration rules go by, under the names by which they ask for it (`parameters` of a rule)."""

from __future__ import annotations

from typing import Any

from stocktake.settings.models import Settings, WorkspaceSettings
from stocktake.settings.timing import period


def parameters(settings: Settings, workspace: WorkspaceSettings | None) -> dict[str, Any]:
    """Return the values for the rules of a workspace, or of any that has nothing of its own."""
    own = workspace.schedule if workspace is not None else None
    schedule, production = own or settings.schedule, settings.production
    return {
        **settings.hygiene.parameters(),
        "production_aliases": list(production.aliases),
        "production_stages": list(production.stages),
        "production_tags": list(production.tags),
        "production_traffic": production.traffic,
        "production_batch_default": production.batch_default,
        "sweep_every": period(schedule.sweep) * (1 + schedule.splay),
        "hot_every": period(schedule.hot) * (1 + schedule.splay),
    }
