"""What Microsoft's client says of everything in one workspace, field by field; in a process of its own.

Takes one JSON object as its argument, prints one: kind -> key -> field -> value.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from enum import Enum
from typing import Any


def main(told: dict[str, Any]) -> dict[str, Any]:
    """Describe all by MLClient's public attributes."""
    from azure.ai.ml import MLClient
    from azure.ai.ml.constants import ListViewType
    from azure.core.credentials import AccessToken

    class Credential:
        def get_token(self, *_: str, **__: Any) -> AccessToken:
            return AccessToken(told["token"], int(time.time()) + 3600)

    client = MLClient(
        Credential(), told["subscription"], told["group"], told["workspace"], cloud="Loopback",
        cloud_metadata=told["cloud"], enable_telemetry=False, show_progress=False,
    )  # fmt: skip
    everything = {"list_view_type": ListViewType.ALL}
    seen: dict[str, dict[str, Any]] = {"job": {}, "compute": {}, "online_endpoint": {}, "batch_endpoint": {}}
    for job in client.jobs.list(**everything):
        default = (getattr(job, "outputs", None) or {}).get("default")
        seen["job"][job.name] = {
            "display_name": job.display_name, "status": job.status, "experiment": job.experiment_name,
            "tags": job.tags, "properties": job.properties, "description": job.description,
            "services": sorted(job.services or {}), "created_at": _at(job),
            "created_by": job.creation_context.created_by, "output": getattr(default, "path", None),
        }  # fmt: skip
    for one in client.compute.list():
        seen["compute"][one.name] = {
            "type": one.type, "location": one.location, "size": getattr(one, "size", None),
            "min": getattr(one, "min_instances", None), "max": getattr(one, "max_instances", None),
            "provisioning": one.provisioning_state,
        }  # fmt: skip
    for kind, operations in (("online_endpoint", client.online_endpoints), ("batch_endpoint", client.batch_endpoints)):
        for endpoint in operations.list():
            seen[kind][endpoint.name] = {
                "location": endpoint.location, "auth": endpoint.auth_mode, "tags": endpoint.tags,
                "scoring": endpoint.scoring_uri, "description": endpoint.description,
                "provisioning": endpoint.provisioning_state, "traffic": getattr(endpoint, "traffic", None),
            }  # fmt: skip
    for kind, versions, place in (
        ("model_version", client.models, "path"), ("data_version", client.data, "path"),
        ("environment_version", client.environments, "image"),
    ):  # fmt: skip
        seen[kind] = {}
        for container in versions.list(**everything):
            for version in versions.list(name=container.name, **everything):
                seen[kind][f"{version.name}/{version.version}"] = {
                    "tags": version.tags, "properties": version.properties,
                    "description": version.description, "place": getattr(version, place, None),
                    "created_at": _at(version), "created_by": version.creation_context.created_by,
                    "type": getattr(version, "type", None), "job": getattr(version, "job_name", None),
                }  # fmt: skip
    return seen


def _at(entity: Any) -> str:
    return str(entity.creation_context.created_at.astimezone(UTC).isoformat(timespec="milliseconds"))


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value.isoformat() if isinstance(value, datetime) else str(value)


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1])), default=_plain))
