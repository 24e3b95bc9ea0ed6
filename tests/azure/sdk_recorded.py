"""What Microsoft's client says of single assets and of lists of them; in a process of its own.

Takes one JSON object on its standard input (`gets` and `lists`: turn, kind, key or parent), prints one with the same
names: for each what the client's own writer says, or {"!": the error}; a list up to where it failed. The turn goes as
the token: it says which recording is meant (tests/azure/replay.py).
"""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from datetime import datetime
from enum import Enum
from typing import Any


def main(told: dict[str, Any]) -> dict[str, list[Any]]:
    """Ask for all, one after the other."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    from azure.ai.ml import MLClient
    from azure.core.credentials import AccessToken

    class Credential:
        turn = 0

        def get_token(self, *_: str, **__: Any) -> AccessToken:
            return AccessToken(f"turn-{self.turn}", int(time.time()) + 10)  # so short that it is asked for each time

    credential = Credential()
    client = MLClient(
        credential, told["subscription"], told["group"], told["workspace"], cloud="Replay",
        cloud_metadata=told["cloud"], enable_telemetry=False, show_progress=False, retry_total=0,
    )  # fmt: skip
    below: dict[str, Any] = {
        "model_version": client.models, "data_version": client.data, "environment_version": client.environments,
        "component_version": client.components,
    }  # fmt: skip
    whole: dict[str, Any] = {
        "job": client.jobs, "compute": client.compute, "schedule": client.schedules, "datastore": client.datastores,
        "connection": client.connections, "online_endpoint": client.online_endpoints,
        "batch_endpoint": client.batch_endpoints, "workspace": client.workspaces,
    }  # fmt: skip
    deployments: dict[str, Any] = {
        "online_deployment": client.online_deployments,
        "batch_deployment": client.batch_deployments,
    }

    def one(kind: str, key: str) -> dict[str, Any]:
        parent, _, name = key.rpartition("/")
        try:
            if kind in below:
                found = below[kind].get(parent, name)
            elif kind in deployments:
                found = deployments[kind].get(name, parent)
            else:
                found = whole[kind].get(told["workspace"] if kind == "workspace" else key)
            return dict(found._to_dict())
        except Exception as exc:  # noqa: BLE001 - it raises many makes on a body that it does not know
            return {"!": f"{type(exc).__name__}: {exc}"}

    def several(kind: str, parent: str) -> list[dict[str, Any]]:
        found = list[dict[str, Any]]()
        try:
            if parent:
                listed = below[kind].list(parent) if kind in below else deployments[kind].list(parent)
            else:
                listed = containers[kind].list()
            for item in listed:
                found.append(_container(item) if kind in ("registered_model", "component") else dict(item._to_dict()))
        except Exception as exc:  # noqa: BLE001 - the pages so far stand
            found.append({"!": f"{type(exc).__name__}: {exc}"})
        return found

    containers = whole | {"registered_model": client.models, "component": client.components}
    answers: dict[str, list[Any]] = {"gets": [], "lists": []}
    for how, ask in (("gets", one), ("lists", several)):
        for turn, kind, name in told[how]:
            credential.turn = turn
            answers[how].append(ask(kind, name))
    return answers


def _container(item: Any) -> dict[str, Any]:
    """A container has no writer in the client: the same words by its attributes."""
    context = {name: getattr(item.creation_context, name) for name in ("created_at", "created_by", "created_by_type")}
    return {
        "name": item.name, "id": item.id, "latest_version": item.latest_version, "description": item.description,
        "properties": item.properties, "creation_context": context,
    }  # fmt: skip


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value.isoformat() if isinstance(value, datetime) else str(value)


if __name__ == "__main__":
    print(json.dumps(main(json.load(sys.stdin)), default=_plain))
