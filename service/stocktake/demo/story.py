"""The demonstration from beginning to end: a world, a first look, changes behind our back, a second look, and watching.

It keeps its own database and key under `demo/` in the data folder, so that what it shows never mixes with what you
watch; each demonstration begins with an empty inventory.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from sqlalchemy import Engine, text

from stocktake.core.assets import Kind, Lifecycle, Mode, ScanState
from stocktake.core.errors import ConfigError
from stocktake.demo import azure_world, changes
from stocktake.demo.azure_world import AzureWorld
from stocktake.demo.world import DemoWorld, Interrupted, free_port, is_free
from stocktake.pipeline import ScanReport, Stopped
from stocktake.settings import Settings
from stocktake.store import finding_list, history
from stocktake.wiring import App, open_app

WORKSPACE = "demonstration"
CONFIG = "stocktake.yaml"
HOT, SWEEP = "20s", "60s"  # short, so that somebody who plays with the server sees an answer soon

#: Kinds in the order in which a newcomer understands them.
_KINDS = (
    Kind.WORKSPACE, Kind.EXPERIMENT, Kind.RUN, Kind.LOGGED_MODEL, Kind.REGISTERED_MODEL, Kind.MODEL_VERSION,
    Kind.TRACE, Kind.WEBHOOK,
)  # fmt: skip
_AZURE_KINDS = (
    Kind.WORKSPACE, Kind.JOB, Kind.CHILD_JOB, Kind.RUN, Kind.REGISTERED_MODEL, Kind.MODEL_VERSION, Kind.ONLINE_ENDPOINT,
    Kind.ONLINE_DEPLOYMENT, Kind.COMPUTE, Kind.SCHEDULE, Kind.DATA_VERSION, Kind.ENVIRONMENT_VERSION, Kind.DATASTORE,
    Kind.ROLE_ASSIGNMENT, Kind.STORAGE_ACCOUNT,
)  # fmt: skip


_COLUMNS = ("KIND", "ASSETS", "OF THESE", "FOR EXAMPLE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Show:
    """How the story is told; the command line hands in the tables of its own commands."""

    tell: Callable[[str], None]  # one line of the story
    table: Callable[[Sequence[str], Sequence[Sequence[str]]], None]
    changes: Callable[[Sequence[history.ChangeRow]], None]  # as `stocktake changes` shows them
    findings: Callable[[Sequence[finding_list.FindingRow]], None]  # as `stocktake finding list` shows them


def demo_folder(data_dir: Path) -> Path:
    """Return where a demonstration keeps everything: a data folder of its own."""
    return data_dir / "demo"


def demo_settings(settings: Settings, uri: str, azure: AzureWorld | None = None) -> Settings:
    """Take a user's settings for everything that is not about what is watched or where it is kept."""
    web = settings.web.model_dump()
    if not is_free(settings.web.host, settings.web.port):
        web["port"] = free_port()  # another stocktake has it: no reason to end a demonstration
    made = Settings.model_validate(
        settings.model_dump(exclude_unset=True, exclude={"database", "workspaces", "schedule", "telemetry"})
        | {
            "database": "embedded",
            "workspaces": [
                {"name": WORKSPACE, "mlflow": {"uri": uri}},
                *([azure.configuration()] if azure is not None else []),
            ],
            "schedule": {"hot": HOT, "sweep": SWEEP, "splay": 0.0},
            "web": web,
        }
    )
    made._data_dir = demo_folder(settings.data_dir)
    return made


def run_demo(
    settings: Settings,
    *,
    show: Show,
    watch: Callable[[App, Callable[[str], object]], None],
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Tell the story, then `watch` until it returns. False when it was stopped before its end.

    What to type next is told once `watch` says at which address health and metrics are.

    Raises ConfigError when the extra is missing, another demonstration runs, or its server does not come up.
    """
    began = time.monotonic()
    folder = demo_folder(settings.data_dir)
    with _alone(folder), DemoWorld(folder, stop=stop) as world, azure_world.azure_world(world.folder) as azure:
        try:
            show.tell("This is the demonstration. A real MLflow server runs on this machine, and stocktake watches it.")
            show.tell(
                "Beside it answers what looks like Azure: one Azure Machine Learning workspace, on this machine too."
            )
            show.tell(f"Nothing of yours is touched: it has a folder of its own, {folder}.")
            show.tell("")
            show.tell("A small team trains models on the data sets of scikit-learn, while the server starts ...")
            environ = dict(os.environ) | {azure_world.TOKEN: azure.token}
            with open_app(demo_settings(settings, world.uri, azure), environ=environ) as app:
                _empty(app.engine)
                world.wait()
                app = replace(app, settings=demo_settings(settings, world.uri, azure))  # the port is certain only now
                _first_look(app, world, show)
                _second_look(app, world, azure, show)
                _write_configuration(folder / CONFIG, app.settings, world.uri, azure)
                show.tell("")
                show.tell(f"All of this took {time.monotonic() - began:.0f} seconds. Now ask it yourself:")

                def ready(url: str) -> None:
                    for line in (*_next(world.uri, folder, url, azure), *_to_its_end(app.engine, world.uri)):
                        show.tell(line)
                    show.tell("")
                    show.tell(
                        f"Watching on: what moves every {HOT}, everything every {SWEEP}. Ctrl-C ends it, and the"
                        " server with it."
                    )

                watch(app, ready)
        except (Interrupted, Stopped):
            return False
        except ConfigError:
            if stop():  # Ctrl-C reaches every program of a terminal: what we were starting ended first
                return False
            raise
    return True


def _first_look(app: App, world: DemoWorld, show: Show) -> None:
    show.tell(f"... and logs them in {world.uri}:")
    world.fill(lambda stage: show.tell(f"  - {stage}"))
    show.tell("")
    report = _scan(app, world)
    show.tell(f"The first look: {_looked(report)}. This is the inventory:")
    show.tell("")
    show.table(_COLUMNS, list(inventory(app.engine)))
    report = _scan(app, world, azure_world.NAME)
    show.tell("")
    show.tell(f"And of the Azure workspace {azure_world.NAME}: {_looked(report)}:")
    show.tell("")
    show.table(_COLUMNS, list(inventory(app.engine, azure_world.NAME, _AZURE_KINDS)))


def _second_look(app: App, world: DemoWorld, azure: AzureWorld, show: Show) -> None:
    show.tell("")
    show.tell("Now the team changes things, and tells nobody:")
    before = _now(app.engine)
    world.change(lambda what: show.tell(f"  - {what}"))
    azure.change(lambda what: show.tell(f"  - {azure_world.NAME}, {what}"))
    show.tell("")
    report = _scan(app, world)
    other = _scan(app, world, azure_world.NAME)
    show.tell(f"The second look: {_looked(report)}; of {azure_world.NAME} {_looked(other)}.")
    show.tell("This is what stocktake found out:")
    show.tell("")
    with app.engine.connect() as connection:
        show.changes(list(history.changes(connection, since=before)))
        found = list(finding_list.listed(connection))
    new = [one for one in found if not one.inherited]
    show.tell("")
    show.tell(
        f"Of that, somebody must look at this ({len(found) - len(new)} more were so before anybody looked:"
        " `stocktake finding list`):"
    )
    show.tell("")
    show.findings(new)


def _scan(app: App, world: DemoWorld, workspace: str = WORKSPACE) -> ScanReport:
    report = app.scan(workspace, Mode.SWEEP, stop=world.stop)
    if report.state == ScanState.FAILED:
        raise ConfigError(
            f"The demonstration's server could not be read: {report.error} {report.next_step} "
            f"Its log is {world.server.log_file}."
        )
    return report


def _looked(report: ScanReport) -> str:
    seconds = (report.finished_at - report.began_at).total_seconds()
    told = f"{report.counts.get('seen', 0)} assets read in {seconds:.1f} seconds, {report.state}"
    return told if report.error is None else f"{told} ({report.error})"


def inventory(
    engine: Engine, workspace: str = WORKSPACE, kinds: Sequence[Kind] = _KINDS
) -> Iterator[tuple[str, str, str, str]]:
    """Yield a line for every kind that has assets: how many, in what states, and one of them by name."""
    with engine.connect() as connection:
        for kind in kinds:
            rows = list(history.list_assets(connection, kind, workspaces=[workspace]))
            if not rows:
                continue
            states = Counter(_word(row) for row in rows)
            told = ", ".join(f"{count} {word}" for word, count in states.most_common() if word)
            example = next((row.name for row in rows if row.name and row.lifecycle == Lifecycle.ACTIVE), "")
            yield kind.replace("_", " "), str(len(rows)), told, example


def _word(row: history.AssetRow) -> str:
    if row.lifecycle == Lifecycle.DELETED:
        return "deleted"
    return "" if row.state in (None, "", "None") else str(row.state).lower()


def _next(uri: str, folder: Path, endpoint: str, azure: AzureWorld) -> list[str]:
    call = _command()
    return [
        "",
        "  # in another terminal, with the demonstration's own data:",
        f"  export STOCKTAKE_DATA_DIR={shlex.quote(str(folder))}",
        f"  export STOCKTAKE_CONFIG={shlex.quote(str(folder / CONFIG))}",
        f"  export {azure_world.TOKEN}={azure.token}",
        f"  {call} status",
        f"  {call} list run --where state=FAILED",
        f"  {call} history registered_model tumour-screening",
        f"  {call} changes --expand",
        f"  {call} history online_endpoint online-000",
        f"  {call} lineage model_version {azure_world.MODEL}/2",
        "  # its password became a fingerprint before it was stored:",
        f"  {call} show run elastic-net",
        "",
        f"Change something in MLflow's own pages, {uri}: within a minute `{call} changes` tells.",
        f"Health and metrics of stocktake: {endpoint}/readyz and /metrics.",
        f"To watch a server of yours: set MLFLOW_TRACKING_URI to its address, then `{call} up`.",
    ]


def _to_its_end(engine: Engine, uri: str) -> list[str]:
    """How to follow one finding's runbook until it is over: the alias goes back to where it pointed."""
    with engine.connect() as connection:
        found = next(
            (one for one in finding_list.listed(connection, rules=["model-alias-moved"]) if one.key == changes.MODEL),
            None,
        )
    if found is None:
        return []
    back = json.dumps({"name": changes.MODEL, "alias": changes.ALIAS, "version": changes.WAS_CHAMPION})
    call = _command()
    return [
        "",
        "Follow one finding to its end. Its evidence, and what to do:",
        f"  {call} finding show {found.id}",
        "Go back, as its runbook says (this is you: stocktake only reads):",
        f"  curl -X POST {uri}/api/2.0/mlflow/registered-models/alias -H 'Content-Type: application/json' -d '{back}'",
        f"Within {HOT} it is resolved, by the scan that saw it:",
        f"  {call} finding show {found.id}",
    ]


def _write_configuration(file: Path, settings: Settings, uri: str, azure: AzureWorld) -> None:
    """Leave a configuration for the terminal next door, where `stocktake scan` and `doctor` then work as well."""
    file.write_text(
        "# Written by each demonstration; edits are lost.\n"
        f'workspaces:\n  - name: {WORKSPACE}\n    mlflow: {{uri: "{uri}"}}\n'
        f"  - {json.dumps(azure.configuration())}\n"
        f"schedule: {{hot: {HOT}, sweep: {SWEEP}, splay: 0}}\n"
        f'web: {{host: "{settings.web.host}", port: {settings.web.port}}}\n',
        encoding="utf-8",
    )


def _command() -> str:
    """How to call us from the terminal next door, where no virtual environment may be active."""
    if shutil.which("stocktake"):
        return "stocktake"
    beside = Path(sys.executable).with_name("stocktake")
    return shlex.quote(str(beside)) if beside.exists() else f"{shlex.quote(sys.executable)} -m stocktake"


def _now(engine: Engine) -> datetime:
    with engine.connect() as connection:
        now: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return now


def _empty(engine: Engine) -> None:
    """Forget earlier demonstrations: their servers are gone, and this one's is another."""
    with engine.begin() as connection:
        tables: Sequence[str] = (
            connection.execute(
                text(
                    "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'"
                    " AND tablename NOT IN ('alembic_version', 'installation')"
                )
            )
            .scalars()
            .all()
        )
        if tables:
            connection.execute(text(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY CASCADE"))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder for one demonstration; the lock goes with the process, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"Another demonstration runs in {folder}. End it first, or give this one a folder of its own:"
                " set STOCKTAKE_DATA_DIR."
            ) from None
        yield
