"""What the loopback Azure lists: every item once, over pages, in any number of threads."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from stocktake.demo.azure.content import Size
from stocktake.demo.azure.estate import Estate
from tests.azure.asking import NOW, asking, history, small
from tests.azure.test_listed import differing


def test_the_pages_of_a_list_hold_every_job_once_and_the_newest_first() -> None:
    estate, workspace = small(jobs=230)
    with asking(estate) as ask:
        names = ask.names(f"{workspace.scope}/jobs", listViewType="All")
    assert names == [workspace.jobs.at(index).name for index in range(229, -1, -1)]


def test_what_is_submitted_between_two_pages_moves_no_other_job() -> None:
    estate, workspace = small(jobs=120)
    with asking(estate) as ask:
        first = ask.get(f"{workspace.scope}/jobs", listViewType="All").json()
        workspace.submit_job("just-now")
        second = ask.http.get(first["nextLink"]).json()
    assert [item["name"] for item in second["value"]] == [workspace.jobs.at(index).name for index in range(69, 19, -1)]


def test_what_is_archived_or_disabled_is_hidden_unless_all_is_asked_for() -> None:
    estate, workspace = small(jobs=40, schedules=4)
    with asking(estate) as ask:
        for kind in ("jobs", "models"):
            every = set(ask.names(f"{workspace.scope}/{kind}", listViewType="All"))
            active = set(ask.names(f"{workspace.scope}/{kind}"))
            archived = set(ask.names(f"{workspace.scope}/{kind}", listViewType="ArchivedOnly"))
            assert active | archived == every
            assert not active & archived
        workspace.archive_model("model-000")
        assert "model-000" not in ask.names(f"{workspace.scope}/models")
        assert len(ask.names(f"{workspace.scope}/schedules")) == 3
        assert len(ask.names(f"{workspace.scope}/schedules", listViewType="All")) == 4


def test_a_token_of_one_list_is_worth_nothing_for_another() -> None:
    estate, workspace = small(jobs=120)
    with asking(estate) as ask:
        link = ask.get(f"{workspace.scope}/jobs").json()["nextLink"]
        answer = ask.http.get(link.replace("/jobs?", "/models?"))
    assert answer.status_code == 400


#: Where a list says otherwise than a GET (test_listed.py has the recorded ones).
_OTHERWISE: Mapping[str, frozenset[str]] = {
    "models": frozenset({"properties.tags"}),
    "data": frozenset({"properties.tags"}),
    "data/versions": frozenset({"properties.dataUri"}),
    "environments": frozenset({"properties.tags"}),
    "components": frozenset({"properties.tags", *(f"systemData.{name}" for name in (
        "createdAt", "createdBy", "createdByType", "lastModifiedBy", "lastModifiedByType"
    ))}),
}  # fmt: skip


@pytest.mark.parametrize("path", [
    "computes", "datastores", "models", "models/versions", "data", "data/versions", "environments",
    "environments/versions", "components", "components/versions", "codes", "codes/versions", "schedules", "connections",
    "onlineEndpoints", "onlineEndpoints/deployments", "batchEndpoints", "batchEndpoints/deployments",
    "privateEndpointConnections", "outboundRules",
])  # fmt: skip
def test_an_item_by_name_is_what_the_list_shows_but_where_azure_says_otherwise(path: str) -> None:
    estate, workspace = small(models=12, data=12, environments=12, components=12)
    kind, _, below = path.partition("/")
    with asking(estate) as ask:
        there = f"{workspace.scope}/{kind}"
        if below:
            there += f"/{ask.names(there, listViewType='All')[0]}/{below}"
        items = ask.get(there, listViewType="All").json()["value"]
        assert items
        found = {name for item in items for name in differing(ask.get(f"{there}/{item['name']}").json(), item)}
    assert found == _OTHERWISE.get(path, frozenset())


def test_the_same_seed_is_the_same_estate_and_another_is_another() -> None:
    bodies = []
    for seed in (1, 1, 2):
        estate = Estate(seed=seed, now=NOW)
        workspace = estate.add_workspace("w1")
        with asking(estate, port=0) as ask:
            answer = ask.get(f"{workspace.scope}/jobs", listViewType="All")
            bodies.append(answer.text.replace(ask.server.data_host, "HOST").replace(ask.server.arm, "ARM"))
    assert bodies[0] == bodies[1] != bodies[2]


def test_a_workspace_of_fifty_thousand_jobs_costs_no_memory() -> None:
    tracemalloc.start()
    try:
        estate = Estate(now=NOW)
        for number in range(5):
            estate.add_workspace(f"huge-{number}", size=Size(jobs=50_000))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1_000_000


def test_runs_have_the_names_of_jobs_and_pages_hold_each_once() -> None:
    estate, workspace = small(jobs=60)
    with asking(estate) as ask:
        base = f"https://{ask.server.data_host}/mlflow/v2.0{workspace.scope}/api/2.0/mlflow"
        listed = ask.http.get(f"{base}/experiments/search", params={"max_results": 2}).json()
        rest = ask.http.get(
            f"{base}/experiments/search", params={"max_results": 2, "page_token": listed["next_page_token"]}
        ).json()
        ids = [one["experiment_id"] for one in listed["experiments"] + rest["experiments"]]
        found, token = list[str](), ""
        while True:
            query: dict[str, Any] = {"experiment_ids": ids, "max_results": 7, "run_view_type": "ALL"}
            body = ask.http.post(f"{base}/runs/search", json=query | ({"page_token": token} if token else {})).json()
            found += [run["info"]["run_id"] for run in body["runs"]]
            token = body.get("next_page_token", "")
            if not token:
                break
        refused = [
            ask.http.post(f"{base}/runs/search", json={"experiment_ids": ids} | bad).status_code
            for bad in ({"filter": "attributes.status = 'RUNNING'"}, {"order_by": ["metrics.accuracy DESC"]})
        ]
        missing = ask.http.get(f"{base}/logged-models/search").status_code
    jobs = [workspace.jobs.at(index) for index in range(60)]
    children = [workspace.jobs.child(job, n).name for job in jobs for n in range(workspace.jobs.children(job))]
    assert len(ids) == 3
    assert sorted(found) == sorted([job.name for job in jobs] + children)
    assert refused == [400, 400]
    assert missing == 404


def test_runs_since_a_moment_are_those_that_began_after_it() -> None:
    estate, workspace = small(jobs=60)
    with asking(estate) as ask:
        base = f"https://{ask.server.data_host}/mlflow/v2.0{workspace.scope}/api/2.0/mlflow"
        ids = [e["experiment_id"] for e in ask.http.get(f"{base}/experiments/search").json()["experiments"]]
        since = int((NOW - timedelta(hours=2)).timestamp() * 1000)
        query = {"experiment_ids": ids, "run_view_type": "ALL", "filter": f"attributes.start_time > {since}"}
        runs = ask.http.post(f"{base}/runs/search", json=query).json()["runs"]
    assert 0 < len(runs) < 60
    assert all(run["info"]["start_time"] > since for run in runs)


def test_threads_may_ask_all_at_once() -> None:
    estate, workspace = small(jobs=200)
    answers: dict[int, list[str]] = {}
    with asking(estate) as ask:

        def every(number: int) -> None:
            answers[number] = ask.names(f"{workspace.scope}/jobs", listViewType="All")

        threads = [threading.Thread(target=every, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(answers) == 8
    assert all(names == answers[0] for names in answers.values())


def test_a_strange_path_of_the_data_plane_is_no_crash() -> None:
    estate, workspace = small()
    with asking(estate) as ask:
        base = f"https://{ask.server.data_host}"
        paths: Mapping[str, int] = {
            "/mlflow/v2.0/nonsense": 404, "/history/v1.0/nonsense": 404, "/discovery": 200,
            history(workspace, "none", "/children"): 404,
            f"/mlflow/v2.0{workspace.scope}x/api/2.0/mlflow/runs/get": 404,
        }  # fmt: skip
        assert {path: ask.http.get(base + path).status_code for path in paths} == paths
