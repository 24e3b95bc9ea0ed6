"""What a workspace's data plane answers: MLflow, run history, discovery. Its limits are those of the real one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from stocktake.demo.azure.estate import Estate
from stocktake.demo.azure.job_views import Place, history_body, mlflow_run
from stocktake.demo.azure.jobs import Job
from stocktake.demo.azure.seeded import Body, millis
from stocktake.demo.azure.wire import Request, Response, data_plane_error, position, token
from stocktake.demo.azure.workspace import Workspace

CHILDREN_PAGE = 50  # of a parent with 120 children, 50 came back
_SCOPE = r"/subscriptions/(?P<s>[^/]+)/resourceGroups/(?P<g>[^/]+)/providers/Microsoft\.MachineLearningServices"
_PATH = re.compile(
    rf"/(?P<plane>mlflow/v[12]\.0|history/v1\.0){_SCOPE}/workspaces/(?P<w>[^/]+)/(?P<rest>.+)", re.IGNORECASE
)
#: attributes.NAME OP value, joined by AND: no OR, no LIKE, and nothing about the status.
_TERM = re.compile(r"(?:attributes?|run)\.(\w+)\s*(>=|<=|=|>|<|IN|in)\s*('[^']*'|\([^)]*\)|[\d.]+)")
RUNS_READ = "Microsoft.MachineLearningServices/workspaces/experiments/runs/read"
EXPERIMENTS_READ = "Microsoft.MachineLearningServices/workspaces/experiments/read"


class DataPlane:
    """The data planes of all workspaces, told apart by path."""

    def __init__(self, estate: Estate) -> None:
        self.estate = estate

    def serves(self, path: str) -> bool:
        """Whether a path is one of the data plane's."""
        return path.lower().startswith(("/mlflow/", "/history/", "/discovery", "/registrymanagement/"))

    def answer(self, request: Request) -> Response:
        """Answer a request, or raise Refused."""
        if request.path.lower().startswith(("/discovery", "/registrymanagement")):
            return Response(body=self._discovery(request.path))
        found = _PATH.fullmatch(request.path)
        if found is None:
            raise data_plane_error(404, "The requested path was not found.", "NotFound", component="gateway")
        workspace = self.estate.find(found["s"], found["g"], found["w"])
        if workspace is None or workspace.state != "there":
            raise data_plane_error(
                404,
                f"Workspace {found['w']} could not be found.",
                "NotFound",
                "WorkspaceNotFound",
                component="account-rp",
            )
        rest = found["rest"].rstrip("/")
        if found["plane"].lower().startswith("mlflow"):
            return self._mlflow(request, workspace, rest.removeprefix("api/2.0/mlflow/"))
        return self._history(request, workspace, rest)

    def _discovery(self, path: str) -> Body:
        base = f"https://{self.estate.data_host}"
        if path.lower().startswith("/registrymanagement"):
            return {"registryName": path.split("/")[-2], "primaryRegion": self.estate.location,
                    "primaryRegionResourceProviderUri": f"{base}/"}  # fmt: skip
        return {"api": base, "catalog": base, "experimentation": base, "gallery": base, "history": base,
                "hyperdrive": base, "labeling": base, "modelmanagement": base, "pipelines": base,
                "studio": "https://ml.azure.com"}  # fmt: skip

    # ---- run history ------------------------------------------------------------------------------------------------

    def _history(self, request: Request, workspace: Workspace, rest: str) -> Response:
        place = workspace.place
        if rest == "rundata" and request.method == "POST":
            job = self._run(workspace, str(request.json().get("runId")))
            return Response(body={"runMetadata": history_body(place, job), "runDefinition": None,
                                  "jobSpecification": None})  # fmt: skip
        parts = rest.split("/")
        if parts[0] != "runs" or request.method != "GET" or len(parts) > 3 or len(parts) < 2:
            raise data_plane_error(404, "The requested path was not found.", "NotFound", component="run-history")
        job = self._run(workspace, parts[1])
        if len(parts) == 2 or parts[2] == "details":
            return Response(body=history_body(place, job))
        if parts[2] != "children":
            raise data_plane_error(404, "The requested path was not found.", "NotFound", component="run-history")
        what = f"children of {job.name}"
        start = position(request.query.get("$continuationtoken") or request.query.get("continuationtoken"), what) or 0
        size = min(int(request.query.get("$top") or CHILDREN_PAGE), CHILDREN_PAGE)
        count = workspace.jobs.children(job)
        numbers = range(start, min(start + size, count))
        rows = [history_body(place, workspace.jobs.child(job, number)) for number in numbers]
        body: Body = {"value": rows}
        if start + size < count:
            following = token(start + size, what)
            link = f"https://{self.estate.data_host}{request.path}?continuationToken={following}"
            body |= {"continuationToken": following, "nextLink": link}
        return Response(body=body)

    def _run(self, workspace: Workspace, name: str) -> Job:
        job = workspace.jobs.find(name)
        if job is None or not job.run:
            raise data_plane_error(
                404, f"Run {name} was not found.", "NotFoundError", "RunNotFound", component="run-history"
            )
        return job

    # ---- MLflow -----------------------------------------------------------------------------------------------------

    def _mlflow(self, request: Request, workspace: Workspace, verb: str) -> Response:
        query = dict(request.query) | (request.json() if request.method == "POST" else {})
        place, jobs = workspace.place, workspace.jobs
        match verb:
            case "experiments/search":
                return Response(body=_experiments(place, workspace, query))
            case "experiments/get":
                numbers = _experiment_numbers(place, workspace, [str(query.get("experiment_id"))])
                if not numbers:
                    raise _mlflow_error(404, "RESOURCE_DOES_NOT_EXIST", "No such experiment")
                return Response(body={"experiment": _experiment(place, workspace, numbers[0])})
            case "runs/search" if request.method == "POST":
                return Response(body=_runs(place, workspace, query))
            case "runs/get":
                job = jobs.find(str(query.get("run_id") or query.get("run_uuid")))
                if job is None or not job.run:
                    raise _mlflow_error(404, "RESOURCE_DOES_NOT_EXIST", f"Run {query.get('run_id')} was not found")
                return Response(body={"run": mlflow_run(place, job)})
            case "metrics/get-history":
                if int(query.get("max_results") or 1) >= 1000:
                    raise _mlflow_error(400, "BAD_REQUEST", "MaxResults must be less than 1000")
                job = jobs.find(str(query.get("run_id")))
                metrics = mlflow_run(place, job)["data"]["metrics"] if job else []
                return Response(body={"metrics": [one for one in metrics if one["key"] == query.get("metric_key")]})
            case "registered-models/search" | "model-versions/search":
                return Response(body={})
        raise _mlflow_error(404, "ENDPOINT_NOT_FOUND", f"{verb} is not offered")


def _mlflow_error(status: int, code: str, message: str) -> Exception:
    refused = data_plane_error(status, message, code, component="mlflow")
    refused.response.body.update(error_code=code, message=message)
    return refused


def _experiment(place: Place, workspace: Workspace, number: int) -> Body:
    began = millis(workspace.began) or 0
    return {
        "experiment_id": place.experiment_id(number), "name": place.experiment_name(number),
        "lifecycle_stage": "active", "artifact_location": "", "creation_time": began - 86_400_000 * (100 - number % 50),
        "last_update_time": began, "tags": [],
    }  # fmt: skip


def _experiment_numbers(place: Place, workspace: Workspace, ids: list[str]) -> list[int]:
    known = {place.experiment_id(number): number for number in range(workspace.jobs.experiments)}
    return [known[one] for one in ids if one in known]


def _experiments(place: Place, workspace: Workspace, query: Mapping[str, Any]) -> Body:
    size = int(query.get("max_results") or 1000)
    start = position(query.get("page_token"), "experiments") or 0
    numbers = range(start, min(start + size, workspace.jobs.experiments))
    body: Body = {"experiments": [_experiment(place, workspace, number) for number in numbers]}
    if start + size < workspace.jobs.experiments:
        body["next_page_token"] = token(start + size, "experiments")
    return body


def _runs(place: Place, workspace: Workspace, query: Mapping[str, Any]) -> Body:
    ids = [str(one) for one in query.get("experiment_ids") or ()]
    wanted = set(_experiment_numbers(place, workspace, ids))
    if not wanted:
        return {}
    size = int(query.get("max_results") or 1000)
    if size > 50_000:
        raise _mlflow_error(400, "INVALID_PARAMETER_VALUE", "max_results must be at most 50000")
    passes = _filter(str(query.get("filter") or ""))
    view = query.get("run_view_type") or "ACTIVE_ONLY"
    for order in query.get("order_by") or ():
        if str(order).startswith("metrics."):
            raise _mlflow_error(400, "BAD_REQUEST", "Order by metrics is not supported")
    start = position(query.get("page_token"), "runs")
    rows: list[Body] = []
    for place_of, job in _family(workspace, wanted, start):
        if not job.run or (view != "ALL" and job.archived != (view == "DELETED_ONLY")) or not passes(job):
            continue
        if len(rows) == size:
            return {"runs": rows, "next_page_token": token(place_of, "runs")}
        rows.append(mlflow_run(place, job))
    return {"runs": rows}


def _family(workspace: Workspace, experiments: set[int], start: int | None) -> Iterator[tuple[int, Job]]:
    """Jobs and their children, newest job first, each with a number that a token may hold."""
    jobs = workspace.jobs
    below = None if start is None else (start >> 16) + 1
    for job in jobs.newest(below):
        if job.experiment not in experiments:
            continue
        for number in range(jobs.children(job) + 1):
            place_of = (job.index << 16) | (0xFFFF - number)
            if start is None or place_of <= start:
                yield place_of, job if number == 0 else jobs.child(job, number - 1)


def _filter(text: str) -> Callable[[Job], bool]:
    terms = _TERM.findall(text)
    rest = re.sub(r"(?i)\band\b", "", _TERM.sub("", text)).strip()
    if rest or any(name == "status" for name, _, _ in terms):
        raise _mlflow_error(400, "BAD_REQUEST", f"The filter is not supported: {json.dumps(text)}")

    def passes(job: Job) -> bool:
        return all(_holds(job, name, how, value) for name, how, value in terms)

    return passes


def _holds(job: Job, name: str, how: str, value: str) -> bool:
    if name in ("run_id", "run_uuid"):
        return job.name in re.findall(r"'([^']*)'", value)
    if name not in ("start_time", "end_time"):
        raise _mlflow_error(400, "BAD_REQUEST", f"The filter is not supported: attributes.{name}")
    ours = millis(job.started or job.created) if name == "start_time" else millis(job.ended)
    theirs = float(value.strip("'"))
    if ours is None:
        return False
    return {">": ours > theirs, ">=": ours >= theirs, "<": ours < theirs, "<=": ours <= theirs, "=": ours == theirs}[
        how
    ]
