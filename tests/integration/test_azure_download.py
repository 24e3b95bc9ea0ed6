"""`job download`: which outputs come, from where, and what lies there when it is interrupted. On a real Azurite."""

from __future__ import annotations

import fcntl
import os
import signal
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from stocktake.cli.download import Lines
from stocktake.demo.azure.jobs import Job
from tests.integration.ondemand import World, put, storage_in, world_in
from tests.servers.azurite import ACCOUNT, Azurite
from tests.servers.stalling import stalling

MB = 1024 * 1024


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with storage_in(tmp_path_factory.mktemp("azurite")) as running:
        yield running


@pytest.fixture
def world(tmp_path: Path, storage: Azurite, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with world_in(tmp_path, storage, database_url, monkeypatch) as made:
        yield made


def blobstore(world: World) -> str:
    """Put the workspace's blob store into the same account; return how the service calls a path in it."""
    world.workspace.edit(
        "datastores", "workspaceblobstore",
        properties={"accountName": ACCOUNT, "endpoint": "127.0.0.1", "containerName": f"{world.container}-blobs"},
    )  # fmt: skip
    place = f"subscriptions/{world.workspace.subscription}/resourcegroups/{world.workspace.group}/workspaces/CHURN"
    return f"azureml://{place}/datastores/workspaceblobstore/paths"


def written(world: World, job: Job, output: str, blobs: dict[str, bytes], *, kind: str = "uri_folder") -> None:
    """Let a job have written an output with a name."""
    at = f"azureml/{job.name}/{output}"
    world.storage.put(f"{world.container}-blobs", {f"{at}{name}": body for name, body in blobs.items()})
    uri = f"{blobstore(world)}/{at}" + ("" if kind == "uri_file" else "/")
    world.workspace.name_output(job.name, output, uri, kind=kind)


def files(folder: Path) -> dict[str, bytes]:
    return {one.relative_to(folder).as_posix(): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


def test_a_named_output_is_found_by_the_asset_it_became_and_no_key_is_asked_for(world: World) -> None:
    job = world.job(type="Command", status="Completed", reused=None)
    put(world, f"dcid.{job.name}", {"logs/std.txt": b"epoch 1"})
    written(world, job, "model", {"/MLmodel": b"flavors", "/data/model.pkl": b"x" * 1000, "_of_another/x": b"no"})
    before = world.storage.mark()
    (told,) = world.run("job", "download", job.name, "-W", "our-churn", "--output-name", "model", "-o", "json").json()
    folder = world.cli.folder / job.name
    assert files(folder) == {
        "named-outputs/model/MLmodel": b"flavors", "named-outputs/model/data/model.pkl": b"x" * 1000,
    }  # fmt: skip
    assert (told["output"], told["blobs"], told["error"]) == ("model", 2, None)
    assert told["told_by"] == f"data_version azureml_{job.name}_output_data_model/1"
    asked = [what for what, _ in world.server.seen.requests]
    assert {what.method for what in asked} == {"GET"}
    assert not [what.path for what in asked if "secrets" in what.path.lower() or "listkeys" in what.path.lower()]
    assert {method for method, _ in world.storage.asked(before)} == {"GET"}


def test_all_brings_the_logs_and_every_output_and_what_lies_elsewhere_keeps_none_of_the_others(world: World) -> None:
    job = world.job(type="Command", status="Completed", reused=None)
    put(world, f"dcid.{job.name}", {"logs/std.txt": b"epoch 1"})
    written(world, job, "model", {"/MLmodel": b"flavors"})
    world.workspace.name_output(job.name, "raw", "https://elsewhere.example/raw/?sig=Zx81mQp0aB73nTr5LwK2")
    answer = world.run("job", "download", job.name, "-W", "our-churn", "--all", "-o", "json", code=3)
    assert files(world.cli.folder / job.name) == {
        "artifacts/logs/std.txt": b"epoch 1", "named-outputs/model/MLmodel": b"flavors",
    }  # fmt: skip
    rows = {row["output"]: row for row in answer.json()}
    assert {name: row["blobs"] for name, row in rows.items()} == {"default": 1, "model": 1, "raw": 0}
    assert "output raw lies at https://elsewhere.example/raw/, which is no place in a datastore" in rows["raw"]["error"]
    assert "Zx81mQp0" not in answer.out + answer.err
    lines = world.run("fetches", "-o", "json").json()
    assert sorted((line["state"], line["blobs"], line["identity"] is not None) for line in lines) == [
        ("complete", 1, True), ("complete", 1, True), ("failed", 0, True),
    ]  # fmt: skip


def test_an_output_that_is_one_file_is_that_file(world: World) -> None:
    job = world.job(type="Command", status="Completed", reused=None)
    written(world, job, "table", {"": b"a,b\n", ".bak": b"another"}, kind="uri_file")
    world.run("job", "download", job.name, "-W", "our-churn", "--output-name", "table", "-p", "here")
    assert files(world.cli.folder / "here") == {"named-outputs/table/table": b"a,b\n"}


def test_an_output_of_which_nothing_is_left_is_said(world: World) -> None:
    job = world.job(type="Command", status="Completed", reused=None)
    written(world, job, "model", {"_of_another/x": b"no"})
    answer = world.run("job", "download", job.name, "-W", "our-churn", "--output-name", "model")
    assert answer.out.startswith("0 files, 0 B in ")
    assert "Nothing lies there: output model is empty, or was deleted." in answer.err


def test_an_output_that_there_is_not_is_said_with_those_that_there_are(world: World) -> None:
    job = world.job(type="Command", status="Completed", reused=None)
    written(world, job, "model", {"/MLmodel": b"flavors"})
    answer = world.run("job", "download", job.name, "-W", "our-churn", "--output-name", "models", code=7)
    assert f"job {job.name} has no output models; it has: default, model" in answer.err
    both = ("--all", "--output-name", "model")
    assert "Either one output, or all" in world.run("job", "download", job.name, "-W", "our-churn", *both, code=2).err


def test_an_output_of_another_workspace_or_of_nobody_knows_where_is_not_looked_for(world: World) -> None:
    job = world.job(type="Command", status="Completed", reused=None)
    there = blobstore(world).replace("CHURN", "vision")
    world.workspace.name_output(job.name, "model", f"{there}/azureml/model/")
    answer = world.run("job", "download", job.name, "-W", "our-churn", "--output-name", "model", code=4)
    assert "no place in a datastore of this workspace" in answer.err
    world.server.faults.status(403, "runs", times=None)  # what became of it, run history tells alone
    answer = world.run("job", "download", job.name, "-W", "our-churn", "--output-name", "model", code=4)
    assert "nobody says where output model lies" in answer.err
    assert "datastores" not in {what.family for what, _ in world.server.seen.requests}


def test_ctrl_c_on_a_terminal_leaves_whole_files_and_a_part_that_the_next_one_goes_on_with(
    tmp_path: Path, storage: Azurite, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = urlsplit(storage.url).port
    assert port is not None
    with (
        stalling(port) as relay,
        world_in(tmp_path, storage, database_url, monkeypatch, f"https://127.0.0.1:{relay.port}") as world,
    ):
        job = world.job(type="Command", status="Completed", reused=None)
        small, big = {f"logs/{number}.txt": b"epoch" for number in range(5)}, os.urandom(48 * MB)
        put(world, f"dcid.{job.name}", {**small, "model.bin": big})
        relay.flow(20 * MB)
        code, seen, took = on_terminal(world, relay.stalled, "job", "download", job.name, "-W", "our-churn")
        assert code == 130
        assert took < 15  # the server stays silent, and is not waited for
        assert "MB" in seen  # the bar
        assert "5 files are whole in " in seen
        assert "The same command goes on from here." in seen
        assert "Traceback" not in seen
        folder = tmp_path / job.name / "artifacts"
        left = files(folder)
        (part,) = (name for name in left if name.startswith(".stocktake-parts/"))
        assert {name: body for name, body in left.items() if name != part} == small
        assert 0 < len(left[part]) < len(big)
        (line,) = world.run("fetches", "-o", "json").json()
        assert (line["state"], line["blobs"]) == ("interrupted", 5)

        relay.flow()
        answer = world.run("job", "download", job.name, "-W", "our-churn")
        assert "6 files" in answer.out
        assert "5 of them were there before" in answer.out
        assert files(folder) == {**small, "model.bin": big}
        assert relay.passed < len(big) - len(left[part]) + MB  # no byte came twice


def on_terminal(world: World, ready: threading.Event, *arguments: str) -> tuple[int, str, float]:
    """Run a command on a terminal of its own, and press Ctrl-C once something is so: the exit code, what the terminal
    showed, and how long the end took."""
    ours, its = os.openpty()

    def own() -> None:
        os.setsid()
        fcntl.ioctl(its, termios.TIOCSCTTY, 0)

    process = world.cli.start(*arguments, stdin=its, stdout=its, stderr=its, preexec_fn=own)
    os.close(its)
    shown = bytearray()

    def read() -> None:
        try:
            while chunk := os.read(ours, 65536):
                shown.extend(chunk)
        except OSError:
            pass  # so a terminal ends on Linux

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert ready.wait(60), shown.decode(errors="replace")
        began = time.monotonic()
        os.write(ours, b"\x03")
        code = process.wait(60)
        took = time.monotonic() - began
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait(10)
        reader.join(10)
        os.close(ours)
    return code, shown.decode(errors="replace"), took


def test_where_there_is_no_terminal_a_line_tells_every_ten_seconds_how_far_it_is() -> None:
    now, said = 0.0, list[str]()
    lines = Lines("default", 40_000_000, said.append, lambda: now)
    for now in (3.0, 9.0, 11.0, 12.0, 22.0):  # noqa: B007 - the clock
        lines(8_000_000)
    assert said == ["default: 24.0 MB of 40.0 MB (60 %).", "default: 40.0 MB of 40.0 MB (100 %)."]
