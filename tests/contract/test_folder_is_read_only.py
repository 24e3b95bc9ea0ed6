"""Read-only towards a folder: its tree is the same after a scan, and no permission to write is needed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stocktake.core.assets import Kind, Mode
from tests.servers.known import PlainKnown
from tests.servers.reading import files_source, read
from tests.servers.shared import filled_folder

ROOT = Path(__file__).parents[2]


def tree(folder: Path) -> dict[str, tuple[int, int, int, int]]:
    """Every name with its type, size and times of change."""
    found = {}
    for above, folders, files in os.walk(folder):
        for name in (".", *folders, *files):
            path = Path(above, name)
            facts = path.lstat()
            found[str(path.relative_to(folder))] = (facts.st_mode, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(filled_folder().path, tmp_path / "mlruns"))


def look_at_everything(folder: Path) -> None:
    source = files_source(folder)
    source.identify()
    looks = dict.fromkeys(Kind, datetime(2020, 1, 1, tzinfo=UTC))
    for mode in Mode:
        reading = read(source, mode, PlainKnown(looks=looks, changes={Kind.EXPERIMENT: frozenset({"0"})}))
        for kind in source.kinds:
            source.confirm(kind, [*reading.assets(kind), "no-such-thing"])
    source.close()


def test_a_folder_is_the_same_after_it_was_read(folder: Path) -> None:
    (folder / "5").mkdir()  # an experiment that lost its meta.yaml: FileStore would repair nothing, nor do we
    shutil.rmtree(folder / ".trash")  # FileStore makes this one when it is opened
    before = tree(folder)
    look_at_everything(folder)
    assert tree(folder) == before


def test_no_system_call_opens_anything_for_writing(folder: Path) -> None:
    """Seen by Python's own audit hook, in a process of its own: whatever library would do it."""
    program = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "service")!r}]
from pathlib import Path
from tests.contract.test_folder_is_read_only import look_at_everything
import os
folder, opened = {str(folder)!r}, []
WRITES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.utime",
          "os.chmod", "os.chown", "shutil.rmtree", "os.setxattr")
def seen(event, arguments):
    if event == "open":
        opened.append(arguments[2])
    assert event not in WRITES, event
sys.addaudithook(seen)
look_at_everything(Path(folder))
bad = [flags for flags in opened if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)]
assert not bad, bad
assert len(opened) > 50, len(opened)
"""
    done = subprocess.run(
        [sys.executable, "-B", "-c", program],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=folder.parent,
    )
    assert done.returncode == 0, done.stderr


@contextmanager
def nobody() -> Iterator[None]:
    """Without root's rights, which no permission binds."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_it_needs_no_permission_to_write() -> None:
    with tempfile.TemporaryDirectory(prefix="stocktake-read-only-") as base:
        folder = Path(shutil.copytree(filled_folder().path, Path(base, "mlruns")))
        for above, folders, files in os.walk(base, topdown=False):
            for name in files:
                Path(above, name).chmod(0o444)
            for name in folders:
                Path(above, name).chmod(0o555)
        Path(base).chmod(0o755)
        before = tree(folder)
        with nobody():
            with pytest.raises(PermissionError):
                (folder / "written").touch()
            look_at_everything(folder)
        assert tree(folder) == before
        for above, _, _ in os.walk(base):
            Path(above).chmod(0o755)  # so that whoever runs this can remove it


def test_what_may_not_be_read_is_a_problem_and_hides_nothing_else() -> None:
    with tempfile.TemporaryDirectory(prefix="stocktake-hidden-") as base:
        filled = filled_folder()
        folder = Path(shutil.copytree(filled.path, Path(base, "mlruns")))
        for above, folders, files in os.walk(base):
            for name in (*folders, *files):
                Path(above, name).chmod(0o755)
        Path(base).chmod(0o755)
        hidden = folder / filled.content.experiment / filled.content.child
        hidden.chmod(0o700 if os.geteuid() == 0 else 0)
        with nobody():
            source = files_source(folder)
            reading = read(source)
            (problem,) = [problem for heard in reading.of(Kind.RUN) for problem in heard.problems]
            assert "cannot be read (Permission denied)" in problem
            assert filled.content.child in problem
            assert reading.assets(Kind.RUN).keys() >= {filled.content.run, filled.content.failed}
            assert source.confirm(Kind.RUN, [filled.content.child, "0" * 32]) == {"0" * 32: None}
        hidden.chmod(0o755)
