"""An inventory moves from the embedded Postgres to a server and back: every answer is the same, or nothing is moved."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from stocktake.core.assets import ScanState
from stocktake.core.redact import Redactor
from stocktake.core.remembered import Sought
from stocktake.store import dump, installation, redactions
from stocktake.store.embedded import embedded_postgres
from stocktake.store.engine import make_engine
from tests.conftest import clone
from tests.integration.scripted import KEY, World, scan
from tests.integration.test_cli import Answer, Cli, configured

_SECRET = "Erika Mustermann"


def _world() -> World:
    """More than one page and experiment, odd characters, logged models."""
    world = World(owner="grace")
    for number in range(60):
        world.add_run(f"run{number:03d}", experiment=str(number % 3))
        world.runs[f"run{number:03d}"]["params"] = {"lr": "0.1", "note": "tab\there \\ \0 \ud800 é\n"}
    world.models["m-1"] = {"experiment_id": "1", "name": "model", "status": "READY"}
    world.runs["run004"]["tags"]["author"] = _SECRET
    return world


def _fill(url: str) -> World:
    """A history: a baseline, edits, a deletion, purges, removals that are withheld, a failure, a redaction."""
    engine = make_engine(url)
    world = _world()
    installation.check_key(engine, KEY)
    scan(engine, world)
    for number in range(0, 60, 7):
        world.runs[f"run{number:03d}"]["tags"]["review"] = f"edit {number}"
    world.runs["run001"]["info"]["lifecycle_stage"] = "deleted"
    world.add_run("late", experiment="2")
    scan(engine, world)
    for number in (8, 9):
        del world.runs[f"run{number:03d}"]
    world.models.clear()
    scan(engine, world)
    for number in range(10, 50):
        world.runs.pop(f"run{number:03d}", None)
    assert scan(engine, world).counts["withheld"] > 10
    world.fail_runs_after = 0
    assert scan(engine, world).state != ScanState.COMPLETE
    world.fail_runs_after = None
    with engine.connect() as connection:
        redactor = Redactor(KEY)
        sought = Sought(_SECRET, redactor.fingerprint(_SECRET), redactor.remembered)
        words = redactions.survey(connection, sought).words.values()
    redactions.redact(engine, sought, redactor.remembered, words, actor="me", reason="asked to")
    engine.dispose()
    return world


@dataclass(frozen=True, slots=True)
class Places:
    """Three installations: the first has a history, the others are empty."""

    embedded: Cli
    server: Cli
    back: Cli
    server_url: str
    back_url: str
    world: World


def _installation(folder: Path, database: str) -> Cli:
    cli = configured(
        folder, f'database: "{database}"\nworkspaces:\n  - {{name: w, mlflow: {{uri: "http://127.0.0.1:1"}}}}\n'
    )
    (folder / "data").mkdir()
    (folder / "data" / "installation.key").write_text(KEY.hex())
    return cli


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, pg_server: str) -> Iterator[Places]:
    folder = tmp_path_factory.mktemp("dump")
    with ExitStack() as stack:
        server_url = stack.enter_context(clone(pg_server, "template0"))
        embedded = _installation(folder / "embedded", "embedded")
        back = _installation(folder / "back", "embedded")
        urls = [stack.enter_context(embedded_postgres(one.folder / "data" / "postgres")) for one in (embedded, back)]
        assert embedded("db", "upgrade").code == 0
        yield Places(embedded, _installation(folder / "server", server_url), back, server_url, urls[1], _fill(urls[0]))


@pytest.fixture(scope="module")
def dumped(places: Places) -> Path:
    """The dump of the first."""
    file = places.embedded.folder / "first.dump"
    answer = places.embedded("db", "dump", str(file))
    assert (answer.code, file.stat().st_mode & 0o777) == (0, 0o600), answer
    assert "installation.key" in answer.err
    return file


def _answers(cli: Cli) -> dict[str, Answer]:
    """What every question answers, now and in the past."""
    asked: dict[str, Answer] = {}

    def ask(*words: str) -> Any:
        asked[shlex.join(words)] = answer = cli(*words, "-o", "json")
        assert answer.code == 0, (words, answer)
        return answer.json()

    changes = ask("changes", "--expand")
    assert {"created", "updated", "deleted", "purged"} <= {one["type"] for one in changes}
    every = sorted({one["at"] for one in changes})
    times = [every[0], every[len(every) // 2], every[-1]]
    for kind in ("experiment", "run", "logged_model"):
        for one in ask("list", kind):
            if one["key"] in ("run000", "run001", "run004", "1", "m-1"):
                ask("history", kind, one["key"])
                ask("show", kind, one["key"])
        for at in times:
            ask("list", kind, "--at", at)
    ask("history", "run", "run008")
    ask("changes")
    ask("scope", "list")
    for at in times:
        ask("diff", "--from", at, "--to", times[-1])
    status = ask("status")
    for one in status:
        assert one.pop("age") > 0
        one.pop("uri")
    asked["status"] = Answer(0, json.dumps(status), "")
    return asked


def _ready(places: Places, dumped: Path) -> Cli:
    """The server with what was dumped; restored once."""
    if places.server("db", "current").out == "":
        answer = places.server("db", "restore", str(dumped))
        assert (answer.code, answer.err) == (0, ""), answer
        assert "read back and found equal" in answer.out
    return places.server


@pytest.fixture(scope="module")
def asked_before(places: Places) -> dict[str, Answer]:
    """What the first answers."""
    return _answers(places.embedded)


def test_every_answer_is_the_same_on_a_server(places: Places, dumped: Path, asked_before: dict[str, Answer]) -> None:
    server = _ready(places, dumped)
    assert len(asked_before) > 25
    assert _answers(server) == asked_before


def test_and_the_same_again_in_an_embedded_database(
    places: Places, dumped: Path, asked_before: dict[str, Answer]
) -> None:
    server = _ready(places, dumped)
    file = server.folder / "second.dump"
    assert server("db", "dump", str(file)).code == 0
    answer = places.back("db", "restore", str(file))
    assert (answer.code, answer.err) == (0, ""), answer
    assert _answers(places.back) == asked_before
    ours, theirs = (_header(one).sections for one in (dumped, file))
    assert ours == theirs  # byte by byte: their digests are equal
    assert {one.table: one.rows for one in ours}["version"] > 70


def test_the_next_scan_of_the_restored_one_reports_nothing_new(places: Places, dumped: Path) -> None:
    """And what does change is published: numbers go on where they were."""
    _ready(places, dumped)
    if not places.back("db", "current").out:
        assert places.back("db", "restore", str(dumped)).code == 0
    engine = make_engine(places.back_url)
    with engine.connect() as connection:
        last = connection.execute(text("SELECT max(scan_id), (SELECT max(asset_id) FROM asset) FROM scan")).one()
    report = scan(engine, places.world)
    told = {name: number for name, number in report.counts.items() if number and name not in ("seen", "requests")}
    assert told.pop("purged") == 40  # withheld until a second sweep confirmed them: that is remembered too
    assert told == {"redacted": 1}  # the head whose value was removed is looked at once more
    assert report.scan_id > last[0]
    places.world.add_run("after the move", experiment="1")
    assert scan(engine, places.world).counts["created"] == 1
    with engine.connect() as connection:
        assert connection.execute(text("SELECT max(asset_id) FROM asset")).scalar_one() > last[1]
    engine.dispose()


def test_the_key_is_not_in_the_dump(dumped: Path) -> None:
    raw = dumped.read_bytes()
    assert KEY not in raw
    assert KEY.hex().encode() not in raw
    assert _header(dumped).key_check == installation.check_value(KEY).hex()


@pytest.mark.parametrize("key", [None, (b"x" * 32).hex()])
def test_another_key_is_told_with_what_to_do(
    dumped: Path, tmp_path: Path, empty_database_url: str, key: str | None
) -> None:
    cli = _installation(tmp_path / "other", empty_database_url)
    path = cli.folder / "data" / "installation.key"
    path.unlink()
    if key:
        path.write_text(key)
    answer = cli("db", "restore", str(dumped))
    assert answer.code == 0
    assert ("is another one" if key else "is missing") in answer.err
    assert str(path) in answer.err
    assert "STOCKTAKE_REDACTION_KEY" in answer.err
    assert path.exists() == bool(key)  # none was made
    assert len(cli("list", "run", "-o", "json").json()) > 50
    refused = cli.process("scan")
    words = "another installation key" if key else "an installation key that is not here"
    assert (refused.code, words in refused.err, path.exists()) == (2, True, bool(key))


def _header(file: Path) -> dump.Header:
    with file.open("rb") as opened:
        return dump.read_header(opened, file.stat().st_size)


def _edited(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    """Change the header of a dump."""

    def edit(raw: bytes) -> bytes:
        magic, _, rest = raw[: dump.HEADER].partition(b"\n")
        given = json.loads(rest)
        change(given)
        made = magic + b"\n" + json.dumps(given).encode()
        return made.ljust(dump.HEADER) + raw[dump.HEADER :]

    return edit


def _flipped(raw: bytes) -> bytes:
    """One bit of a document is another, and everything else is right."""
    at = raw.index(b"experiment_id", dump.HEADER)
    return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


BAD: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda _: b"", "is no dump of stocktake"),
    "something else": (lambda raw: b"PGDMP" + raw[5:], "is no dump of stocktake"),
    "cut in the header": (lambda raw: raw[:100], "not whole"),
    "cut in a table": (lambda raw: raw[: len(raw) // 2], "not whole"),
    "cut at the end": (lambda raw: raw[:-1], "not whole"),
    "too long": (lambda raw: raw + b"x", "not whole"),
    "a damaged header": (lambda raw: raw[:60] + b"\xff" + raw[61:], "header of this dump is damaged"),
    "one bit": (_flipped, "`version` of this dump is damaged"),
    "a row less": (_edited(lambda given: given["sections"][0].update(rows=99)), "is damaged"),
    "other tables": (_edited(lambda given: given["sections"][0].update(table="pg_class")), "not those of its revision"),
    "a later format": (lambda raw: raw.replace(b"dump 1\n", b"dump 9\n", 1), "format 9"),
    "an older revision": (
        _edited(lambda given: given.update(revision="0002", made_by="0.0.9")),
        "with stocktake 0.0.9",
    ),
    "a newer revision": (_edited(lambda given: given.update(revision="7777")), "Upgrade stocktake here"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_dump_that_is_not_right_is_refused_and_nothing_is_loaded(
    dumped: Path, tmp_path: Path, empty_database_url: str, name: str
) -> None:
    spoil, words = BAD[name]
    file = tmp_path / "bad.dump"
    file.write_bytes(spoil(dumped.read_bytes()))
    cli = _installation(tmp_path / "target", empty_database_url)
    answer = cli("db", "restore", str(file))
    assert (answer.code, answer.out) == (8, ""), answer
    assert words in answer.err
    assert answer.err.count("\n") == 1
    engine = make_engine(empty_database_url)
    with engine.connect() as connection:
        if connection.execute(text("SELECT to_regclass('asset')")).scalar() is not None:
            for table in dump.tables():
                assert connection.execute(text(f"SELECT count(*) FROM {table.name}")).scalar() == 0
    engine.dispose()


def test_a_database_that_is_not_empty_is_refused(places: Places, dumped: Path) -> None:
    server = _ready(places, dumped)
    before = server("changes", "--expand", "-o", "json")
    answer = server("db", "restore", str(dumped))
    assert (answer.code, "is not empty" in answer.err) == (8, True)
    assert server("changes", "--expand", "-o", "json") == before


def test_a_database_of_another_program_is_refused(dumped: Path, tmp_path: Path, empty_database_url: str) -> None:
    engine = make_engine(empty_database_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version AS SELECT 'bf29a5ff90ea' AS version_num"))
    engine.dispose()
    answer = _installation(tmp_path / "target", empty_database_url)("db", "restore", str(dumped))
    assert (answer.code, "bf29a5ff90ea" in answer.err) == (8, True)


def test_a_database_that_somebody_writes_to_is_refused(
    dumped: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dump, "_LOCK_SECONDS", 1)
    engine = make_engine(database_url)
    with engine.connect() as other, other.begin(), dumped.open("rb") as file:
        other.execute(text("LOCK TABLE workspace IN ROW EXCLUSIVE MODE"))
        header = dump.read_header(file, dumped.stat().st_size)
        with pytest.raises(dump.DumpError, match="Somebody else uses"):
            dump.restore(engine, file, header)
    engine.dispose()


def test_an_empty_database_of_ours_may_have_known_a_key(dumped: Path, tmp_path: Path, database_url: str) -> None:
    engine = make_engine(database_url)
    installation.check_key(engine, b"y" * 32)
    assert _installation(tmp_path / "target", database_url)("db", "restore", str(dumped)).code == 0
    installation.check_key(engine, KEY)
    engine.dispose()


@pytest.mark.parametrize(
    ("file", "words"),
    [("missing/x.dump", "No such file"), ("there.dump", "is there already"), ("/sys/x.dump", "cannot be written")],
)
def test_a_dump_that_cannot_be_written_there_says_why(places: Places, tmp_path: Path, file: str, words: str) -> None:
    (tmp_path / "there.dump").write_text("mine")
    answer = places.embedded("db", "dump", str(tmp_path / file))
    assert (answer.code, answer.out) == (8, ""), answer
    assert words in answer.err
    assert (tmp_path / "there.dump").read_text() == "mine"
    assert [one.name for one in tmp_path.iterdir()] == ["there.dump"]


def test_a_file_that_cannot_be_read_says_why(places: Places, tmp_path: Path) -> None:
    for file, words in ((tmp_path / "no.dump", "No such file"), (tmp_path, "Is a directory")):
        answer = places.server("db", "restore", str(file))
        assert (answer.code, words in answer.err) == (8, True), answer


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_dump_that_is_stopped_leaves_no_file_that_looks_whole(places: Places, tmp_path: Path, how: int) -> None:
    file = tmp_path / "x.dump"
    process = places.embedded.start("db", "dump", str(file))
    while process.poll() is None and not list(tmp_path.iterdir()):
        pass
    process.send_signal(how)
    _, err = process.communicate(timeout=30)
    assert "Traceback" not in err
    if file.exists():  # it was done before the signal came
        assert _header(file).rows > 70
    elif how != signal.SIGKILL:
        # Where it fell into code that is run from a string (a dataclass being made), CPython ends itself by SIGINT in
        # the end, though it was handled: 130 to every shell as well.
        assert process.returncode in (130, -signal.SIGINT), err
        assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_half_file(places: Places, tmp_path: Path) -> None:
    """The limit of a file's size is met as a full disk is: by a write that fails."""
    command = shlex.join([sys.executable, "-m", "stocktake", "db", "dump", str(tmp_path / "x.dump")])
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 64; exec {command}"],
        env=places.embedded.environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (8, "")
    assert "cannot be written: File too large. Free some space" in done.stderr
    assert list(tmp_path.iterdir()) == []
