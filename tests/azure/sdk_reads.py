"""What the real SDK sees over the loopback Azure; run in a process of its own, for it keeps the cloud in os.environ.

Takes one JSON object as its argument, prints one.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def main(told: dict[str, Any]) -> dict[str, Any]:
    """List everything that MLClient lists."""
    from azure.ai.ml import MLClient
    from azure.ai.ml.constants import ListViewType
    from azure.core.credentials import AccessToken

    class Credential:
        def get_token(self, *_: str, **__: Any) -> AccessToken:
            return AccessToken(told["token"], int(time.time()) + 3600)

    client = MLClient(
        Credential(), told["subscription"], told["group"], told["workspace"],
        cloud="Loopback", cloud_metadata=told["cloud"],
    )  # fmt: skip
    jobs = list(client.jobs.list(list_view_type=ListViewType.ALL))
    seen: dict[str, Any] = {
        "workspace": client.workspaces.get().mlflow_tracking_uri,
        "jobs": [[job.name, job.status] for job in jobs],
        "active jobs": [job.name for job in client.jobs.list()],
        "children": [job.name for job in client.jobs.list(parent_job_name=told["parent"])],
        "one job": client.jobs.get(told["parent"]).status,
    }
    for kind in ("compute", "datastores", "connections", "online_endpoints", "batch_endpoints"):
        seen[kind] = [item.name for item in getattr(client, kind).list()]
    for kind in ("models", "data", "environments", "components"):
        seen[kind] = [item.name for item in getattr(client, kind).list(list_view_type=ListViewType.ALL)]
    seen["schedules"] = [[one.name, one.is_enabled] for one in client.schedules.list(list_view_type="All")]
    seen["model versions"] = [[one.name, one.version, one.job_name] for one in client.models.list(name="model-000")]
    seen["deployments"] = [[one.name, one.model] for one in client.online_deployments.list("online-000")]
    return seen


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
