"""Writes the tables of docs/reference/azureml.md: `python -m stocktake.sources.azureml_reference PAGE`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from stocktake.core.assets import Kind
from stocktake.sources.azureml_left_out import BY_KIND, EVERYWHERE, WHILE_RUNNING
from stocktake.sources.azureml_left_out import Row as Left
from stocktake.sources.azureml_plan import (
    ACTIVITY_LOG,
    ACTIVITY_VERSION,
    JOBS,
    ROWS,
    STORAGE,
    STORAGE_PARTS,
    WORKSPACE,
    Row,
)

_BEGIN, _END = "<!-- begin: {} (written by `python -m stocktake.sources.azureml_reference`) -->", "<!-- end: {} -->"


def requests() -> Iterator[str]:
    """The plan, a row for each kind."""
    yield "| kind | path | API version | sweep | hot pass |"
    yield "| --- | --- | --- | --- | --- |"
    yield _request(WORKSPACE, "`{workspace}`", "1", "1")
    for row in ROWS:
        paths = "<br>".join(f"`{path}`" for path in row.lists)
        yield _request(row, paths, *_times(row))
    storage = "<br>".join(f"`{{storage}}{below}`" for below in ("", *STORAGE_PARTS.values()))
    yield _request(STORAGE, storage, str(1 + len(STORAGE_PARTS)), str(1 + len(STORAGE_PARTS)))
    yield _request(JOBS, f"`{JOBS.lists[0]}`; one by name: `{JOBS.item}`", "pages", "1 per job that runs or is new")
    since = "pages of the time since the last pass, and of an hour before"
    yield f"| who did what | `{ACTIVITY_LOG}`<br>$filter=... | {ACTIVITY_VERSION} | {since} | the same |"


def left_out() -> Iterator[str]:
    """What is left out, a row for each field."""
    yield "| kind | field | why | |"
    yield "| --- | --- | --- | --- |"
    yield from (_field("every kind", row) for row in EVERYWHERE)
    for kind, rows in BY_KIND.items():
        yield from (_field(f"`{kind}`", row) for row in rows)
    yield from (_field(f"`{Kind.CHILD_JOB}`, until it has ended", row) for row in WHILE_RUNNING)


def rewritten(text: str) -> str:
    """The page with both tables renewed."""
    for name, table in (("requests", requests()), ("left out", left_out())):
        begin, end = _BEGIN.format(name), _END.format(name)
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = f"{before}{begin}\n\n" + "\n".join(table) + f"\n\n{end}{after}"
    return text


def _times(row: Row) -> tuple[str, str]:
    if row.per is None:
        every = "pages" if len(row.lists) == 1 else f"{len(row.lists)} lists"
        return every, "none" if row.sweep_only else every
    each = f"1 per `{row.per}`"
    return each, each if "deployment" in row.kind else f"1 per `{row.per}` with a new version"


def _request(row: Row, paths: str, sweep: str, hot: str) -> str:
    params = "".join(f"<br>{name}={value}" for name, value in row.params.items())
    return f"| `{row.kind}` | {paths}{params} | {row.version} | {sweep} | {hot} |"


def _field(kind: str, row: Left) -> str:
    path = row.path.replace("**.", "(anywhere) ")
    return f"| {kind} | `{path}` | {row.why} | {row.reason} |"


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(rewritten(page.read_text("utf-8")), "utf-8")
