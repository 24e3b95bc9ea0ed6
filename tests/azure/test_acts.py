"""What the loopback Azure counts, and what happens in it as time passes and people act."""

from __future__ import annotations

from datetime import timedelta

import pytest

from stocktake.demo.azure.workspace import Workspace
from tests.azure.asking import NOW, asking, code, history, small


def test_requests_are_counted_by_plane_family_workspace_and_page() -> None:
    estate, workspace = small(jobs=120)
    with asking(estate) as ask:
        ask.names(f"{workspace.scope}/jobs", listViewType="All")
        ask.get(f"{workspace.scope}/models/model-000/versions")
        ask.http.get(f"https://{ask.server.data_host}{history(workspace, 'none')}")
        seen = ask.server.seen
    assert seen.families("w1") == {"arm jobs": 3, "arm models/versions": 1, "history runs": 1}
    assert [what.page for what, _ in seen.requests] == [False, True, True, False, False]
    assert seen.requests[0][0].action == "Microsoft.MachineLearningServices/workspaces/jobs/read"
    assert seen.requests[3][0].action == "Microsoft.MachineLearningServices/workspaces/models/versions/read"
    assert seen.count(status=404) == 1
    assert len(seen) == 5


@pytest.mark.parametrize(("method", "path"), [
    ("PUT", "/jobs/x"), ("DELETE", "/models/model-000"), ("POST", "/datastores/workspaceblobstore/listSecrets"),
    ("POST", "/listKeys"),
])  # fmt: skip
def test_what_is_no_read_fails_the_test_that_sent_it(method: str, path: str) -> None:
    estate, workspace = small()

    def send() -> int:
        with asking(estate) as ask:
            url = f"{ask.server.arm}{workspace.scope}{path}?api-version=2024-04-01"
            return ask.http.request(method, url).status_code

    with pytest.raises(AssertionError, match=f"other than a read was sent: {method} "):
        send()


def test_a_submitted_job_goes_its_way_as_time_passes() -> None:
    estate, workspace = small(jobs=5, live=0)
    workspace.submit_job("train-1", moving=True, fate="Failed")
    states = [workspace.job("train-1").status]
    for _ in range(200):
        estate.tick(5)
        if states[-1] != (now := workspace.job("train-1").status):
            states.append(now)
    assert states == ["NotStarted", "Queued", "Preparing", "Starting", "Running", "Finalizing", "Failed"]
    job = workspace.job("train-1")
    assert job.started is not None
    assert job.ended is not None
    assert NOW < job.started < job.ended <= NOW + timedelta(seconds=1000)


def test_a_long_pause_brings_a_job_to_the_same_end_as_many_short_ones() -> None:
    ends = []
    for steps in (1, 1000):
        estate, workspace = small(jobs=5)
        workspace.submit_job("train-1", moving=True)
        for _ in range(steps):
            estate.tick(1000 / steps)
        ends.append(workspace.job("train-1").ended)
    assert ends[0] == ends[1] is not None


def test_a_pipeline_with_many_children_shows_them_over_three_pages() -> None:
    estate, workspace = small(jobs=5)
    workspace.submit_job("pipeline-1", kind="Pipeline", moving=True)
    first = workspace.jobs.children(workspace.job("pipeline-1"))
    workspace.spawn_children("pipeline-1", 120 - first)
    with asking(estate) as ask:
        base = f"https://{ask.server.data_host}"
        url, sizes, names = base + history(workspace, "pipeline-1", "/children"), [], set()
        while url:
            body = ask.http.get(url).json()
            sizes.append(len(body["value"]))
            names |= {child["runId"] for child in body["value"]}
            url = body.get("nextLink")
        child = ask.http.get(base + history(workspace, min(names))).json()
    assert sizes == [50, 50, 20]
    assert len(names) == 120
    assert child["parentRunId"] == "pipeline-1"


def test_a_reused_step_keeps_its_bytes_in_the_folder_of_another() -> None:
    _, workspace = small(jobs=200)
    steps = [
        workspace.jobs.child(job, 0) for job in workspace.jobs.newest() if job.type == "Pipeline" and job.index % 3 == 0
    ]
    reused = [step for step in steps if step.reused]
    assert reused
    for step in reused:
        assert workspace.place.container(step) == f"dcid.{step.reused}" != f"dcid.{step.name}"
        donor = workspace.jobs.find(str(step.reused))
        assert donor is not None
        assert donor.type == "Step"
        assert donor.created < step.created


def test_a_job_and_its_run_may_disagree_and_a_job_may_have_no_run() -> None:
    estate, workspace = small(jobs=0)
    workspace.submit_job("torn", experiment=0)
    workspace.move_job("torn", "Completed", run_status="RUNNING")
    workspace.submit_job("alone", run=False)
    with asking(estate) as ask:
        base = f"https://{ask.server.data_host}/mlflow/v2.0{workspace.scope}/api/2.0/mlflow"
        torn = ask.http.get(f"{base}/runs/get", params={"run_id": "torn"}).json()["run"]["info"]
        alone = ask.http.get(f"{base}/runs/get", params={"run_id": "alone"})
        assert ask.get(f"{workspace.scope}/jobs/torn").json()["properties"]["status"] == "Completed"
        assert ask.get(f"{workspace.scope}/jobs/alone").status_code == 200
    assert torn["status"] == "RUNNING"
    assert alone.status_code == 404
    assert alone.json()["error_code"] == "RESOURCE_DOES_NOT_EXIST"


def test_acts_show_at_once_and_leave_a_line_in_the_activity_log() -> None:
    estate, workspace = small(computes=1)
    with asking(estate) as ask:
        workspace.shift_traffic("online-000", {"green": 100}, by="Ada Okafor")
        workspace.disable_schedule("schedule-000")
        workspace.idle_compute("cpu-cluster", nodes=3)
        version = workspace.register_model("model-000", job=workspace.jobs.at(3).name)
        workspace.deploy_model("online-000", "green", "model-000", version, by="Ada Okafor")
        scope = workspace.scope
        endpoint = ask.get(f"{scope}/onlineEndpoints/online-000").json()
        deployment = ask.get(f"{scope}/onlineEndpoints/online-000/deployments/green").json()
        made = ask.get(f"{scope}/models/model-000/versions/{version}").json()
        container = ask.get(f"{scope}/models/model-000").json()
        nodes = ask.get(f"{scope}/computes/cpu-cluster").json()["properties"]["properties"]
        log = ask.get(events(workspace), **{"$filter": "eventTimestamp ge '2026-03-01T00:00:00Z'"}).json()["value"]
        assert not ask.get(f"{scope}/schedules/schedule-000").json()["properties"]["isEnabled"]
    assert endpoint["properties"]["traffic"] == {"blue": 0, "green": 100}
    assert deployment["properties"]["model"] == made["id"]
    assert made["properties"]["jobName"] == workspace.jobs.at(3).name
    assert container["properties"]["latestVersion"] == version
    assert (nodes["nodeStateCounts"]["idleNodeCount"], nodes["nodeStateCounts"]["runningNodeCount"]) == (3, 0)
    assert {(line["caller"], line["operationName"]["value"].partition("/workspaces/")[2]) for line in log} == {
        ("ada.okafor@team.example", f"{one}/write")
        for one in ("onlineEndpoints", "onlineEndpoints/deployments", "schedules", "models/versions")
    }  # the cluster sits idle by itself
    assert [line["status"]["value"] for line in log] == ["Succeeded", "Started"] * 4  # the newest first
    assert len({line["operationId"] for line in log}) == 4
    assert len({line["eventDataId"] for line in log}) == 8


def events(workspace: Workspace) -> str:
    return f"/subscriptions/{workspace.subscription}/providers/Microsoft.Insights/eventtypes/management/values"


def test_the_activity_log_takes_the_filters_that_azure_documents_and_no_others() -> None:
    estate, workspace = small()
    other = estate.add_workspace("w2", group="elsewhere")
    estate.tick(60)
    began = estate.now()
    workspace.disable_schedule("schedule-000")
    estate.tick(60)
    other.disable_schedule("schedule-000")
    ge, le = f"eventTimestamp ge '{began.isoformat()}'", f" and eventTimestamp le '{began.isoformat()}'"
    with asking(estate) as ask:

        def found(text: str) -> list[str]:
            answer = ask.get(events(workspace), **{"$filter": text})
            if answer.status_code == 400:
                return [code(answer)]
            return [line["resourceId"].partition("/workspaces/")[2] for line in answer.json()["value"]]

        both = ["w2/schedules/schedule-000"] * 2 + ["w1/schedules/schedule-000"] * 2
        assert found(ge) == both
        assert found(ge + le) == both[2:]
        assert found(f"{ge} and resourceGroupName eq 'ELSEWHERE'") == both[:2]
        assert found(f"{ge} and resourceUri eq '{workspace.scope}/schedules/schedule-000'") == both[2:]
        for text in ("", "resourceGroupName eq 'ml'", f"{ge} and caller eq 'x'", f"{ge} or caller eq 'x'"):
            assert found(text) == ["BadRequest"]


def test_lines_of_the_activity_log_may_come_late() -> None:
    estate, workspace = small()
    estate.log_delay = timedelta(minutes=10)
    workspace.disable_schedule("schedule-000")
    with asking(estate) as ask:
        since = {"$filter": "eventTimestamp ge '2026-03-01T00:00:00Z'"}
        assert ask.get(events(workspace), **since).json()["value"] == []
        estate.tick(600)
        (_, began) = ask.get(events(workspace), **since).json()["value"]
    assert began["submissionTimestamp"] > began["eventTimestamp"]


def test_a_deleted_workspace_rests_for_fourteen_days() -> None:
    estate, workspace = small()
    provider = f"/subscriptions/{workspace.subscription}/providers/Microsoft.MachineLearningServices"
    with asking(estate) as ask:
        ask.server.credential.lifetime = timedelta(days=90)
        ask.http.headers["authorization"] = f"Bearer {ask.server.token()}"
        workspace.soft_delete()
        gone = ask.get(f"{workspace.scope}/jobs")
        resting = ask.get(f"{provider}/deletedWorkspaces").json()["value"]
        estate.tick(timedelta(days=15).total_seconds())
        nothing = ask.get(f"{provider}/deletedWorkspaces").json()["value"]
    assert (gone.status_code, code(gone)) == (404, "ResourceNotFound")
    assert [one["name"] for one in resting] == ["w1"]
    assert nothing == []
