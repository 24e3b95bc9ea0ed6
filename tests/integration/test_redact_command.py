"""`stocktake redact` as people use it: the value comes in unseen, and nothing that is said or kept has it."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from stocktake.core.assets import ScanState
from stocktake.store import installation
from stocktake.store.tables import METADATA
from tests.integration.scripted import KEY, World, scan
from tests.integration.test_cli import Answer, Cli, configured

VALUE = "Erika Mustermann"
GO = ("redact", "--reason", "found in a tag", "--yes")


def _world(size: int = 20) -> World:
    world = World(page=500)
    for number in range(size):
        world.add_run(f"run{number:04d}", experiment="1")
        world.runs[f"run{number:04d}"]["tags"] = {"author": VALUE if number % 2 else "nobody"}
    return world


@pytest.fixture
def cli(tmp_path: Path, engine: Engine, database_url: str) -> Iterator[Cli]:
    """An installation in whose inventory the value stands."""
    installation.check_key(engine, KEY)
    scan(engine, _world())
    made = configured(tmp_path, f'database: "{database_url}"\n')
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "installation.key").write_text(KEY.hex())
    yield made
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or file.name == "value" or VALUE.encode() not in file.read_bytes(), file


def _piped(cli: Cli, given: str | bytes, *arguments: str) -> Answer:
    """Run a command that reads its standard input; whatever happens, it does not say the value."""
    done = subprocess.run(
        [sys.executable, "-m", "stocktake", *arguments],
        input=given.encode() if isinstance(given, str) else given,
        env=cli.environment(),
        cwd=cli.folder,
        capture_output=True,
        check=False,
        timeout=60,
    )
    answer = Answer(done.returncode, done.stdout.decode(), done.stderr.decode())
    assert "Mustermann" not in answer.out + answer.err
    assert "Traceback" not in answer.err, answer.err
    return answer


def _holding(engine: Engine) -> int:
    with engine.connect() as connection:
        return sum(
            connection.execute(
                text(f"SELECT count(*) FROM {t.name} t WHERE t::text LIKE :v"), {"v": f"%{VALUE}%"}
            ).scalar_one()
            for t in METADATA.sorted_tables
        )


def test_a_dry_run_says_what_would_change_and_changes_nothing(cli: Cli, engine: Engine) -> None:
    answer = _piped(cli, f"  {VALUE}\r\n", "redact", "--dry-run")
    assert answer.code == 0, answer
    assert ": 10 states and 0 changes of 10 assets, 0 other rows." in answer.out
    assert "w: run run0001" in answer.out
    assert "Nothing was changed" in answer.err
    assert _holding(engine) == 10


def test_a_piped_value_is_removed_and_recorded(cli: Cli, engine: Engine) -> None:
    answer = _piped(cli, f"{VALUE}\n", *GO, "--by", "dpo@example.org")
    assert answer.code == 0, answer
    assert "VACUUM FULL" in answer.err
    assert _holding(engine) == 0
    with engine.connect() as connection:
        row = connection.execute(text("SELECT * FROM inventory.redaction")).one()
    assert (row.actor, row.reason, row.versions, row.assets) == ("dpo@example.org", "found in a tag", 10, 10)
    assert f"Replaced by [redacted:manual:{row.fingerprint}].\n" in answer.out
    for again in (GO, ("redact", "--dry-run")):
        answer = _piped(cli, VALUE, *again)
        assert answer.code == 0, answer
        assert "was already removed, at " in answer.out
        assert "still kept out" in answer.out
    assert _piped(cli, "Max Nobody", *GO).code == 7


def test_a_value_in_a_file_is_removed(cli: Cli, engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "value").write_text(VALUE + "\n")
    assert _piped(cli, "", *GO, "--file", str(tmp_path / "value")).code == 0
    assert _holding(engine) == 0


def test_a_value_on_the_command_line_is_refused_without_being_said_again(cli: Cli, engine: Engine) -> None:
    answer = _piped(cli, "", *GO, VALUE)
    assert (answer.code, answer.out) == (2, "")
    assert "never an argument" in answer.err
    assert _holding(engine) == 10


@pytest.mark.parametrize(
    ("given", "arguments", "code", "words"),
    [
        ("abc", GO, 8, "at least 6"),
        ("", GO, 8, "0 characters"),
        ("1234567", GO, 8, "at least 8"),
        ("experiment_id", GO, 8, "no secret"),
        (b"\xff\xfe\xff\xfe\xff\xfe", GO, 8, "not UTF-8"),
        ("x" * 70_000, GO, 8, "more than 65,536 bytes"),
        ("never seen here", GO, 7, "stands nowhere"),
        (VALUE, ("redact", "--yes"), 2, "--reason"),
        (VALUE, ("redact", "--reason", "r"), 2, "--dry-run"),
        (VALUE, (*GO, "--by", f"not {VALUE}"), 8, "--by"),
        ("", (*GO, "--file", "/nonexistent/x"), 8, "No such file"),
        ("", (*GO, "--file", "/"), 8, "Is a directory"),
    ],
)
def test_what_cannot_be_done_is_said_once_with_a_reason(
    cli: Cli, engine: Engine, given: str | bytes, arguments: tuple[str, ...], code: int, words: str
) -> None:
    answer = _piped(cli, given, *arguments)
    assert (answer.code, answer.out) == (code, ""), answer
    assert words in answer.err
    assert _holding(engine) == 10


def test_what_is_still_known_by_the_value_is_refused(cli: Cli, engine: Engine) -> None:
    world = _world()
    world.add_run(VALUE, experiment="1")
    scan(engine, world)
    answer = _piped(cli, VALUE, *GO)
    assert (answer.code, answer.out) == (8, "")
    assert "1 assets that are still there are known by it" in answer.err


def _on_a_terminal(cli: Cli, *typed: tuple[bytes, bytes]) -> tuple[int, bytes]:
    """Type answers to what is asked."""
    child, terminal = pty.fork()
    if child == 0:
        os.execve(
            sys.executable,
            [sys.executable, "-m", "stocktake", "redact", "--reason", "r"],
            cli.environment() | {"TERM": "dumb", "STOCKTAKE_CONFIG": str(cli.config)},
        )
    shown = b""

    def read(until: bytes | None) -> None:
        nonlocal shown
        deadline = time.monotonic() + 60
        while (until is None or until not in shown) and time.monotonic() < deadline:
            try:
                more = os.read(terminal, 4096)
            except OSError:
                return
            if not more:
                return
            shown += more

    for asked, answer in typed:
        read(asked)
        assert asked in shown, shown
        os.write(terminal, answer + b"\n")
    read(None)
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), shown


def test_on_a_terminal_it_is_asked_for_unseen_and_confirmed(cli: Cli, engine: Engine) -> None:
    code, shown = _on_a_terminal(cli, (b"not shown", VALUE.encode()), (b"[y/N]", b"n"))
    assert (code, b"Nothing was changed" in shown, b"Mustermann" in shown) == (8, True, False), shown
    assert _holding(engine) == 10
    code, shown = _on_a_terminal(cli, (b"not shown", VALUE.encode()), (b"[y/N]", b"y"))
    assert (code, b"Replaced by" in shown, b"Mustermann" in shown) == (0, True, False), shown
    assert _holding(engine) == 0


def _done(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT coalesce(sum(versions), 0) FROM redaction")).scalar_one())


def test_killed_anywhere_it_can_be_run_again(cli: Cli, engine: Engine) -> None:
    world = _world(6000)
    scan(engine, world)
    left = []
    for wanted in (1, 900, 1700, 2600):
        process = cli.start(*GO, stdin=subprocess.PIPE)
        assert process.stdin is not None
        process.stdin.write(VALUE)
        process.stdin.close()
        while process.poll() is None and _done(engine) < wanted:
            pass
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()
        left.append(_holding(engine))
        report = scan(engine, world)
        assert report.state == ScanState.COMPLETE
        assert not {"created", "updated", "purged"} & {name for name, number in report.counts.items() if number}
    assert 3000 > left[0] > left[1] > left[2] >= left[3]
    assert _piped(cli, VALUE, *GO).code in (0, 7)
    assert _holding(engine) == 0
    with engine.connect() as connection:
        count, finished = connection.execute(text("SELECT count(*), count(finished_at) FROM redaction")).one()
    assert (count, finished) == (1, 1)
    assert _done(engine) == 3000
