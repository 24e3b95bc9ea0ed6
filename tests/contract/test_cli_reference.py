"""docs/reference/cli.md says what the commands say, and names every exit code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer

from stocktake.cli import app, rows
from stocktake.cli.exits import MEANING, ExitCode
from stocktake.cli.reference import rewritten

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"


def schema() -> dict[str, Any]:
    """The JSON schema that the page documents."""
    found = re.search(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    read: dict[str, Any] = json.loads(found[1])
    return read


def test_the_page_is_what_the_commands_say() -> None:
    assert rewritten(PAGE.read_text()) == PAGE.read_text(), "python -m stocktake.cli.reference docs/reference/cli.md"


def test_every_command_and_every_exit_code_is_on_the_page() -> None:
    page = PAGE.read_text()
    assert set(MEANING) == set(ExitCode)
    for code in ExitCode:
        assert f"| {int(code)} |" in page
    for name in [
        "up",
        "try",
        "worker",
        "scan",
        "status",
        "discover",
        "list",
        "show",
        "history",
        "changes",
        "diff",
        "production",
        "lineage",
        "reconcile",
        "doctor",
        "version",
        "redact",
    ]:
        assert f"### stocktake {name}\n" in page
    for name in (
        "scope list",
        "scope accept",
        "config schema",
        "config check",
        "config show",
        "db upgrade",
        "db check",
        "db dump",
        "db restore",
        "finding list",
        "finding show",
        "finding ack",
        "finding waive",
        "finding recheck",
        "waiver add",
        "waiver list",
        "waiver end",
        "check model",
        "check run",
        "baseline init",
        "baseline check",
        "baseline diff",
        "baseline update",
        "rules list",
        "rules show",
        "alerts list",
        "alerts test",
        "alerts ack",
        "alerts silence",
    ):
        assert f"### stocktake {name}\n" in page


def test_every_command_and_option_says_what_it_is_for() -> None:
    def walk(command: Any, path: str) -> None:
        assert command.help, path
        for parameter in command.params:
            named = parameter.name in ("workspace", "context") and parameter.param_type_name == "argument"
            assert parameter.help or named, f"{path} {parameter.name}"
        for name, below in getattr(command, "commands", {}).items():
            walk(below, f"{path} {name}")

    walk(typer.main.get_command(app), "stocktake")


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("change", rows.CHANGE),
        ("asset", rows.ASSET),
        ("figure", rows.FIGURE),
        ("production", rows.PRODUCTION),
        ("lineage", rows.LINEAGE),
    ],
)
def test_the_documented_schema_has_every_field_that_is_written(name: str, fields: tuple[str, ...]) -> None:
    definition = schema()["$defs"][name]
    assert tuple(definition["properties"]) == fields
    assert sorted(definition["required"]) == sorted(fields)
    assert definition["additionalProperties"] is False


def test_the_fields_that_were_promised_are_there() -> None:
    promised = {"at", "not_before", "not_after", "actor", "workspace", "kind", "key", "name", "type", "category"}
    assert promised | {"scan", "fields"} <= set(rows.CHANGE)
    assert {"key", "name", "state", "owner", "first_seen", "last_changed", "document"} <= set(rows.ASSET)
