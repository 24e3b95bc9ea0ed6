"""The store's own tests, once more, on the oldest Postgres at hand: elsewhere they run on the newest."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from stocktake.store.migrate import NEWEST_SERVER, OLDEST_SERVER
from tests.needs import need

REPO = Path(__file__).resolve().parents[2]
#: It reads the log of the server, which is not at hand for one that is only named by its address.
NEEDS_ITS_LOG = "tests/integration/test_redactions.py::test_the_value_is_never_sent_to_the_database"
TESTS = tuple(
    f"tests/integration/test_{name}.py"
    for name in ("store", "pipeline", "observation", "redactions", "dump", "judging", "own_rules", "replaying")
)


def _binaries() -> Path | None:
    """Return the programs of the oldest supported server that Debian's packages have put here."""
    found = Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")
    versions = {int(path.parts[-3]): path.parent for path in found if path.parts[-3].isdigit()}
    fitting = [version for version in versions if OLDEST_SERVER <= version < NEWEST_SERVER]
    return versions[min(fitting)] if fitting else None


@pytest.fixture(scope="module")
def old_server() -> Iterator[str]:
    binaries = _binaries()
    need(binaries, f"a Postgres older than {NEWEST_SERVER} is missing; as root: apt-get install postgresql")
    assert binaries is not None
    # A short path: a unix socket's is limited. As root the server runs as the user that Debian's package made for it.
    home = Path(tempfile.mkdtemp(prefix="st-pg-"))
    owner = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
    if owner is not None:
        os.chown(home, owner.pw_uid, owner.pw_gid)

    def run(program: str, arguments: Sequence[str | Path]) -> None:
        command = [str(binaries / program), *map(str, arguments)]
        done = subprocess.run(
            command,
            check=False,
            cwd=home,
            stdout=subprocess.DEVNULL,  # the server would inherit a pipe, and reading it would not end
            stderr=subprocess.DEVNULL,
            timeout=120,
            user=owner.pw_uid if owner else None,
            group=owner.pw_gid if owner else None,
            extra_groups=[] if owner else None,
        )
        assert done.returncode == 0, (home / "log").read_text("utf-8") if (home / "log").exists() else command

    try:
        run("initdb", ["-D", home / "data", "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-sync"])
        options = f"-c listen_addresses= -k {home} -c fsync=off -c full_page_writes=off -c synchronous_commit=off"
        run("pg_ctl", ["-D", home / "data", "-l", home / "log", "-w", "-o", options, "start"])
        try:
            yield f"postgresql://postgres@/postgres?host={home}"
        finally:
            run("pg_ctl", ["-D", home / "data", "-m", "immediate", "-w", "stop"])
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.mark.timeout(600)
def test_the_store_works_on_an_older_postgres(old_server: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *TESTS]
    command += ["--deselect", NEEDS_ITS_LOG]
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    env["STOCKTAKE_TEST_DATABASE_URL"] = old_server
    done = subprocess.run(command, check=False, cwd=REPO, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
