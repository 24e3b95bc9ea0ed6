"""The content of a job over a real Azurite: all of it, nothing else, and on where it stopped."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stocktake.core.errors import SourceError, Trouble
from stocktake.sources.azure_blobs import Blobs, Fetched
from stocktake.sources.azure_blobs_folder import PARTS, DiskTrouble, place, room_for
from stocktake.sources.azure_identity import CredentialConfig, Token
from tests.servers.azurite import Azurite, azurite, storage_token

MB = 1024 * 1024
BIG = bytes(range(256)) * 4096 * 9  # 9 MB: three chunks
JOB = {"logs/std_log.txt": b"epoch 1\n", "model/MLmodel": b"flavors: {}\n", "outputs/big.bin": BIG, "empty": b""}


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    pytest.importorskip("azure.storage.blob", reason="left out: azure-ai-ml is not installed (requirements/azure.txt)")
    with azurite(tmp_path_factory.mktemp("azurite")) as running:
        yield running


def token(text: str | None = None) -> Token:
    return Token(CredentialConfig(kind="token", token=text or storage_token()), "https://storage.azure.com/.default")


def blobs(storage: Azurite, job: str, *, container: str = "azureml", given: str | None = None) -> Blobs:
    return Blobs(storage.container(container), f"ExperimentRun/dcid.{job}/", token(given), ca_file=str(storage.ca_file))


def put(storage: Azurite, job: str, content: dict[str, bytes]) -> None:
    storage.put("azureml", {f"ExperimentRun/dcid.{job}/{name}": text for name, text in content.items()})


def tree(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_the_folder_of_a_job_comes_whole_and_nothing_of_a_job_whose_name_begins_alike(
    storage: Azurite, tmp_path: Path
) -> None:
    put(storage, "whole", JOB)
    put(storage, "whole_2", {"secret": b"another job's"})
    fetched, heard = Fetched(), list[int]()
    before = storage.mark()
    blobs(storage, "whole").fetch(tmp_path / "a", fetched, tell=heard.append)
    assert tree(tmp_path / "a") == JOB
    assert (fetched.blobs, fetched.bytes, fetched.there, fetched.refused) == (4, sum(map(len, JOB.values())), 0, 0)
    assert sum(heard) == fetched.bytes
    assert {method for method, _ in storage.asked(before)} == {"GET"}


def test_a_second_time_fetches_what_is_new_or_changed_alone(storage: Azurite, tmp_path: Path) -> None:
    put(storage, "again", JOB)
    blobs(storage, "again").fetch(tmp_path, Fetched())
    put(storage, "again", {"model/MLmodel": b"flavors: {x}", "new": b"1"})  # as long as it was, but for its end
    before, fetched = storage.mark(), Fetched()
    blobs(storage, "again").fetch(tmp_path, fetched)
    asked = [path.partition("?")[0].rpartition("/")[2] for _, path in storage.asked(before) if "comp=list" not in path]
    assert sorted(asked) == ["MLmodel", "new"]
    assert (fetched.blobs, fetched.there) == (5, 3)
    assert tree(tmp_path) == JOB | {"model/MLmodel": b"flavors: {x}", "new": b"1"}


def test_what_was_cut_goes_on_where_it_stopped(storage: Azurite, tmp_path: Path) -> None:
    put(storage, "cut", {"big.bin": BIG})

    def cut(size: int) -> None:
        if size:
            raise SourceError(Trouble.UNREACHABLE, "the line went dead", next_step="")

    fetched = Fetched()
    with pytest.raises(SourceError, match="went dead"):
        blobs(storage, "cut").fetch(tmp_path, fetched, tell=cut)
    assert fetched.blobs == 0
    (part,) = (tmp_path / PARTS).iterdir()
    assert 0 < part.stat().st_size < len(BIG)
    have, heard = part.stat().st_size, list[int]()
    blobs(storage, "cut").fetch(tmp_path, fetched, tell=heard.append)
    assert heard[0] == have
    assert tree(tmp_path) == {"big.bin": BIG}


def test_what_was_cut_and_is_another_blob_now_begins_anew(storage: Azurite, tmp_path: Path) -> None:
    put(storage, "anew", {"big.bin": BIG})

    def cut(size: int) -> None:
        if size:
            raise SourceError(Trouble.UNREACHABLE, "the line went dead", next_step="")

    with pytest.raises(SourceError):
        blobs(storage, "anew").fetch(tmp_path, Fetched(), tell=cut)
    other = bytes(reversed(BIG))
    put(storage, "anew", {"big.bin": other})
    blobs(storage, "anew").fetch(tmp_path, Fetched())
    assert (tmp_path / "big.bin").read_bytes() == other


def test_names_that_lead_elsewhere_are_refused_and_the_others_come(storage: Azurite, tmp_path: Path) -> None:
    put(storage, "names", {"a\\..\\..\\b": b"x", "c//d": b"x", "fine": b"x", f"{PARTS}/e": b"x"})
    fetched = Fetched()
    blobs(storage, "names").fetch(tmp_path / "in", fetched)
    assert tree(tmp_path) == {"in/fine": b"x"}
    assert (fetched.blobs, fetched.refused, len(fetched.examples)) == (1, 3, 3)
    assert any("c//d: its name leads out of the folder" in why for why in fetched.examples)


_PARTS = st.sampled_from(["..", ".", "", "a", "b c", "…", "C:", "\\", "\0", "\n", PARTS, "x" * 300])


@given(st.lists(_PARTS, min_size=1, max_size=5).map("/".join))
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    root = Path("/somewhere/in")
    try:
        found = place(root, name)
    except ValueError:
        return
    assert root in found.parents
    assert not {"..", "."} & set(found.relative_to(root).parts)
    assert found.relative_to(root).as_posix() == name


def test_a_link_in_the_folder_is_not_followed(storage: Azurite, tmp_path: Path) -> None:
    put(storage, "link", {"logs/one": b"x", "two": b"x"})
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "logs").symlink_to(tmp_path / "out")
    fetched = Fetched()
    blobs(storage, "link").fetch(tmp_path / "in", fetched)
    assert list((tmp_path / "out").iterdir()) == []
    assert (fetched.blobs, fetched.refused) == (1, 1)


def test_a_blob_that_is_also_a_folder_of_others_is_named_and_the_others_come(storage: Azurite, tmp_path: Path) -> None:
    put(storage, "both", {"model": b"x", "model/MLmodel": b"x", "other": b"x"})
    storage.put("azureml", {"ExperimentRun/dcid.both/marker": b""}, metadata={"hdi_isfolder": "true"})
    fetched = Fetched()
    blobs(storage, "both").fetch(tmp_path, fetched)
    assert (fetched.blobs, fetched.refused) == (2, 1)
    assert (tmp_path / "other").is_file()
    assert not (tmp_path / "marker").exists()


def test_a_full_disk_is_one_clear_error_and_what_came_is_gone_on_with(storage: Azurite, tmp_path: Path) -> None:
    put(storage, "full", {"a": b"small", "big.bin": BIG})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    kept = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5 * MB, hard))
    try:
        with pytest.raises(DiskTrouble) as caught:
            blobs(storage, "full").fetch(tmp_path, Fetched())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, kept)
    assert f"the disk of {tmp_path} is full" in str(caught.value)
    assert "run the command again" in str(caught.value)
    assert tree(tmp_path)["a"] == b"small"
    blobs(storage, "full").fetch(tmp_path, Fetched())
    assert tree(tmp_path) == {"a": b"small", "big.bin": BIG}


def test_a_folder_without_room_is_refused_before_anything_comes(tmp_path: Path) -> None:
    room_for(tmp_path / "not" / "there", 1)
    with pytest.raises(DiskTrouble, match=r"MB free, and 1,000,000,000,000\.0 MB are still to come"):
        room_for(tmp_path / "not" / "there", 10**18)


def test_a_folder_that_cannot_be_made_is_said(storage: Azurite, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskTrouble, match="cannot be written to"):
        blobs(storage, "whole").fetch(tmp_path / "file" / "in", Fetched())


def test_what_storage_refuses_is_said_with_the_role_to_give(storage: Azurite, tmp_path: Path) -> None:
    put(storage, "denied", {"a": b"x"})
    with pytest.raises(SourceError) as caught:
        blobs(storage, "denied", given=storage_token("https://management.azure.com")).fetch(tmp_path, Fetched())
    assert caught.value.trouble in (Trouble.PERMISSION, Trouble.AUTHENTICATION)
    with pytest.raises(SourceError) as caught:
        blobs(storage, "x", container="not-there").measure(tmp_path)
    assert (caught.value.trouble, caught.value.status) == (Trouble.NOT_FOUND, 404)
    assert "ContainerNotFound" in caught.value.what


def test_an_account_that_cannot_be_reached_is_said(storage: Azurite, tmp_path: Path) -> None:
    gone = Blobs("https://127.0.0.1:1/a/azureml", "x/", token(), ca_file=str(storage.ca_file), retries=0)
    with pytest.raises(SourceError, match="cannot be reached") as caught:
        gone.measure(tmp_path)
    assert caught.value.trouble == Trouble.UNREACHABLE
