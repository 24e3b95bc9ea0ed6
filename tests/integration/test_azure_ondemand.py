"""`job show`, `job download`, `workspace show` as people use them: Microsoft's client, a real Azurite, and the ledger.

Every request is watched: the loopback Azure raises at its end when anything but a read was sent.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from stocktake.demo.azure.seeded import TENANT
from tests.integration.ondemand import World, put, storage_in, world_in
from tests.integration.test_cli import configured
from tests.servers.azurite import Azurite
from tests.servers.entra import CLIENT


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with storage_in(tmp_path_factory.mktemp("azurite")) as running:
        yield running


@pytest.fixture
def world(tmp_path: Path, storage: Azurite, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with world_in(tmp_path, storage, database_url, monkeypatch) as made:
        yield made


def test_a_job_is_downloaded_by_our_own_identity_and_noted_and_no_key_is_asked_for(
    world: World, engine: Engine
) -> None:
    job = world.job(type="Command", status="Completed", reused=None)
    put(world, f"dcid.{job.name}", {"logs/std.txt": b"epoch 1", "model/MLmodel": b"x" * 1000})
    put(world, f"dcid.{job.name}2", {"logs/std.txt": b"of another"})
    before = world.storage.mark()
    scope = ("--subscription", world.workspace.subscription, "-g", "ML", "-w", "churn")
    (told,) = world.run("job", "download", job.name, *scope, "-o", "json").json()
    folder = world.cli.folder / job.name / "artifacts"
    assert {one.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_file()} == {
        "logs/std.txt", "model/MLmodel",
    }  # fmt: skip
    assert (told["blobs"], told["bytes"], told["told_by"], told["error"]) == (2, 1007, "run history", None)
    # Nothing but reads, of anything; the datastore was resolved, and nobody asked for its secrets.
    asked = [what for what, _ in world.server.seen.requests]
    assert {what.method for what in asked} == {"GET"}
    assert [what.path for what in asked if what.family == "datastores"] != []
    assert not [what.path for what in asked if "secrets" in what.path.lower() or "listkeys" in what.path.lower()]
    assert {method for method, _ in world.storage.asked(before)} == {"GET"}
    assert set(world.entra.scopes) == {f"{world.server.arm}/.default", "https://storage.azure.com/.default"}
    # The ledger, as a command tells it and as a view.
    (line,) = world.run("fetches", "-o", "json").json()
    assert (line["workspace"], line["kind"], line["key"], line["what"]) == ("our-churn", "job", job.name, "download")
    assert (line["state"], line["blobs"], line["bytes"]) == ("complete", 2, 1007)
    assert line["identity"] == f"application reader, client {CLIENT}, tenant {TENANT}"
    assert line["place"] == world.storage.container(world.container) + f"/ExperimentRun/dcid.{job.name}/"
    assert line["finished_at"] >= line["began_at"]
    with engine.connect() as connection:
        assert connection.execute(text("SELECT key, blobs FROM inventory.fetched")).one() == (job.name, 2)


def test_the_content_of_a_reused_step_comes_from_the_folder_it_is_in(world: World) -> None:
    job = world.job(type="Command", status="Completed")
    real = "an_earlier_step"
    world.workspace.jobs.put(replace(job, reused=real))
    put(world, f"dcid.{real}", {"out": b"made earlier"})
    answer = world.run("job", "download", job.name, "-W", "our-churn", "-p", "here")
    assert (world.cli.folder / "here" / "artifacts" / "out").read_bytes() == b"made earlier"
    assert answer.out.startswith("1 files, 12 B in here/artifacts.\n")


def test_without_run_history_the_jobs_own_word_tells_the_folder(world: World) -> None:
    job = world.job(type="Command", status="Completed", reused=None)
    put(world, f"dcid.{job.name}", {"out": b"x"})
    world.server.faults.status(403, "runs", times=None)
    (told,) = world.run("job", "download", job.name, "-W", "our-churn", "-o", "json").json()
    assert (told["blobs"], told["told_by"]) == (1, "the job's default output")


def test_a_second_download_fetches_nothing_twice(world: World) -> None:
    job = world.job(type="Command", status="Completed", reused=None)
    put(world, f"dcid.{job.name}", {"a": b"1", "b": b"2"})
    world.run("job", "download", job.name, "-W", "our-churn")
    answer = world.run("job", "download", job.name, "-W", "our-churn")
    assert "2 files, 2 B" in answer.out
    assert "2 of them were there before" in answer.out


def test_a_name_that_leads_elsewhere_is_refused_said_and_exits_with_3(world: World) -> None:
    job = world.job(type="Command", status="Completed", reused=None)
    put(world, f"dcid.{job.name}", {"fine": b"1", "..\\..\\evil": b"2"})
    answer = world.run("job", "download", job.name, "-W", "our-churn", code=3)
    assert "Not fetched: ../../evil: its name leads out of the folder" in answer.err
    (line,) = world.run("fetches", "-o", "json").json()
    assert (line["state"], line["blobs"]) == ("partial", 1)


def test_a_datastore_that_names_another_host_gets_no_token(world: World) -> None:
    world.workspace.edit("datastores", "workspaceartifactstore", properties={"endpoint": "evil.example"})
    job = world.job(type="Command", status="Completed", reused=None)
    answer = world.run("job", "download", job.name, "-W", "our-churn", code=4)
    assert "says that its account is below evil.example; no token may be sent there" in answer.err
    assert set(world.entra.scopes) == {f"{world.server.arm}/.default"}
    (line,) = world.run("fetches", "-o", "json").json()
    assert (line["state"], line["blobs"]) == ("failed", 0)
    assert "evil.example" in line["error"]


def test_a_job_is_shown_as_the_client_writes_it_with_secrets_replaced(world: World) -> None:
    job = world.job(type="Command", status="Completed")
    world.workspace.edit_job(job.name, tags={"api_key": "sk-Zx81mQp0aB73nTr5LwK2", "team": "churn"})
    (shown,) = world.run("job", "show", job.name, "--workspace", "our-churn", "-o", "json").json()
    assert (shown["name"], shown["status"], shown["type"]) == (job.name, "Completed", "command")
    assert shown["tags"]["team"] == "churn"
    assert shown["tags"]["api_key"].startswith("[redacted:")
    people = world.run("job", "show", job.name, "--workspace", "our-churn").out
    assert people.startswith(f"name: {job.name}\n")
    assert "Zx81mQp0" not in people


def test_a_workspace_is_shown(world: World) -> None:
    (shown,) = world.run("workspace", "show", "-w", "vision", "-o", "json").json()
    assert (shown["name"], shown["resource_group"], shown["location"]) == ("vision", "ml-2", "westeurope")
    (line,) = world.run("fetches", "-w", "our-vision", "-o", "json").json()
    assert (line["kind"], line["key"], line["what"], line["state"]) == ("workspace", "vision", "show", "complete")


def test_what_is_not_there_and_what_is_not_clear_is_said(world: World) -> None:
    answer = world.run("job", "show", "nobody", "-W", "our-churn", code=7)
    assert "there is no job nobody" in answer.err
    assert "Several workspaces are meant: our-churn, our-vision" in world.run("job", "show", "x", code=2).err
    assert "There are: our-churn, our-vision" in world.run("job", "show", "x", "-g", "elsewhere", code=7).err
    states = [line["state"] for line in world.run("fetches", "-o", "json").json()]
    assert states == ["failed"]


def test_a_missing_right_is_said_with_the_action(world: World) -> None:
    world.server.estate.deny(world.workspace.scope, "Microsoft.MachineLearningServices/workspaces/jobs/read")
    answer = world.run("job", "show", world.job(type="Command").name, "-W", "our-churn", code=4)
    assert "lacks Microsoft.MachineLearningServices/workspaces/jobs/read" in answer.err


def test_without_the_extra_one_line_says_how_to_install_it(tmp_path: Path) -> None:
    """The import is hidden from the process; nothing is asked, opened or noted."""
    (tmp_path / "hide.py").write_text(
        "import sys\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.startswith('azure.ai'): raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Hide())\n"
        "from stocktake.cli import run\n"
        "sys.exit(run(sys.argv[1:]))\n"
    )
    cli = configured(tmp_path, "workspaces: []\n")
    for arguments in (("job", "show", "x"), ("job", "download", "x"), ("workspace", "show")):
        done = subprocess.run(
            [sys.executable, "hide.py", *arguments], cwd=tmp_path, env=cli.environment(), capture_output=True,
            text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 2, done
        assert done.stderr.splitlines() == [
            "This needs azure-ai-ml, Microsoft's client, which is not installed here. Install it beside stocktake: pip"
            " install 'stocktake[azure]'"
        ]
    assert not (tmp_path / "data").exists()


def test_the_worker_and_every_other_command_do_without_microsofts_client() -> None:
    program = (
        "import json, sys, stocktake.worker, stocktake.cli.entry, stocktake.making, stocktake.wiring\n"
        "import stocktake.cli.download, stocktake.cli.ondemand, stocktake.sources.azure_ondemand\n"
        "import stocktake.sources.azure_blobs\n"
        "print(json.dumps([m for m in sys.modules if m.startswith(('azure.ai', 'azure.storage', 'marshmallow'))]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) == []


def test_microsofts_client_tells_nobody_of_classes_that_may_change_some_day() -> None:
    program = (
        "from stocktake.sources import azure_mlclient\n"
        "from stocktake.sources.azure_identity import CLOUDS\n"
        "azure_mlclient.made(next(iter(CLOUDS.values())), None, ('s', 'g', 'w'))\n"
        "from azure.ai.ml._utils._experimental import module_logger\n"
        "module_logger.warning('this is an experimental class')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert "experimental" not in done.stderr


def test_one_file_imports_microsofts_client_and_one_the_client_of_storage() -> None:
    service = Path(__file__).parents[2] / "service" / "stocktake"
    files = {file.name: file.read_text("utf-8") for file in service.rglob("*.py")}
    for package, only in (("azure.ai", "azure_mlclient.py"), ("azure.storage", "azure_blobs.py")):
        imports = re.compile(rf"^\s*(?:from|import) {re.escape(package)}\b", re.MULTILINE)
        assert [name for name, words in files.items() if imports.search(words)] == [only]
