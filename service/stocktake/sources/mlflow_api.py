"""MLflow's reading endpoints over the one HTTP client: a page of a search, one item by id, what the server offers.

Knows paths, parameters and the quirks of versions. It must never decide what a missing item means.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from stocktake.core.assets import Kind
from stocktake.core.errors import SourceError, Trouble
from stocktake.sources.http import Answer, HttpClient, PageTooLarge, error_code
from stocktake.sources.mlflow_overlap import Overlap
from stocktake.sources.mlflow_pages import one, split
from stocktake.sources.mlflow_values import without
from stocktake.sources.protocol import Item, Page

V2 = "/api/2.0/mlflow"
V3 = "/api/3.0/mlflow"

RUNS = f"{V2}/runs/search"
LOGGED_MODELS = f"{V2}/logged-models/search"
TRACES = f"{V3}/traces/search"
TRACES_V2 = f"{V2}/traces"

#: The only paths that may be POSTed to: searches whose question does not fit a URL.
POSTS = frozenset({RUNS, LOGGED_MODELS, TRACES})

#: Statuses by which a server says that it does not know an endpoint.
NOT_OFFERED = frozenset({404, 405, 501})

#: The most a server gives in one page, where that is less than our own default.
PAGE_MAXIMUM = {Kind.TRACE: 500, Kind.REGISTERED_MODEL: 1000, Kind.WEBHOOK: 100}

_EMPTY_PAGES = 100
_REPEATS = 3
_VERSION = re.compile(rb"\d+\.\d+[\w.+-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """One question to a search endpoint, without its page size and token."""

    kind: Kind
    path: str
    query: Mapping[str, Any]
    post: bool = False


def experiments() -> Search:
    """All experiments, deleted ones too. The default order moves with every rename, so another one is asked for."""
    query = {"view_type": "ALL", "order_by": ["experiment_id ASC"]}
    return Search(kind=Kind.EXPERIMENT, path=f"{V2}/experiments/search", query=query)


def registered_models() -> Search:
    """All registered models; they are ordered by name."""
    return Search(kind=Kind.REGISTERED_MODEL, path=f"{V2}/registered-models/search", query={"order_by": ["name ASC"]})


def model_versions() -> Search:
    """All model versions. The default order moves with every edit, so another one is asked for."""
    query = {"order_by": ["name ASC", "version_number ASC"]}
    return Search(kind=Kind.MODEL_VERSION, path=f"{V2}/model-versions/search", query=query)


def prompts(search: Search) -> Search:
    """The same question for prompts: registered models with a tag, which are left out unless they are asked for."""
    return replace(search, query={**search.query, "filter": "tags.`mlflow.prompt.is_prompt` = 'true'"})


def webhooks() -> Search:
    """All webhooks (MLflow 3.3 and later)."""
    return Search(kind=Kind.WEBHOOK, path=f"{V2}/webhooks", query={})


def runs(experiment_ids: Sequence[str], filter_: str = "") -> Search:
    """Runs of some experiments, deleted ones too."""
    query: dict[str, Any] = {"experiment_ids": list(experiment_ids), "run_view_type": "ALL"}
    return Search(kind=Kind.RUN, path=RUNS, query=query | ({"filter": filter_} if filter_ else {}), post=True)


def logged_models(experiment_ids: Sequence[str], filter_: str = "") -> Search:
    """Logged models of some experiments; deleted ones cannot be asked for."""
    query: dict[str, Any] = {"experiment_ids": list(experiment_ids)}
    query |= {"filter": filter_} if filter_ else {}
    return Search(kind=Kind.LOGGED_MODEL, path=LOGGED_MODELS, query=query, post=True)


def traces(experiment_ids: Sequence[str], filter_: str = "", *, v2: bool = False) -> Search:
    """Traces of some experiments, from MLflow 3, or from the endpoint of MLflow 2."""
    narrowed = {"filter": filter_} if filter_ else {}
    if v2:
        return Search(kind=Kind.TRACE, path=TRACES_V2, query={"experiment_ids": list(experiment_ids)} | narrowed)
    locations = [
        {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment}}
        for experiment in experiment_ids
    ]
    return Search(kind=Kind.TRACE, path=TRACES, query={"locations": locations} | narrowed, post=True)


class MlflowApi:
    """One server. Every method is one request or one series of pages."""

    def __init__(self, http: HttpClient, *, page_size: int, hard_bytes: int, max_pages: int) -> None:
        self._http = http
        self._page_size = page_size
        self._hard_bytes = hard_bytes
        self._max_pages = max_pages
        #: Whether each page is asked for from one row earlier (mlflow_overlap): pointless where lists are filtered.
        self.overlapping = True

    def pages(self, search: Search) -> Iterator[Page]:
        """The pages of a search, without what an earlier one showed. A page that is too large is asked for again in
        halves, one that does not join the page before from further back.

        Raises SourceError(TRUNCATED) when a token repeats itself, the same page comes again and again, or the pages
        never end. An empty page with a token is no end.
        """
        most = size = min(self._page_size, PAGE_MAXIMUM.get(search.kind, self._page_size))
        token, tokens, empty = "", set[str](), 0
        seen: dict[tuple[str, str], int] = {}
        overlap, again = Overlap(), False
        for _ in range(self._max_pages):
            asked = overlap.token(token) if self.overlapping and size > 1 else token
            try:
                answer = self._page(search, size, asked)
            except PageTooLarge as exc:
                if size == 1:
                    raise _truncated(f"{search.path} has an item of more than {self._hard_bytes:,} bytes") from exc
                size //= 2
                continue
            page = split(search.kind, answer)
            problems = page.problems
            if asked and asked != token and not overlap.joins(page.items):
                again = True  # what comes next may have come before
                if overlap.wider(size):
                    continue
                problems = [*problems, f"{answer.what}: rows were removed faster than pages could be read"]
            yield Page(
                items=overlap.take(page.items),
                requested_at=answer.requested_at,
                answered_at=answer.answered_at,
                problems=problems,
            )
            if not page.token:
                return
            if again:
                again, tokens, seen = False, set(), {}
            elif page.token in tokens or page.token == token:
                raise _truncated(f"{answer.what} gave the same page token twice")
            token = page.token
            tokens.add(token)
            empty = 0 if page.items else empty + 1
            if page.items:
                ends = (page.items[0].key, page.items[-1].key)
                seen[ends] = seen.get(ends, 0) + 1
                if seen[ends] == _REPEATS:
                    raise _truncated(f"{answer.what} gave the same page {_REPEATS} times")
            if empty == _EMPTY_PAGES:
                raise _truncated(f"{answer.what} gave {_EMPTY_PAGES} empty pages in a row")
            if size < most and len(answer.body) * 4 < self._http.page_bytes:
                size = min(most, size * 2)
        raise _truncated(f"{search.path} had no end after {self._max_pages:,} pages")

    def offers(self, search: Search) -> bool:
        """Whether the server knows this endpoint. Every trouble but "unknown" is left for the listing to meet."""
        try:
            return self._page(search, 1, "", accept=NOT_OFFERED).status not in NOT_OFFERED
        except SourceError:
            return True

    def get(self, kind: Kind, key: str, *, traces_v2: bool = False) -> Item | None:
        """One item by id; None where MLflow itself says that it does not exist (a 404 without its code does not)."""
        path, params = _ADDRESS[kind](key)
        if kind is Kind.TRACE and traces_v2:
            path = f"{TRACES_V2}/{quote(key, safe='')}/info"
        answer = self._http.get(path, params, accept=frozenset({404}), limit=self._hard_bytes)
        if answer.status == 404:
            if error_code(answer) in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"):
                return None
            raise SourceError(
                Trouble.NOT_FOUND, f"{answer.what} is unknown to this server", next_step="Nothing needs to be done."
            )
        return one(kind, answer)

    def server(self, known: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
        """What the server says about itself: version, store, features, MLflow workspaces. Old servers say less.

        What it told before (`known`) and refuses to tell now is a problem: it did not vanish.
        """
        facts: dict[str, Any] = {}
        answer = self._http.get("/version", accept=frozenset(range(300, 500)) - {401, 403})
        if answer.status == 200 and (version := _VERSION.fullmatch(answer.body.strip())):
            facts["version"] = version.group().decode()
        elif "version" in known:
            problems.append(f"{answer.what} told the version before, and none with status {answer.status} now")
        answer = self._http.get(f"{V3}/server-info", accept=NOT_OFFERED)
        if answer.status == 200 and (told := small_object(answer)):
            facts |= told
        elif without(known, frozenset({"version"})):
            problems.append(f"{answer.what} told facts before, and none with status {answer.status} now")
        if facts.get("workspaces_enabled"):
            listed = self._http.get(f"{V3}/workspaces", accept=NOT_OFFERED | {403})
            workspaces = small_object(listed).get("workspaces", []) if listed.status == 200 else []
            facts["workspaces"] = {str(item["name"]): without(item, frozenset({"name"})) for item in workspaces}
        return facts

    def probe(self) -> Answer:
        """The cheapest question that only an MLflow server answers. Raises SourceError with what is wrong."""
        answer = self._http.get(f"{V2}/experiments/search", {"max_results": 1, "view_type": "ALL"})
        split(Kind.EXPERIMENT, answer)
        return answer

    def user(self, username: str | None) -> tuple[str, bool] | None:
        """Name and admin flag by MLflow's own basic-auth app; None where it is not installed (or does not say)."""
        accept = NOT_OFFERED | {400, 403}
        answer = self._http.get(f"{V2}/users/current", accept=accept)
        if answer.status != 200 and username:
            answer = self._http.get(f"{V2}/users/get", {"username": username}, accept=accept)
        if answer.status == 403:
            return username or "unknown", False
        user = small_object(answer) if answer.status == 200 else {}
        user = user.get("user", user)
        if not isinstance(user, dict) or "is_admin" not in user:
            return None
        return str(user.get("username") or username or "unknown"), user["is_admin"] is True

    def _page(self, search: Search, size: int, token: str, accept: frozenset[int] = frozenset()) -> Answer:
        query = dict(search.query) | {"max_results": size} | ({"page_token": token} if token else {})
        limit = self._hard_bytes if size == 1 else None
        if search.post:
            return self._http.post(search.path, query, accept=accept, limit=limit)
        return self._http.get(search.path, query, accept=accept, limit=limit)


def small_object(answer: Answer) -> dict[str, Any]:
    """The JSON object of an answer that may as well be something else: a proxy's page for what it does not know."""
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _version_address(key: str) -> tuple[str, dict[str, str]]:
    name, _, version = key.rpartition("/")
    return f"{V2}/model-versions/get", {"name": name, "version": version}


_ADDRESS: Mapping[Kind, Callable[[str], tuple[str, dict[str, str]]]] = {
    Kind.EXPERIMENT: lambda key: (f"{V2}/experiments/get", {"experiment_id": key}),
    Kind.RUN: lambda key: (f"{V2}/runs/get", {"run_id": key}),
    Kind.REGISTERED_MODEL: lambda key: (f"{V2}/registered-models/get", {"name": key}),
    Kind.MODEL_VERSION: _version_address,
    Kind.LOGGED_MODEL: lambda key: (f"{V2}/logged-models/{quote(key, safe='')}", {}),
    Kind.TRACE: lambda key: (f"{V3}/traces/{quote(key, safe='')}", {}),
    Kind.WEBHOOK: lambda key: (f"{V2}/webhooks/{quote(key, safe='')}", {}),
}


def _truncated(what: str) -> SourceError:
    return SourceError(
        Trouble.TRUNCATED,
        what,
        next_step="Report this with the server's version; what was seen is kept, the rest waits.",
    )
