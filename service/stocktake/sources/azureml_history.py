"""Run-history, the data plane behind Azure ML's jobs: children of a job, with their times and artifact containers.

It is documented nowhere, so it stands apart: without it jobs have the times of their MLflow runs, and children are
known as runs alone. Only GET is sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from stocktake.core.assets import Kind
from stocktake.core.errors import SourceError, Trouble
from stocktake.sources import arm_errors
from stocktake.sources.http import Answer, HttpClient
from stocktake.sources.mlflow_values import shape_error
from stocktake.sources.protocol import Item, Page

#: What can be wrong with one job and leaves the others readable.
_ONE_OF_MANY = frozenset({Trouble.SHAPE, Trouble.SERVER, Trouble.TRUNCATED})
_IN_A_ROW = 5
_MOST_PAGES = 10_000
#: Children of one parent that are published together; those of almost every parent are.
_TOGETHER = 2_000
_DEEPEST = 8
#: Words in the type of a child that has children of its own.
_PARENTS = ("pipeline", "hyperdrive", "sweep", "automl")


class _Page(msgspec.Struct):
    value: list[msgspec.Raw] | None = None
    token: str | None = msgspec.field(default=None, name="continuationToken")
    link: str | None = msgspec.field(default=None, name="nextLink")


class _Run(msgspec.Struct):
    run_id: str = msgspec.field(default="", name="runId")
    run_type: Any = msgspec.field(default=None, name="runType")


_page = msgspec.json.Decoder(_Page)
_run = msgspec.json.Decoder(_Run)
_NAMELESS = f"{Kind.CHILD_JOB} without runId"


class RunHistory:
    """The run-history of one workspace."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    def children(self, parents: Sequence[str]) -> Iterator[Page]:
        """The children of some jobs, and theirs. All children of a parent come together: a pass that is cut leaves
        none half-read. A parent without a history has no children; where one cannot be read, the others are."""
        in_a_row, unread = 0, list[str]()
        for parent in parents:
            try:
                yield from self._family(parent, {parent}, 0)
                in_a_row = 0
            except SourceError as exc:
                in_a_row += 1
                if exc.trouble not in _ONE_OF_MANY or in_a_row == _IN_A_ROW:
                    raise
                unread.append(f"of job {parent}: {exc.what}")
        if unread:  # no end marker: the next pass asks for them again
            raise SourceError(
                Trouble.TRUNCATED,
                f"children {unread[0]}" + (f" (and of {len(unread) - 1} more)" if unread[1:] else ""),
                next_step="The next scan asks for them again; their jobs themselves were read.",
            )

    def one(self, key: str) -> Item | None:
        """One run by id; None where the service says that there is none. Raises SourceError where it says less."""
        answer = self._http.get(_path(key), accept=frozenset({404}))
        if answer.status == 404:
            if _no_run(answer):
                return None
            raise arm_errors.explain(answer)
        return _item(answer.body)

    def _family(self, parent: str, met: set[str], depth: int) -> Iterator[Page]:
        items, nested, problems = list[Item](), list[str](), list[str]()
        first: Answer | None = None
        for answer, raws in self._pages(parent):
            first = first or answer
            for raw in raws:
                run = _decoded(raw)
                if run is None:
                    problems.append(f"of job {parent}: {_NAMELESS}")
                    continue
                items.append(Item(run.run_id, bytes(raw)))
                if run.run_id not in met and any(word in str(run.run_type).casefold() for word in _PARENTS):
                    nested.append(run.run_id)
            if len(items) >= _TOGETHER:
                yield Page(
                    items=items, requested_at=first.requested_at, answered_at=answer.answered_at, problems=problems
                )
                items, first, problems = [], None, []
        if (items or problems) and first is not None:
            yield Page(items=items, requested_at=first.requested_at, answered_at=answer.answered_at, problems=problems)
        for name in nested:
            met.add(name)
            if depth < _DEEPEST:
                yield from self._family(name, met, depth + 1)

    def _pages(self, parent: str) -> Iterator[tuple[Answer, Sequence[msgspec.Raw]]]:
        """Every page of the children of one job. A parent without a history answers 404, and has none."""
        path, query, met = f"{_path(parent)}/children", "", set[str]()
        for _ in range(_MOST_PAGES):
            answer = self._http.get(f"{path}?{query}" if query else path, accept=frozenset({404}))
            if answer.status == 404:
                if _no_run(answer) and not query:
                    return
                raise arm_errors.explain(answer)
            answer.require_json()
            try:
                page = _page.decode(answer.body)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                raise answer.not_json() from None
            if page.value is None:
                raise shape_error(f"{answer.what} answered without a list `value`")
            yield answer, page.value
            query = _following(page, path, answer.what)
            if not query:
                return
            if query in met:
                break
            met.add(query)
        raise SourceError(
            Trouble.TRUNCATED,
            f"{path.rpartition('/runs/')[2]}: the pages of a job's children repeat themselves",
            next_step="The next scan asks anew; what was listed stands, nothing is taken for gone.",
        )


def _following(page: _Page, path: str, what: str) -> str:
    """The query of the next page: of the link, if it has one and leads to the same list; else of the token. Empty where
    the service says that this was the last."""
    if page.link:
        there = urlsplit(page.link)
        if not there.path.endswith(path):
            raise shape_error(f"{what}: the link to the next page leaves the list; it is not followed")
        if there.query:
            return quote(there.query, safe="%=&+$-._~!*'(),;:@/?")
        if not page.token:
            raise shape_error(f"{what}: the link to the next page has no query: it is the first page again")
    return f"$continuationtoken={quote(page.token, safe='')}" if page.token else ""


def _no_run(answer: Answer) -> bool:
    """Whether a 404 is about the run, rather than about the workspace or about this whole service."""
    codes = arm_errors.codes(answer)
    return any(code in ("RunNotFound", "NotFoundError") for code in codes) and "WorkspaceNotFound" not in codes


def _item(raw: bytes) -> Item:
    run = _decoded(raw)
    if run is None:
        raise shape_error(_NAMELESS)
    return Item(run.run_id, raw)


def _decoded(raw: bytes | msgspec.Raw) -> _Run | None:
    """What is read of a run before it is parsed; None where it is no run that could be named."""
    try:
        run = _run.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return run if run.run_id else None


def _path(run: str) -> str:
    return f"/runs/{quote(run, safe='')}"
