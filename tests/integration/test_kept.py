"""With a real MLflow server that stays as it is: after a redaction, and after a move, the next scan reports nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from stocktake.store.engine import make_engine
from stocktake.store.tables import METADATA
from tests.conftest import clone
from tests.integration.test_cli import Cli, configured
from tests.servers.content import V2, Writer, fill
from tests.servers.mlflow_server import mlflow_server

VALUE = "Erika Mustermann"


def _write_everywhere(uri: str) -> None:
    """Log the value wherever people can write, and change it in one place, so that a change holds it."""
    writer = Writer(uri)
    experiment = writer.experiment(f"trials of {VALUE}", contact=VALUE)
    run = writer.run(
        experiment,
        f"by {VALUE}",
        params={"who": VALUE, f"p of {VALUE}": "1", "command": f"train --by '{VALUE}'", "json": f'{{"by":"{VALUE}"}}'},
        metrics={f"score of {VALUE}": 0.5},
        tags={
            "mlflow.user": VALUE,
            "owner": VALUE,
            "mlflow.source.name": f"/home/{VALUE}/train.py",
            "glued": f"x{VALUE}y",
        },
    )
    dataset = {"name": f"{VALUE} 1", "digest": "d", "source_type": "local", "source": f'{{"uri": "/data/{VALUE}.csv"}}'}
    writer.send(f"{V2}/runs/log-inputs", {"run_id": run, "datasets": [{"tags": [], "dataset": dataset}]})
    model = writer.logged_model(experiment, run, "tree")
    writer.send(f"{V2}/logged-models/{model}/tags", {"tags": [{"key": "by", "value": VALUE}]}, method="PATCH")
    writer.registered_model("forest", run)
    described = {"name": "forest", "description": f"made by {VALUE}"}
    writer.send(f"{V2}/registered-models/update", described, method="PATCH")
    writer.send(f"{V2}/model-versions/update", described | {"version": "1"}, method="PATCH")
    writer.close()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, pg_server: str, pg_template: str) -> Iterator[tuple[Cli, str]]:
    """An installation that has scanned twice what no rule takes for a secret."""
    folder = tmp_path_factory.mktemp("kept")
    with mlflow_server(folder / "mlflow") as server, clone(pg_server, pg_template) as database:
        fill(server.uri)
        _write_everywhere(server.uri)
        watched = (
            f'workspaces:\n  - {{name: research, mlflow: {{uri: "{server.uri}"}}}}\n'
            f'  - {{name: behind, mlflow: {{database: "sqlite:///{folder}/mlflow/mlflow.db"}}}}\n'
        )
        cli = configured(folder / "first", f'database: "{database}"\n{watched}')
        assert cli.process("scan").code == 0
        writer = Writer(server.uri)
        for one in cli("list", "run", "-w", "research", "-o", "json").json():
            if one["owner"] == VALUE:
                writer.send(f"{V2}/runs/set-tag", {"run_id": one["key"], "key": "reviewer", "value": VALUE})
        writer.close()
        assert cli.process("scan").out.count("1 updated") == 2
        yield cli, database


def _holding(database: str) -> dict[str, int]:
    engine = make_engine(database)
    count = "SELECT count(*) FROM {} t WHERE strpos(t::text, 'Mustermann') > 0"
    with engine.connect() as connection:
        counts = {t.name: connection.execute(text(count.format(t.name))).scalar_one() for t in METADATA.sorted_tables}
    engine.dispose()
    return {name: number for name, number in counts.items() if number}


def _nothing_new(cli: Cli, *how: str) -> None:
    answer = cli.process("scan", *how, "-o", "json")
    assert answer.code == 0, answer
    assert len(answer.json()) == 2
    for report in answer.json():
        assert report["seen"] > 10 or "--hot" in how
        for name in ("created", "updated", "deleted", "restored", "purged", "baseline", "carried", "withheld"):
            assert report[name] == 0, (name, report)


def test_after_a_redaction_nothing_holds_the_value_and_nothing_changed(kept: tuple[Cli, str]) -> None:
    cli, database = kept
    kinds = ("experiment", "run", "logged_model", "registered_model", "model_version")
    assert _holding(database) == {"version": 12, "change": 2, "finding": 3, "finding_event": 2}
    before = {kind: cli("list", kind, "-o", "json").json() for kind in kinds}
    done = subprocess.run(
        [sys.executable, "-m", "stocktake", "redact", "--reason", "a name", "--yes"],
        input=VALUE, env=cli.environment(), cwd=cli.folder, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done
    assert "12 states and 2 changes of 10 assets" in done.stdout
    assert _holding(database) == {}
    after = {kind: cli("list", kind, "-o", "json") for kind in kinds}
    mark = done.stdout.split("Replaced by ")[1].split(".\n")[0]
    for kind in kinds:
        assert str(before[kind]).replace(VALUE, mark) == str(after[kind].json()) or kind == "run"  # names sort anew
    runs = [one for one in after["run"].json() if one["owner"] == mark]
    assert {one["workspace"] for one in runs} == {"research", "behind"}
    for run in runs:
        assert (run["name"], run["code_version"]) == (f"by {mark}", f"/home/{mark}/train.py")
        assert run["document"]["tags"]["glued"] == f"x{mark}y"
    for how in ("--hot", "--sweep", "--sweep"):
        _nothing_new(cli, how)
    assert _holding(database) == {}
    assert len(cli("changes", "-o", "json").json()) == 2


def test_after_a_move_the_next_scan_reports_nothing(kept: tuple[Cli, str], pg_server: str, tmp_path: Path) -> None:
    cli, database = kept
    assert cli("db", "dump", str(tmp_path / "x.dump")).code == 0
    with clone(pg_server, "template0") as another:
        moved = configured(tmp_path / "moved", cli.config.read_text().replace(database, another))
        (moved.folder / "data").mkdir()
        key = (cli.folder / "data" / "installation.key").read_text()
        (moved.folder / "data" / "installation.key").write_text(key)
        assert moved("db", "restore", str(tmp_path / "x.dump")).err == ""
        for words in (
            ("changes",),
            ("list", "run"),
            ("list", "model_version"),
            ("history", "registered_model", "forest"),
        ):
            assert moved(*words, "-o", "json") == cli(*words, "-o", "json")
        for how in ("--sweep", "--hot"):
            _nothing_new(moved, how)
