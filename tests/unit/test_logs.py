"""What a log line looks like, and that no secret leaves in one."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from stocktake.telemetry.logs import JsonFormatter, LogConfig, setup_logging

log = logging.getLogger("stocktake.test")


def hide(text: str) -> str:
    """A redaction as strict as a test needs."""
    return re.sub(r"hunter2|password=\S+", "[secret]", text)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Loggers are global: give them back as they were."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


@pytest.fixture
def lines() -> Callable[[], list[dict[str, Any]]]:
    stream = io.StringIO()
    setup_logging(LogConfig(format="json", redact=hide), stream=stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


Lines = Callable[[], list[dict[str, Any]]]


def test_a_line_is_one_object_with_time_level_logger_message_action_and_fields(lines: Lines) -> None:
    log.info("scan finished", extra={"action": "scan_finished", "workspace": "research", "changes": 3})
    (line,) = lines()
    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    assert line == {
        "level": "info",
        "logger": "stocktake.test",
        "message": "scan finished",
        "action": "scan_finished",
        "workspace": "research",
        "changes": 3,
    }


def test_line_breaks_in_data_make_no_second_line(lines: Lines) -> None:
    log.info("name %s", 'x\n{"level": "error"}', extra={"name_": "a\r\nb\u2028c"})
    assert len(lines()) == 1


def test_secrets_leave_neither_in_messages_nor_in_fields_nor_in_errors(lines: Lines) -> None:
    nested = {"list": ["hunter2", {"deep": "say hunter2"}], "password": "open sesame"}
    try:
        try:
            raise ValueError("cause hunter2")
        except ValueError as exc:
            raise RuntimeError("password=abc") from exc
    except RuntimeError:
        log.exception("token %s", "hunter2", extra={"nested": nested, "password": "plain words"})
    (line,) = lines()
    text = json.dumps(line)
    for secret in ("hunter2", "abc", "sesame", "plain"):
        assert secret not in text
    assert line["message"] == "token [secret]"


def test_an_exception_is_a_structure_with_its_cause(lines: Lines) -> None:
    try:
        try:
            raise KeyError("inner")
        except KeyError as exc:
            raise ValueError("outer") from exc
    except ValueError:
        log.exception("it failed")
    error = lines()[0]["exception"]
    assert (error["type"], error["cause"]["type"]) == ("ValueError", "KeyError")
    assert any("test_logs.py" in frame for frame in error["stack"])


def test_what_json_cannot_carry_is_told_as_text(lines: Lines) -> None:
    class Rude:
        def __str__(self) -> str:
            raise RuntimeError("no")

    loop: list[Any] = []
    loop.append(loop)
    extra = {"nan": float("nan"), "at": datetime(2026, 1, 1, tzinfo=UTC), "raw": b"x", "rude": Rude(), "loop": loop}
    log.info("odd", extra=extra)
    (line,) = lines()
    assert (line["nan"], line["at"], line["rude"]) == ("nan", "2026-01-01T00:00:00+00:00", "<Rude>")


def test_a_field_cannot_replace_a_standard_one(lines: Lines) -> None:
    log.info("told", extra={"level": "forged", "time": "forged", "logger": "forged"})
    (line,) = lines()
    assert (line["level"], line["logger"]) == ("info", "stocktake.test")
    assert line["extra_level"] == "forged"


def test_other_libraries_are_quiet_below_warning(lines: Lines) -> None:
    for name in ("httpx", "azure.core.pipeline.policies.http_logging_policy", "uvicorn.error", "unheard.of", "mlflow"):
        logging.getLogger(name).info("chatter")
        logging.getLogger(name).warning("trouble")
    assert [line["message"] for line in lines()] == ["trouble"] * 5


@pytest.mark.parametrize("imported", ["before", "after"])
def test_importing_mlflow_takes_no_logger_out_of_the_redaction(imported: str) -> None:
    """In a process of its own: mlflow arranges the loggers once, when it is first imported."""
    program = (
        "import logging\n"
        "from stocktake.telemetry.logs import LogConfig, setup_logging\n"
        "if {before}: import mlflow\n"
        "setup_logging(LogConfig(format='json', redact=lambda text: text.replace('hunter2', '[secret]')))\n"
        "import mlflow\n"
        "for name in ('mlflow.tracking', 'sqlalchemy.engine', 'alembic', 'huey'):\n"
        "    logging.getLogger(name).warning('trouble with hunter2')\n"
    ).replace("{before}", str(imported == "before"))
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=120)
    assert [json.loads(line)["message"] for line in done.stderr.splitlines()] == ["trouble with [secret]"] * 4


def test_a_warning_of_python_is_a_line_too(lines: Lines) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    (line,) = lines()
    assert line["logger"] == "py.warnings"
    assert "old" in line["message"]


def test_a_format_that_does_not_fit_costs_no_line() -> None:
    # Straight to the formatter: pytest's own handler would raise for such a record.
    record = logging.LogRecord("other", logging.WARNING, __file__, 1, "%d things", ("no number",), None)
    assert json.loads(JsonFormatter(hide).format(record))["message"] == "%d things"


def test_a_redaction_that_fails_lets_nothing_through(capsys: pytest.CaptureFixture[str]) -> None:
    def broken(text: str) -> str:
        raise RuntimeError(text)

    stream = io.StringIO()
    setup_logging(LogConfig(format="json", redact=broken), stream=stream)
    log.info("hunter2")
    assert json.loads(stream.getvalue())["message"] == "a log record could not be written"
    assert "hunter2" not in stream.getvalue() + capsys.readouterr().err


def test_setting_up_again_replaces_the_first(lines: Lines) -> None:
    second = io.StringIO()
    setup_logging(LogConfig(level="warning", format="json"), stream=second)
    log.info("below the level")
    log.warning("once")
    assert lines() == []
    assert len(second.getvalue().splitlines()) == 1


def test_people_read_short_lines_without_escape_sequences() -> None:
    stream = io.StringIO()
    setup_logging(LogConfig(format="text", redact=hide), stream=stream)
    log.info("scan finished", extra={"action": "scan_finished", "workspace": "re\x1b[31msearch\nx", "n": 3})
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d info +scan finished  workspace=re\\x1b\[31msearch\\nx n=3\n", stream.getvalue()
    )


def test_auto_is_json_where_no_terminal_is() -> None:
    stream = io.StringIO()
    setup_logging(LogConfig(), stream=stream)
    log.info("told")
    assert json.loads(stream.getvalue())["message"] == "told"
