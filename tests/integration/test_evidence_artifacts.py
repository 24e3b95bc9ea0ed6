"""`stocktake evidence job NAME --artifact PATH`: files of a job in its bundle, by our own identity, and noted."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stocktake.reports.evidence_check import check
from tests.integration.ondemand import World, put, storage_in, world_in
from tests.servers.azurite import Azurite


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with storage_in(tmp_path_factory.mktemp("azurite")) as running:
        yield running


@pytest.fixture
def world(tmp_path: Path, storage: Azurite, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with world_in(tmp_path, storage, database_url, monkeypatch) as made:
        yield made


def test_files_and_folders_of_a_job_are_in_its_bundle_and_what_is_not_there_is_said(world: World) -> None:
    job = world.job(type="Command", status="Completed", reused=None)
    put(world, f"dcid.{job.name}", {"logs/std.txt": b"epoch 1", "logs/err.txt": b"", "model/MLmodel": b"flavors"})
    world.run("scan", "our-churn")
    before = world.storage.mark()
    answer = world.run(
        "evidence", "job", job.name, "-w", "our-churn", "--artifact", "logs", "--artifact", "model/MLmodel",
        "--output", "bundle.zip",
    )  # fmt: skip
    assert "3 artifacts" in answer.out
    with zipfile.ZipFile("bundle.zip") as bundle:
        held = {name: bundle.read(name) for name in bundle.namelist() if name.startswith("artifacts/")}
        page = bundle.read("index.html").decode()
    assert held == {
        "artifacts/logs/std.txt": b"epoch 1",
        "artifacts/logs/err.txt": b"",
        "artifacts/model/MLmodel": b"flavors",
    }
    assert "artifacts/model/MLmodel" in page
    assert check(Path("bundle.zip")).wrong == []
    assert {method for method, _ in world.storage.asked(before)} == {"GET"}
    lines = world.run("fetches", "-o", "json").json()
    assert sorted((line["what"], line["state"], line["blobs"]) for line in lines) == [
        ("download", "complete", 1), ("download", "complete", 2),
    ]  # fmt: skip
    answer = world.run(
        "evidence", "job", job.name, "-w", "our-churn", "--artifact", "nothing", "--output", "other.zip", code=3
    )
    assert "nothing lies there" in answer.err
