"""Checks of a watched server: can we reach it, as whom, do the clocks agree, does MLflow's own client see the same."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from stocktake.core.assets import Kind, Mode
from stocktake.core.errors import ConfigError, SourceError
from stocktake.doctor import azure
from stocktake.doctor.checks import Check, apart, fail, ok, warn
from stocktake.making import address, make_source
from stocktake.settings import MlflowSettings, Settings, WorkspaceSettings
from stocktake.settings.environment import secret
from stocktake.sources.protocol import NothingKnown, Source

_CLOCK = 60.0  # seconds that our clock and a watched server's may differ without a word
_CLIENT_SECONDS = 90.0  # MLflow's client alone takes seconds to import


def workspace(settings: Settings, one: WorkspaceSettings, environ: Mapping[str, str]) -> Iterator[Check]:
    """Everything about one workspace; after the first failure there is nothing more to ask."""
    if one.azureml is not None:
        yield from azure.workspace(settings, one, one.azureml, environ)
        return
    try:
        source = make_source(one, settings, environ, lambda: datetime.now(UTC))
    except ConfigError as exc:
        yield fail("source", exc.what, exc.next_step or "Put the configuration right.", one.name)
        return
    except SourceError as exc:
        yield fail("source", f"{exc.what} ({exc.trouble})", exc.next_step, one.name)
        return
    began = time.monotonic()
    with closing(source):
        try:
            identity = source.identify()
            facts, experiments = _first_look(source)
        except SourceError as exc:
            yield fail("reach", f"{exc.what} ({exc.trouble})", exc.next_step, one.name)
            return
    version = f", MLflow {facts['version']}" if facts.get("version") else ""
    version = f", schema revision {facts['schema_revision']}" if facts.get("schema_revision") else version
    yield ok("reach", f"answers{version}; the first look took {time.monotonic() - began:.1f} s", one.name)
    who = f"{identity.name}; {identity.note}" if identity.note else identity.name
    if identity.filtered:
        step = "Use an administrator's account: until then what is missing is carried forward, never reported as gone."
        yield warn("identity", who, step, one.name)
    else:
        yield ok("identity", who, one.name)
    if (mlflow := one.mlflow) is None:
        return
    if mlflow.insecure_tls:
        step = "Name the authority's certificate in `ca_file` instead: anybody in between can read what we send."
        yield warn("tls", "certificates are not checked (insecure_tls)", step, one.name)
    if mlflow.uri is not None:
        yield from _clock(one, mlflow, mlflow.uri)
        yield from _client(one, mlflow, mlflow.uri, environ, experiments)
    yield from _unwatched(settings, one, facts)


def _first_look(source: Source) -> tuple[dict[str, Any], list[str]]:
    """The server's facts and the keys of the first page of experiments, read the way a scan reads them."""
    facts: dict[str, Any] = {}
    for listing in source.listings(Mode.HOT, NothingKnown()):
        page = next(listing.pages, None)
        if page is not None and listing.scope.kind == Kind.WORKSPACE:
            facts = json.loads(page.items[0].raw)
        if listing.scope.kind == Kind.EXPERIMENT:
            return facts, [item.key for item in page.items] if page is not None else []
    return facts, []


def _clock(one: WorkspaceSettings, mlflow: MlflowSettings, uri: str) -> Iterator[Check]:
    verify: ssl.SSLContext | bool = not mlflow.insecure_tls
    if verify and mlflow.ca_file:
        verify = httpx.create_ssl_context()
        verify.load_verify_locations(cafile=str(mlflow.ca_file))
    before = datetime.now(UTC)
    try:
        answer = httpx.head(uri, verify=verify, timeout=10.0, follow_redirects=False)
        theirs = parsedate_to_datetime(answer.headers["date"]).astimezone(UTC)
    except (httpx.HTTPError, KeyError, ValueError) as exc:
        step = "Make sure that it follows a time server; hot passes allow for clocks that differ by run_overlap."
        yield warn("clock", f"the server does not tell its time ({type(exc).__name__})", step, one.name)
        return
    middle = before + (datetime.now(UTC) - before) / 2
    # A Date header is cut to the second: its moment is half a second later on average.
    difference = (theirs - middle).total_seconds() + 0.5
    overlap = mlflow.run_overlap.total_seconds()
    if abs(difference) <= min(_CLOCK, overlap / 2):
        yield ok("clock", f"agrees with this machine's within {max(1, abs(difference)):.0f} s", one.name)
        return
    message = f"the server's clock is {apart(difference)}; run_overlap is {overlap:,.0f} s"
    step = "Let both follow a time server (NTP), or raise run_overlap: hot passes find new runs by their times."
    level = fail if abs(difference) >= overlap else warn
    yield level("clock", message, step, one.name)


#: What MLflow's own client sees, asked in a process of its own: its settings are global, and a secret must not
#: stay in our environment.
_ASK = """
import json, sys
from mlflow import MlflowClient
from mlflow.entities import ViewType
page = MlflowClient().search_experiments(
    view_type=ViewType.ALL, max_results=int(sys.argv[1]), order_by=["experiment_id ASC"])
print(json.dumps([e.experiment_id for e in page]))
"""


def _client(
    one: WorkspaceSettings, mlflow: MlflowSettings, uri: str, environ: Mapping[str, str], ours: Sequence[str]
) -> Iterator[Check]:
    """MLflow's own client must get in with the same credentials and see the same first page of experiments."""
    if mlflow.auth == "azure":
        return  # Entra's tokens are fetched by our own client; MLflow's takes what it is given
    command = [sys.executable, "-c", _ASK, str(mlflow.page_size)]
    try:
        done = subprocess.run(
            command,
            env=_environment(mlflow, uri, environ),
            capture_output=True,
            text=True,
            timeout=_CLIENT_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        theirs = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 and done.stdout else None
    except (subprocess.TimeoutExpired, ValueError, OSError):
        theirs = None
    name = "MLflow's client"
    if theirs is None:
        step = (
            "Set MLFLOW_TRACKING_URI and try: python -c 'import mlflow; mlflow.search_experiments()'. A proxy in"
            " between may treat the two differently."
        )
        yield warn(name, "MlflowClient could not list the experiments, though stocktake could", step, one.name)
    elif set(theirs) == set(ours):
        yield ok(name, f"sees the same first page of {len(ours):,} experiments", one.name)
    else:
        missing, more = len(set(theirs) - set(ours)), len(set(ours) - set(theirs))
        message = f"sees another first page of experiments: {missing} only it sees, {more} only stocktake sees"
        step = "Run doctor again, somebody may have made one in between; if it stays so, report it."
        yield (fail if missing else warn)(name, message, step, one.name)


def _environment(mlflow: MlflowSettings, uri: str, environ: Mapping[str, str]) -> dict[str, str]:
    given = {key: value for key, value in environ.items() if not key.startswith(("MLFLOW_", "_MLFLOW_"))}
    wanted = {
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_TRACKING_USERNAME": mlflow.username,
        "MLFLOW_TRACKING_PASSWORD": secret(environ, mlflow.password_env),
        "MLFLOW_TRACKING_TOKEN": secret(environ, mlflow.token_env),
        "MLFLOW_TRACKING_SERVER_CERT_PATH": str(mlflow.ca_file) if mlflow.ca_file else None,
        "MLFLOW_TRACKING_INSECURE_TLS": "true" if mlflow.insecure_tls else None,
        "MLFLOW_WORKSPACE": mlflow.workspace,
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    return given | {key: value for key, value in wanted.items() if value}


def _unwatched(settings: Settings, one: WorkspaceSettings, facts: Mapping[str, Any]) -> Iterator[Check]:
    """Say which MLflow workspaces of the same server nobody watches."""
    there = set(facts.get("workspaces") or ())
    if not there:
        return
    place = _place(one)
    watched = {
        each.mlflow.workspace or "default"
        for each in settings.workspaces
        if each.mlflow is not None and _place(each) == place
    }
    if rest := sorted(there - watched):
        message = f"the server has {len(there)} MLflow workspaces; nobody watches {', '.join(rest[:20])}"
        step = "Add one entry under `workspaces` for each, with mlflow.workspace set to its name."
        yield warn("MLflow workspaces", message, step, one.name)
    else:
        yield ok("MLflow workspaces", f"all {len(there)} are watched", one.name)


def _place(one: WorkspaceSettings) -> str:
    return address(one).partition("#")[0]
