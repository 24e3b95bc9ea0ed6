"""How the loopback Azure says no: errors in Azure's words, throttling, and faults where a test wants them."""

from __future__ import annotations

import ssl

import httpx
import pytest

from stocktake.demo.azure.content import TINY
from stocktake.demo.azure.workspace import Workspace
from tests.azure.asking import asking, code, small
from tests.azure.throttle import Throttle


def test_a_request_without_an_api_version_is_refused() -> None:
    estate, workspace = small()
    with asking(estate) as ask:
        answer = ask.http.get(f"{ask.server.arm}{workspace.scope}/jobs")
        nonsense = ask.get(f"{workspace.scope}/jobs", **{"api-version": "1999-01-01"})
    assert (answer.status_code, code(answer)) == (400, "MissingApiVersionParameter")
    assert (nonsense.status_code, code(nonsense)) == (400, "NoRegisteredProviderFound")


def test_what_is_not_there_is_told_in_the_words_of_whoever_keeps_it() -> None:
    estate, workspace = small()
    group, scope = workspace.group_id, workspace.scope
    unknown = "/subscriptions/00000000-0000-4000-8000-000000000000"
    with asking(estate) as ask:
        said = {path: ask.get(path) for path in (
            unknown, "/subscriptions/nonsense", group + "x", scope + "x", f"{scope}/jobs/none", f"{scope}/models/none",
            f"{scope}/onlineEndpoints/none", f"{scope}/computes/none", f"{scope}/unheardOf",
        )}  # fmt: skip
    assert {path.removeprefix(scope): one.status_code for path, one in said.items()} == {
        unknown: 404, "/subscriptions/nonsense": 400, group + "x": 404, "x": 404, "/jobs/none": 404,
        "/models/none": 404, "/onlineEndpoints/none": 404, "/computes/none": 404, "/unheardOf": 404,
    }  # fmt: skip
    assert [code(said[path]) for path in (unknown, "/subscriptions/nonsense", group + "x", scope + "x")] == [
        "SubscriptionNotFound", "InvalidSubscriptionId", "ResourceGroupNotFound", "ResourceNotFound",
    ]  # fmt: skip
    assert [code(said[scope + path]) for path in ("/jobs/none", "/models/none", "/onlineEndpoints/none")] == [
        "UserError", "UserError", "NotFound",
    ]  # fmt: skip
    assert said[f"{scope}/computes/none"].text == ""  # recorded so
    assert code(said[f"{scope}/unheardOf"]) == "InvalidResourceType"


def test_who_may_not_read_is_told_the_action_and_the_scope() -> None:
    estate, workspace = small()
    estate.deny(workspace.scope, "*/jobs/read")
    with asking(estate) as ask:
        refused = ask.get(f"{workspace.scope}/jobs")
        allowed = ask.get(f"{workspace.scope}/models")
        estate.allow(workspace.scope, "*/jobs/read")
        again = ask.get(f"{workspace.scope}/jobs")
    assert (refused.status_code, code(refused)) == (403, "AuthorizationFailed")
    message = refused.json()["error"]["message"]
    assert "'Microsoft.MachineLearningServices/workspaces/jobs/read'" in message
    assert f"over scope '{workspace.scope}'" in message
    assert (allowed.status_code, again.status_code) == (200, 200)


def test_a_denied_subscription_is_not_even_listed_and_resource_graph_leaves_it_out_silently() -> None:
    estate, workspace = small()
    other = estate.add_workspace("w2", subscription=1, tags={"env": "prod"})
    query = {"query": "resources | where type =~ 'microsoft.machinelearningservices/workspaces'"}
    with asking(estate) as ask:
        graph = f"{ask.server.arm}/providers/Microsoft.ResourceGraph/resources?api-version=2021-03-01"
        assert {row["name"] for row in ask.http.post(graph, json=query).json()["data"]} == {"w1", "w2"}
        tagged = {"query": query["query"] + " | where tags['env'] =~ 'prod'"}
        assert {row["name"] for row in ask.http.post(graph, json=tagged).json()["data"]} == {"w2"}
        estate.deny(f"/subscriptions/{other.subscription}")
        assert {row["name"] for row in ask.http.post(graph, json=query).json()["data"]} == {"w1"}
        listed = ask.get("/subscriptions").json()["value"]
        refused = ask.get(f"/subscriptions/{other.subscription}/providers/Microsoft.MachineLearningServices/workspaces")
    assert [row["subscriptionId"] for row in listed] == [workspace.subscription]
    assert refused.status_code == 403


def test_a_token_is_needed_and_its_end_is_honoured() -> None:
    estate, workspace = small()
    with asking(estate) as ask:
        missing = httpx.get(
            f"{ask.server.arm}{workspace.scope}?api-version=2024-04-01",
            verify=ssl.create_default_context(cafile=str(ask.server.ca_file)),
        )
        estate.tick(3601)
        ended = ask.get(workspace.scope)
    assert (missing.status_code, code(missing)) == (401, "AuthenticationFailed")
    assert (ended.status_code, code(ended)) == (401, "ExpiredAuthenticationToken")


def test_a_bucket_refuses_as_was_recorded_and_refills_with_time() -> None:
    estate, workspace = small()
    other = estate.add_workspace("w2", subscription=1)
    clock = [0.0]
    with asking(estate, throttle=Throttle(clock=lambda: clock[0])) as ask:

        def granted(of: Workspace, most: int) -> int:
            answers = [ask.get(of.scope) for _ in range(most)]
            for refused in answers:
                if refused.status_code == 429:
                    assert "retry-after" not in refused.headers
                    assert "Retry again after 20 seconds" in refused.json()["error"]["message"]
            return sum(one.status_code == 200 for one in answers)

        assert granted(workspace, 260) == 250
        assert granted(other, 5) == 5  # a subscription of its own has a bucket of its own
        clock[0] = 1.0
        assert granted(workspace, 30) == 25
        assert ask.server.throttle is not None
        assert ask.server.throttle.refused == 15


def test_under_load_it_may_say_forbidden_where_it_means_later() -> None:
    estate, workspace = small()
    throttle = Throttle(capacity=1, rate=0, clock=lambda: 0.0, forbidding=2)
    with asking(estate, throttle=throttle) as ask:
        statuses = [ask.get(workspace.scope).status_code for _ in range(5)]
    assert statuses == [200, 429, 429, 403, 429]


def test_faults_meet_the_page_and_the_workspace_they_are_told_to_and_no_other() -> None:
    estate, workspace = small(jobs=160)
    other = estate.add_workspace("w2", size=TINY)
    with asking(estate) as ask:
        ask.server.faults.status(503, "jobs", workspace="w1", page=3)
        statuses, link = [], f"{ask.server.arm}{workspace.scope}/jobs?api-version=2024-04-01&listViewType=All"
        for _ in range(3):
            answer = ask.http.get(link)
            statuses.append(answer.status_code)
            link = answer.json().get("nextLink", link)
        again = ask.http.get(link)
        elsewhere = ask.get(f"{other.scope}/jobs")
    assert statuses == [200, 200, 503]
    assert (again.status_code, elsewhere.status_code) == (200, 200)


def test_a_connection_may_be_cut_and_a_page_may_be_nonsense() -> None:
    estate, workspace = small()
    with asking(estate) as ask:
        ask.server.faults.cut("jobs")
        with pytest.raises(httpx.TransportError):
            ask.get(f"{workspace.scope}/jobs")
        ask.server.faults.malformed("models")
        broken = ask.get(f"{workspace.scope}/models")
        with pytest.raises(ValueError, match="Expecting"):
            broken.json()
        assert ask.get(f"{workspace.scope}/models").status_code == 200


def test_links_may_lead_in_a_circle_or_to_another_host() -> None:
    estate, workspace = small(jobs=160)
    with asking(estate) as ask:
        ask.server.faults.loop("jobs")
        links = [ask.get(f"{workspace.scope}/jobs").json()["nextLink"]]
        links += [ask.http.get(links[0]).json()["nextLink"]]
        assert links[0] == links[1]
        ask.server.faults.clear()
        ask.server.faults.next_link("models", "https://elsewhere.example/models")
        assert ask.get(f"{workspace.scope}/models").json()["nextLink"] == "https://elsewhere.example/models"


def test_an_unknown_item_may_lie_in_the_middle_of_a_page() -> None:
    estate, workspace = small()
    strange = {"id": "x", "name": "strange", "properties": {"jobType": "Quantum"}}
    with asking(estate) as ask:
        ask.server.faults.unknown_item("jobs", strange)
        value = ask.get(f"{workspace.scope}/jobs").json()["value"]
    assert strange in value[1:-1]


def test_a_token_may_end_in_the_middle_and_a_new_one_is_taken() -> None:
    estate, workspace = small()
    with asking(estate) as ask:
        ask.server.faults.token_ends(after=2)
        statuses = [ask.get(workspace.scope).status_code for _ in range(3)]
        estate.tick(1)
        fresh = {"authorization": f"Bearer {ask.server.token()}"}
        url = f"{ask.server.arm}{workspace.scope}?api-version=2024-04-01"
        assert ask.http.get(url, headers=fresh).status_code == 200
    assert statuses == [200, 200, 401]


def test_latency_waits_with_the_clock_that_it_is_given() -> None:
    estate, workspace = small()
    waited = list[float]()
    with asking(estate) as ask:
        ask.server.faults.latency(2.5, waited.append, "jobs")
        ask.get(f"{workspace.scope}/jobs")
        ask.get(f"{workspace.scope}/models")
    assert waited == [2.5]
