"""Pages of a list as the resource manager makes them: `value`, and an opaque nextLink while there is more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import quote

from stocktake.demo.azure.estate import Estate
from stocktake.demo.azure.job_views import Place, arm_body
from stocktake.demo.azure.jobs import Jobs
from stocktake.demo.azure.seeded import Body
from stocktake.demo.azure.shelf import Shelf
from stocktake.demo.azure.wire import Request, position, token

#: Items on a page. Of models it was recorded (20); of jobs nothing was, and 50 is what run history gives.
PAGE = 50
PAGES = {"models": 20, "datastores": 30, "workspaces": 100}
#: Names in a query as they are written; requests hold them in lower case.
_NAMES = {"listviewtype": "listViewType", "$orderby": "$orderBy", "jobtype": "jobType", "orderbyasc": "orderByAsc",
          "isdefault": "isDefault"}  # fmt: skip


class Pages:
    """Pages of an estate's lists; `page_of` says how many items a page of a kind has."""

    def __init__(self, estate: Estate, page_of: Callable[[str], int] | None = None) -> None:
        self.estate = estate
        self.page_of = page_of or (lambda kind: PAGES.get(kind, PAGE))

    def jobs(self, request: Request, jobs: Jobs, place: Place) -> Body:
        """Root jobs, the newest first."""
        wanted = view(request, "jobs")
        kind = request.query.get("jobtype")
        size, rows = self.page_of("jobs"), list[Body]()
        for job in jobs.newest(position(request.query.get("$skiptoken"), "jobs")):
            if (kind and job.type != kind) or not wanted({"properties": {"isArchived": job.archived}}):
                continue
            if len(rows) == size:
                return self._page(request, "jobs", rows, job.index + 1)
            rows.append(arm_body(place, job))
        return self._page(request, "jobs", rows, None)

    def shelf(self, request: Request, what: str, shelf: Shelf) -> Body:
        """Items of a shelf; `what` is the path of the list, such as models/NAME/versions."""
        size = self.page_of(what.rsplit("/", 1)[-1])
        for name in ("$top", "count"):
            if request.query.get(name, "").isdigit():
                size = max(1, min(size, int(request.query[name])))
        start = position(request.query.get("$skiptoken"), what) or 0
        wanted = view(request, what)
        rows, following = shelf.page(start, size, wanted)
        return self._page(request, what, rows, following)

    def rows(self, request: Request, what: str, rows: Sequence[Body]) -> Body:
        """Rows that are all known."""
        start, size = position(request.query.get("$skiptoken"), what) or 0, self.page_of(what)
        following = start + size if len(rows) > start + size else None
        return self._page(request, what, list(rows[start : start + size]), following)

    def _page(self, request: Request, what: str, rows: list[Body], following: int | None) -> Body:
        if following is None:
            return {"value": rows}
        query = {name: value for name, value in request.query.items() if name != "$skiptoken"}
        asked = "&".join(f"{_NAMES.get(name, name)}={quote(value)}" for name, value in query.items())
        link = f"{self.estate.arm}{quote(request.path)}?{asked}&$skipToken={token(following, what)}"
        return {"value": rows, "nextLink": link}


def view(request: Request, what: str) -> Callable[[Body], bool]:
    """What listViewType shows: without it only what is active, or enabled."""
    view = request.query.get("listviewtype", "")
    if what == "schedules":
        if view in ("", "EnabledOnly"):
            return lambda body: bool(body["properties"]["isEnabled"])
        return (lambda body: not body["properties"]["isEnabled"]) if view == "DisabledOnly" else (lambda _: True)
    if view == "All":
        return lambda _: True
    archived = view == "ArchivedOnly"
    return lambda body: bool((body.get("properties") or {}).get("isArchived", False)) == archived
