"""The resource manager's client against a loopback TLS server that answers by rule."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme

from stocktake.core.errors import SourceError, Trouble
from stocktake.sources.arm import Arm, ArmConfig, ArmPage, split
from stocktake.sources.arm_bucket import LONGEST_PAUSE, Bucket
from stocktake.sources.arm_errors import MEANINGS, AzureError, explain
from stocktake.sources.http import Answer, ForbiddenRequest, HttpConfig
from tests.servers.reading import Clock
from tests.servers.recording_proxy import Action, RecordingProxy, Reply, Seen, cut, hang, recording_proxy, status

JSON = {"content-type": "application/json"}
JOBS = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w/jobs"
VERSION = "2024-01-01-preview"
DENIED = (
    "The client 'ann@example.org' with object id '0a1b2c3d-0000-4000-8000-000000000001' does not have authorization to"
    " perform action 'Microsoft.MachineLearningServices/workspaces/jobs/read' over scope"
    " '/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w' or the scope is"
    " invalid. password=hunter2"
)


class Server:
    """The wire, and the client that asks over it."""

    def __init__(self, wire: RecordingProxy, ca: Path, clock: Clock) -> None:
        self.wire, self.clock, self._ca = wire, clock, ca
        self.clients: list[Arm] = []

    def arm(self, *, bucket: Bucket | None = None, budget: int | None = None, **http: Any) -> Arm:
        config = HttpConfig(base_url=self.wire.uri, token=lambda: "secret-token", ca_file=str(self._ca), **http)
        one = Arm(
            ArmConfig(http=config, bucket=bucket, budget=budget),
            self.clock.now,
            sleep=self.clock.sleep,
            monotonic=self.clock.monotonic,
        )
        self.clients.append(one)
        return one

    def page(self, items: list[Any], link: str | None = None, *, times: int | None = 1, query: str = "") -> None:
        self.wire.fault(JOBS + r"\?.*" + query, answer({"value": items, "nextLink": link}), times=times)

    def link(self, query: str, *, path: str = JOBS) -> str:
        return f"{self.wire.uri}{path}?{query}"


def answer(body: Any, code: int = 200, headers: Mapping[str, str] | None = None) -> Action:
    return status(code, {**JSON, **(headers or {})}, json.dumps(body).encode())


def error(code: str, message: str = "", *, status_code: int, headers: Mapping[str, str] | None = None) -> Action:
    return answer({"error": {"code": code, "message": message}}, status_code, headers)


def job(name: str) -> dict[str, Any]:
    return {"id": f"{JOBS}/{name}", "name": name}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    with recording_proxy("http://127.0.0.1:1", tls=context) as wire:
        one = Server(wire, ca, Clock())
        yield one
        for client in one.clients:
            client.close()


def names(pages: list[ArmPage]) -> list[str]:
    return [json.loads(raw)["name"] for page in pages for raw in page.items]


def listed(arm: Arm) -> tuple[list[ArmPage], SourceError | None]:
    """The pages that came, and what ended them."""
    pages: list[ArmPage] = []
    try:
        for page in arm.pages(JOBS, VERSION, {"listViewType": "All"}):
            pages.append(page)  # noqa: PERF402 - a failure must leave those before it
    except SourceError as exc:
        return pages, exc
    return pages, None


def refusal(server: Server, **options: Any) -> AzureError:
    with pytest.raises(AzureError) as caught:
        server.arm(**options).get(JOBS, VERSION)
    return caught.value


# ---- pages and links


def test_a_list_is_read_to_its_end_by_links_that_are_sent_as_they_came(server: Server) -> None:
    opaque = f"api-version={VERSION}&$orderBy=createdtime+desc&$skipToken=K1JJRDp%2bUi1j==%20x"
    server.page([job("a"), job("b")], server.link(opaque))
    server.page([], server.link("$skipToken=2"))
    server.page([job("c")])
    pages, failure = listed(server.arm())
    assert (names(pages), failure) == (["a", "b", "c"], None)
    assert [seen.query for seen in server.wire.seen] == [
        f"listViewType=All&api-version={VERSION}",
        opaque,
        "$skipToken=2",
    ]
    assert {seen.method for seen in server.wire.seen} == {"GET"}
    assert {seen.headers["authorization"] for seen in server.wire.seen} == {"Bearer secret-token"}


def test_items_are_the_bytes_that_came(server: Server) -> None:
    body = b'{"value": [ {"name": "a",  "big": 12345678901234567890123, "pi": 3.10} ]}'
    server.wire.fault(JOBS, status(200, JSON, body))
    ((page,), _) = listed(server.arm())
    assert page.items == [b'{"name": "a",  "big": 12345678901234567890123, "pi": 3.10}']
    assert page.requested_at == server.clock.now()


def test_the_resource_manager_may_write_the_path_in_another_case(server: Server) -> None:
    other = JOBS.replace("resourceGroups", "resourcegroups").replace("MachineLearning", "machinelearning")
    server.page([job("a")], server.link("$skipToken=2", path=other))
    server.page([job("b")])
    pages, failure = listed(server.arm())
    assert (names(pages), failure) == (["a", "b"], None)
    assert server.wire.seen[1].path == JOBS  # what is asked is our own path


@pytest.mark.parametrize(
    ("link", "why"),
    [
        ("https://evil.example.org{path}?$skipToken=2", "points to another host"),
        ("https://127.0.0.1:1{path}?$skipToken=2", "points to another host"),
        ("http://127.0.0.1:{port}{path}?$skipToken=2", "points to another host"),
        ("https://127.0.0.1:{port}@evil.example.org{path}?$skipToken=2", "points to another host"),
        ("https://u:p@127.0.0.1:{port}{path}?$skipToken=2", "points to another host"),
        ("//evil.example.org{path}?$skipToken=2", "points to another host"),
        ("{path}?$skipToken=2", "points to another host"),
        ("https://127.0.0.1:{port}/subscriptions/other/jobs?$skipToken=2", "leaves the list"),
        ("https://127.0.0.1:{port}{path}/../computes?$skipToken=2", "leaves the list"),
        ("https://127.0.0.1:{port}{path}/x/cancel?$skipToken=2", "leaves the list"),
        ("https://127.0.0.1:{port}{path}", "has no query"),
        ("https://[::1{path}?x=1", "is no address"),
        ("https://127.0.0.1:99999999{path}?x=1", "is no address"),
    ],
)
def test_a_link_that_leads_elsewhere_is_refused_and_nothing_is_sent_there(server: Server, link: str, why: str) -> None:
    port = server.wire.uri.rpartition(":")[2]
    server.page([job("a")], link.replace("{path}", JOBS).replace("{port}", port))
    pages, failure = listed(server.arm())
    assert names(pages) == ["a"]  # what came before stands
    assert failure is not None
    assert failure.trouble is Trouble.SHAPE
    assert why in failure.what
    assert "skipToken" not in str(failure)
    assert len(server.wire.seen) == 1


def test_a_link_that_repeats_itself_ends_the_list_as_truncated(server: Server) -> None:
    server.page([job("a")], server.link("$skipToken=2"))
    server.page([job("b")], server.link("$skipToken=3"))
    server.page([job("c")], server.link("$skipToken=2"))
    pages, failure = listed(server.arm())
    assert (names(pages), failure and failure.trouble) == (["a", "b", "c"], Trouble.TRUNCATED)
    assert len(server.wire.seen) == 3


def test_a_list_that_fails_after_its_second_page_leaves_two_pages_and_an_error(server: Server) -> None:
    server.page([job("a")], server.link("$skipToken=2"))
    server.page([job("b")], server.link("$skipToken=3"))
    server.wire.fault(JOBS, error("InternalServerError", status_code=500))
    pages, failure = listed(server.arm(retries=1))
    assert (names(pages), failure and failure.trouble) == (["a", "b"], Trouble.SERVER)


def test_a_list_that_is_cut_off_on_its_third_page_is_asked_for_that_page_again(server: Server) -> None:
    server.page([job("a")], server.link("$skipToken=2"))
    server.page([job("b")], server.link("$skipToken=3"))
    server.wire.fault(JOBS, cut(), times=1)
    server.page([job("c")])
    pages, failure = listed(server.arm())
    assert (names(pages), failure) == (["a", "b", "c"], None)
    assert [seen.query for seen in server.wire.seen][2:] == ["$skipToken=3", "$skipToken=3"]


@pytest.mark.parametrize(
    "body",
    [
        '{"value": null}',
        "{}",
        '{"items": []}',
        '{"value": {"a": 1}}',
        '{"value": [], "nextLink": 7}',
        "[]",
        '{"value": [',
    ],
)
def test_a_page_that_is_not_one_is_no_empty_page(body: str) -> None:
    with pytest.raises(SourceError) as caught:
        split(_answered(body.encode()))
    assert caught.value.trouble is Trouble.SHAPE


def test_an_item_without_an_id_and_a_name_is_a_problem_and_the_others_stand() -> None:
    page, _ = split(
        _answered(b'{"value": [{"name": "a"}, {"x": 1}, 7, null, {"id": "/s/b"}, {"name": {"value": "c"}}]}')
    )
    assert (len(page.items), len(page.problems)) == (3, 3)
    assert page.problems[0] == "GET /x: an item without an id and a name"


def test_a_page_with_a_bare_nan_and_half_a_surrogate_pair_is_read_all_the_same() -> None:
    page, link = split(_answered(rb'{"value": [{"name": "a", "x": NaN, "y": "\ud800"}], "nextLink": "https://h/x?y"}'))
    assert (names([page]), link, page.problems) == (["a"], "https://h/x?y", [])


def _answered(body: bytes, code: int = 200) -> Answer:
    return Answer(
        what="GET /x",
        status=code,
        body=body,
        content_type="application/json",
        requested_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


# ---- what an operator reads


def test_a_missing_right_is_named_with_its_scope_and_our_object_id_and_nothing_else_of_the_message(
    server: Server,
) -> None:
    server.wire.fault(JOBS, error("AuthorizationFailed", DENIED, status_code=403))
    found = refusal(server)
    assert (found.trouble, found.action) == (
        Trouble.PERMISSION,
        "Microsoft.MachineLearningServices/workspaces/jobs/read",
    )
    assert found.scope == JOBS.removesuffix("/jobs")
    assert found.what == (
        f"GET {JOBS} answered with status 403 AuthorizationFailed: the identity with object id"
        " 0a1b2c3d-0000-4000-8000-000000000001 lacks Microsoft.MachineLearningServices/workspaces/jobs/read on"
        " /subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"
    )
    assert "hunter2" not in str(found)
    assert "ann@" not in str(found)


_INNER = {"type": "InnerError", "info": {"value": {"code": "NotFound", "innerError": {"code": "ComponentNotFound"}}}}


@pytest.mark.parametrize(
    ("code", "body", "trouble", "step"),
    [
        (404, {"error": {"code": "ResourceNotFound"}}, Trouble.NOT_FOUND, "Check subscription"),
        (404, {"error": {"code": "ResourceGroupNotFound"}}, Trouble.NOT_FOUND, "Check subscription"),
        (404, {"error": {"code": "SubscriptionNotFound"}}, Trouble.NOT_FOUND, "Check subscription"),
        (400, {"error": {"code": "InvalidSubscriptionId"}}, Trouble.NOT_FOUND, "Check subscription"),
        (404, None, Trouble.NOT_FOUND, "Check subscription"),
        (404, {"error": {"code": "UserError", "additionalInfo": [_INNER]}}, Trouble.NOT_FOUND, "Check subscription"),
        (404, {"error": {"code": "ResourceNotFound", "message": "w is soft-deleted"}}, Trouble.SOFT_DELETED, "14 days"),
        (409, {"error": {"code": "Conflict", "message": "Soft deleted workspace"}}, Trouble.SOFT_DELETED, "14 days"),
        (400, {"error": {"code": "NoRegisteredProviderFound"}}, Trouble.REGION, "region"),
        (400, {"error": {"code": "InvalidApiVersionParameter"}}, Trouble.REGION, "version of the API"),
        (409, {"error": {"code": "MissingSubscriptionRegistration"}}, Trouble.REGION, "register"),
        (401, {"error": {"code": "ExpiredAuthenticationToken"}}, Trouble.AUTHENTICATION, "clock"),
        (401, {"error": {"code": "InvalidAuthenticationTokenTenant"}}, Trouble.AUTHENTICATION, "tenant"),
        (401, {"error": {"code": "InvalidAuthenticationToken"}}, Trouble.AUTHENTICATION, "credential"),
        (401, {"error": {"code": "UserError"}}, Trouble.AUTHENTICATION, "credential"),
        (409, {"error": {"code": "QuotaExceeded"}}, Trouble.QUOTA, "limit"),
        (429, {"error": {"code": "UserError", "innerError": {"code": "QuotaExceeded"}}}, Trouble.THROTTLED, "less"),
        (400, {"error": {"code": "X", "details": [{"code": "StorageAccountNotFound"}]}}, Trouble.DEPENDENCY, "gone"),
        (500, {"error": {"code": "ServiceError"}}, Trouble.SERVER, "next scan"),
        (504, {"error": {"code": "TransientError"}}, Trouble.SERVER, "next scan"),
        (502, None, Trouble.SERVER, "next scan"),
        (400, {"error": {"code": "BadArgument"}}, Trouble.SHAPE, "Report"),
        (400, {"error_code": "INVALID_PARAMETER_VALUE"}, Trouble.SHAPE, "Report"),
        (403, {"error": {"code": "Forbidden"}}, Trouble.PERMISSION, "role"),
        (403, {"error": {"code": "Forbidden", "message": "Public access is off"}}, Trouble.PERMISSION, "private"),
    ],
)  # fmt: skip
def test_an_error_is_what_an_operator_thinks_it_is(code: int, body: Any, trouble: Trouble, step: str) -> None:
    found = explain(_answered(b"" if body is None else json.dumps(body).encode(), code))
    assert (found.trouble, found.status) == (trouble, code)
    assert step in found.next_step
    assert found.next_step.endswith((".", "?"))


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (404, "ResourceGroupNotFound", "Resource group 'rg-soft-deleted' could not be found."),
        (404, "ResourceGroupNotFound", "The resource group is soft-deleted."),
        (404, "SubscriptionNotFound", "The subscription soft-deleted could not be found."),
        (404, "InvalidResourceType", "The type soft-deleted could not be found."),
        (404, "ResourceNotFound", "The Resource 'x/workspaces/w' under resource group 'soft-deleted' was not found."),
        (404, "ResourceNotFound", "/subscriptions/s/resourceGroups/soft-deleted/providers/x was not found."),
        (404, "KeyVaultNotFound", "The key vault is soft-deleted."),
        (409, "Conflict", "The name 'soft-deleted' is taken."),
    ],
)
def test_a_workspace_is_soft_deleted_by_what_azure_says_of_it_and_not_by_a_name(
    status: int, code: str, message: str
) -> None:
    found = explain(_answered(json.dumps({"error": {"code": code, "message": message}}).encode(), status))
    assert found.trouble is not Trouble.SOFT_DELETED


def test_every_trouble_that_azure_can_be_in_is_told_of_in_the_guide() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "how-to" / "azure-permissions.md").read_text("utf-8")
    for trouble, step in MEANINGS.values():
        assert f"| `{trouble}` |" in guide
        assert step.endswith((".", "?"))


def test_every_code_of_an_error_is_kept_from_the_general_to_the_specific() -> None:
    body = json.dumps({"error": {"code": "UserError", "message": "Not found x", "additionalInfo": [_INNER]}})
    found = explain(_answered(body.encode(), 404))
    assert isinstance(found, AzureError)
    assert found.codes == ("UserError", "NotFound", "ComponentNotFound")
    assert found.what == "GET /x answered with status 404 UserError ComponentNotFound"


@pytest.mark.parametrize("body", [b"\xff", b"[]", b'"x"', b'{"error": "x"}', b'{"error": {"code": 7, "details": 3}}'])
def test_an_error_that_is_no_error_of_azure_is_explained_by_its_status(body: bytes) -> None:
    assert explain(_answered(body, 404)).trouble is Trouble.NOT_FOUND
    assert explain(_answered(body, 503)).trouble is Trouble.SERVER


# ---- throttling


def test_a_429_without_retry_after_is_asked_again_after_twenty_seconds(server: Server) -> None:
    server.wire.fault(JOBS, error("UserError", "Retry again after 20 seconds.", status_code=429), times=2)
    server.page([job("a")])
    arm = server.arm()
    pages, failure = listed(arm)
    assert (names(pages), failure, server.clock.slept) == (["a"], None, [20.0, 20.0])
    assert (arm.traffic.throttled, arm.requests) == (2, 3)


def test_retry_after_is_honoured_even_when_it_is_long_and_given_up_when_it_is_too_long(server: Server) -> None:
    server.wire.fault(JOBS, error("TooManyRequests", status_code=429, headers={"retry-after": "300"}), times=1)
    server.wire.fault(JOBS, error("TooManyRequests", status_code=429, headers={"retry-after": "3600"}), times=1)
    with pytest.raises(SourceError) as caught:
        server.arm().get(JOBS, VERSION)
    assert caught.value.trouble is Trouble.THROTTLED
    assert server.clock.slept == [300.0]


def test_a_throttled_client_lets_all_that_share_its_bucket_wait(server: Server) -> None:
    bucket = Bucket(monotonic=server.clock.monotonic, sleep=server.clock.sleep)
    server.wire.fault(JOBS, error("TooManyRequests", status_code=429, headers={"retry-after": "600"}), times=1)
    server.wire.fault(JOBS, answer({"name": "x"}))
    with pytest.raises(SourceError):
        server.arm(bucket=bucket).get(JOBS, VERSION)
    other = server.arm(bucket=bucket)
    other.get(JOBS, VERSION)  # no refusal keeps the others from asking for longer than some minutes
    assert other.traffic.waited == pytest.approx(LONGEST_PAUSE, abs=0.1)
    assert len(server.wire.seen) == 2


def test_nobody_waits_for_a_bucket_longer_than_a_request_may_take(server: Server) -> None:
    bucket = Bucket(monotonic=server.clock.monotonic, sleep=server.clock.sleep)
    bucket.pause(LONGEST_PAUSE)
    with pytest.raises(SourceError) as caught:
        server.arm(bucket=bucket, total_timeout=60.0).get(JOBS, VERSION)
    assert caught.value.trouble is Trouble.THROTTLED
    assert server.wire.seen == []


def test_what_azure_says_is_left_lowers_the_bucket_and_never_raises_it(server: Server) -> None:
    bucket = Bucket(monotonic=server.clock.monotonic, sleep=server.clock.sleep)
    left = "x-ms-ratelimit-remaining-subscription-reads"
    server.wire.fault(JOBS, answer({"name": "x"}, headers={left: "0"}), times=1)
    server.wire.fault(JOBS, answer({"name": "x"}, headers={left: "11999"}))
    arm = server.arm(bucket=bucket)
    for _ in range(3):
        arm.get(JOBS, VERSION)
    assert sum(server.clock.slept) == pytest.approx(2 / 25, abs=0.005)  # the second and the third, at 25 a second
    assert arm.traffic.waited == pytest.approx(2 / 25, abs=0.005)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("AuthorizationFailed", DENIED),
        ("RequestDisallowedByPolicy", ""),
        ("UserError", "No permissions for Microsoft.MachineLearningServices/workspaces/experiments/read actions."),
    ],
)
def test_a_denial_that_names_the_right_is_believed_at_once(server: Server, code: str, message: str) -> None:
    server.wire.fault(JOBS, error(code, message, status_code=403))
    refusal(server)
    assert (len(server.wire.seen), server.clock.slept) == (1, [])


def test_after_throttling_even_a_denial_that_names_the_right_is_asked_about_again(server: Server) -> None:
    server.wire.fault(JOBS, error("UserError", status_code=429), times=1)
    server.wire.fault(JOBS, error("AuthorizationFailed", DENIED, status_code=403), times=2)
    server.page([job("a")])
    pages, failure = listed(server.arm())
    assert (names(pages), failure) == (["a"], None)
    assert server.clock.slept == [20.0, 20.0, 40.0]


def test_a_403_without_a_right_is_doubted_once_and_then_believed_for_the_rest_of_the_scan(server: Server) -> None:
    server.wire.fault(JOBS, error("Forbidden", status_code=403))
    arm = server.arm()
    for waits in ([10.0, 20.0, 40.0], []):
        server.clock.slept.clear()
        with pytest.raises(AzureError):
            arm.get(JOBS, VERSION)
        assert server.clock.slept == waits
    assert len(server.wire.seen) == 5


def test_a_token_that_ran_out_on_the_way_is_asked_for_anew_once(server: Server) -> None:
    tokens = iter(["old", "new", "newer"])
    server.wire.fault(JOBS, error("ExpiredAuthenticationToken", status_code=401), times=1)
    server.wire.fault(JOBS, answer({"name": "x"}))
    config = HttpConfig(base_url=server.wire.uri, token=lambda: next(tokens), insecure_tls=True)
    arm = Arm(ArmConfig(http=config), server.clock.now, sleep=server.clock.sleep, monotonic=server.clock.monotonic)
    server.clients.append(arm)
    assert arm.get(JOBS, VERSION).status == 200
    assert [seen.headers["authorization"] for seen in server.wire.seen] == ["Bearer old", "Bearer new"]


def test_the_budget_of_a_scan_counts_retries_and_ends_in_words(server: Server) -> None:
    server.page([job("a")], server.link("$skipToken=2"))
    server.wire.fault(JOBS, error("ServiceError", status_code=503), times=1)
    server.page([job("b")], server.link("$skipToken=3"))
    pages, failure = listed(server.arm(budget=3))
    assert (names(pages), failure and failure.trouble) == (["a", "b"], Trouble.BUDGET)
    assert failure is not None
    assert "the budget of 3 requests" in failure.what
    assert "azureml.budget" in failure.next_step
    assert server.clients[0].traffic.budget_used == 1.0
    assert len(server.wire.seen) == 3


# ---- limits of the client


def test_accepted_statuses_are_answers(server: Server) -> None:
    server.wire.fault(JOBS, error("ResourceNotFound", status_code=404))
    assert server.arm().get(JOBS, VERSION, accept=frozenset({404})).status == 404


def test_names_that_cannot_be_sent_are_quoted_and_what_is_quoted_stays(server: Server) -> None:
    server.wire.fault("/", answer({"name": "x"}))
    server.arm().get("/subscriptions/s/resourceGroups/Zürich (a)/x%2Fy", VERSION)
    assert server.wire.seen[0].path == "/subscriptions/s/resourceGroups/Z%C3%BCrich%20(a)/x%2Fy"


def test_only_listed_searches_can_be_posted(server: Server) -> None:
    graph = "/providers/Microsoft.ResourceGraph/resources"
    server.wire.fault(graph, answer({"data": []}))
    arm = server.arm(posts=frozenset({graph}))
    assert arm.post(graph, "2022-10-01", {"query": "Resources"}).json() == {"data": []}
    assert server.wire.seen[0].query == "api-version=2022-10-01"
    with pytest.raises(ForbiddenRequest):
        arm.post(f"{JOBS}/x/cancel", VERSION, {})


def test_closing_cuts_whoever_waits_for_a_turn_in_the_bucket(server: Server) -> None:
    bucket = Bucket(capacity=1, rate=0.0001)
    server.wire.fault(JOBS, answer({"name": "x"}))
    arm = Arm(
        ArmConfig(http=HttpConfig(base_url=server.wire.uri, insecure_tls=True, total_timeout=100_000.0), bucket=bucket),
        server.clock.now,
    )
    arm.get(JOBS, VERSION)
    failures: list[SourceError] = []

    def ask() -> None:
        try:
            arm.get(JOBS, VERSION)
        except SourceError as exc:
            failures.append(exc)

    waiting = threading.Thread(target=ask)
    waiting.start()
    while not bucket.waiting:
        pass
    arm.close()
    waiting.join(10)
    assert not waiting.is_alive()
    assert (failures[0].trouble, "cut off" in failures[0].what) == (Trouble.UNREACHABLE, True)
    assert len(server.wire.seen) == 1


def test_closing_cuts_a_request_under_way(server: Server) -> None:
    released, asked = threading.Event(), threading.Event()

    def silent(seen: Seen, ask: Any) -> Reply | None:
        return hang(released, asked=asked)(seen, lambda: Reply(body=b"{}"))

    server.wire.fault(JOBS, silent)
    arm = server.arm()
    failures: list[SourceError | None] = []
    waiting = threading.Thread(target=lambda: failures.append(listed(arm)[1]))
    waiting.start()
    assert asked.wait(10)
    arm.close()
    waiting.join(10)
    released.set()
    assert [failure and failure.trouble for failure in failures] == [Trouble.UNREACHABLE]
