"""`python -m tests.azure`: what it writes and prints is enough to point stocktake at it."""

from __future__ import annotations

import re
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stocktake.core.assets import Kind, Mode
from stocktake.making import make_source
from stocktake.settings import load_settings
from tests.azure.__main__ import main
from tests.azure.config import TOKEN
from tests.servers.known import PlainKnown


def test_the_configuration_that_it_writes_reads_every_workspace_to_its_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found: dict[str, int] = {}

    def meanwhile(_: float) -> bool:
        said = capsys.readouterr().out
        token = re.search(rf"export {TOKEN}=(\S+)", said)
        assert token is not None
        settings = load_settings(tmp_path / "stocktake.yaml", environ={TOKEN: token[1]})
        for workspace in settings.workspaces:
            source = make_source(workspace, settings, {TOKEN: token[1]}, lambda: datetime.now(UTC))
            with closing(source):
                for listing in source.listings(Mode.SWEEP, PlainKnown()):
                    for page in listing.pages:
                        assert not page.problems
                        if listing.scope.kind is Kind.JOB:
                            found[workspace.name] = found.get(workspace.name, 0) + len(page.items)
        return True

    ended = main(["--workspaces", "3", "--jobs", "60", "--exotic", "--folder", str(tmp_path)], wait=meanwhile)
    assert ended == 0
    assert found == {"loopback-000": 60, "loopback-001": 60, "loopback-002": 60}


def test_a_folder_of_recordings_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--recordings", str(tmp_path / "none")])
    assert ended.value.code == 2
    assert "is no folder" in capsys.readouterr().err


def test_time_passes_and_jobs_are_submitted_while_it_serves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    beats = iter([False] * 10 + [True])
    assert main(["--workspaces", "1", "--jobs", "5", "--folder", str(tmp_path)], wait=lambda _: next(beats)) == 0
    assert "2 jobs submitted" in capsys.readouterr().err
