"""Logs on stderr: one JSON object a line for machines, short lines for people. No secret passes through here.

The redaction is handed in: this room knows where text leaves the process, not what a secret looks like.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from traceback import TracebackException
from typing import Any, Literal, TextIO

Redact = Callable[[str], str]

#: What every record has; everything else came in through `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}

#: Libraries that tell at INFO what nobody asked: every request, every job, every statement.
_CHATTY = (
    "alembic",
    "apscheduler",
    "asyncio",
    "azure",
    "httpcore",
    "httpx",
    "mlflow",
    "opentelemetry",
    "py.warnings",
    "sqlalchemy",
    "urllib3",
    "uvicorn",
)

#: Loggers that importing mlflow takes for itself, with a handler that knows neither our format nor our redaction.
_TAKEN = ("alembic", "huey", "mlflow", "sqlalchemy.engine")

#: Line breaks that JSON leaves as they are, and that some readers of lines break at.
_LINE_BREAKS = {code: f"\\u{code:04x}" for code in (0x85, 0x2028, 0x2029)}

_DEPTH = 6  # nested data deeper than this is told as text
_LONGEST = 8192  # characters of one string; a log line is no place for a payload


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """How to log. `auto` is text on a terminal and JSON elsewhere; `redact` is applied to every string that leaves."""

    level: str = "INFO"
    format: Literal["auto", "json", "text"] = "auto"
    redact: Redact = str


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, message, action, the extra fields, the exception with its stack."""

    def __init__(self, redact: Redact) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._text(_message(record)),
        }
        extra = _extra(record)
        if (action := extra.pop("action", None)) is not None:
            line["action"] = self._value(action, 0)
        for name, value in extra.items():
            line[name if name not in line else f"extra_{name}"] = self._keyed(name, value, 0)
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = self._exception(TracebackException.from_exception(record.exc_info[1]))
        if record.stack_info:
            line["stack"] = self._text(record.stack_info)
        told = json.dumps(line, ensure_ascii=False, allow_nan=False)
        return told.translate(_LINE_BREAKS)

    def _exception(self, error: TracebackException) -> dict[str, Any]:
        told: dict[str, Any] = {
            "type": _type_name(error),
            "message": self._text("".join(error.format_exception_only()).strip()),
            "stack": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in error.stack],
        }
        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if cause is not None:
            told["cause"] = self._exception(cause)
        return told

    def _value(self, value: Any, depth: int) -> Any:
        """The value as JSON can carry it, every string in it redacted."""
        match value:
            case None | bool() | int():
                return value
            case float():
                return value if value - value == 0 else str(value)  # JSON knows no NaN and no infinity
            case datetime():
                return value.isoformat()
            case Mapping() if depth < _DEPTH:
                return {self._text(str(key)): self._keyed(key, item, depth) for key, item in value.items()}
            case str():
                return self._text(value)
            case Sequence() | Set() if depth < _DEPTH and not isinstance(value, bytes | bytearray | memoryview):
                return [self._value(item, depth + 1) for item in value]
            case _:
                return self._text(_str(value))

    def _keyed(self, key: Any, value: Any, depth: int) -> Any:
        """A string beside its key: where the key is what makes it a secret, nothing of it leaves."""
        if not isinstance(value, str):
            return self._value(value, depth + 1)
        alone = self._redact(value)
        return _cut(alone) if self._redact(f"{key}={value}") == f"{key}={alone}" else "[redacted]"

    def _text(self, text: str) -> str:
        return _cut(self._redact(text))


class TextFormatter(JsonFormatter):
    """A line for people: time, level, message, the extra fields as name=value; an exception on the lines below."""

    def format(self, record: logging.LogRecord) -> str:
        clock = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        fields = " ".join(
            f"{name}={self._short(name, value)}" for name, value in _extra(record).items() if name != "action"
        )
        line = f"{clock} {record.levelname.lower():<8} {_one_line(self._text(_message(record)))}"
        if fields:
            line += f"  {fields}"
        if record.exc_info and record.exc_info[1] is not None:
            stack = "".join(TracebackException.from_exception(record.exc_info[1]).format()).rstrip()
            line += "\n" + self._text(stack)
        return line

    def _short(self, name: str, value: Any) -> str:
        told = self._keyed(name, value, 0)
        return _one_line(told) if isinstance(told, str) else json.dumps(told, ensure_ascii=False)


def setup_logging(config: LogConfig, *, stream: TextIO | None = None) -> None:
    """Send every log of the process to stderr, ours at the level asked for, other libraries' from WARNING on.

    May be called again (a new level, a test's stream): it replaces what it set up before and nothing else.
    """
    stream = stream if stream is not None else sys.stderr
    as_text = config.format == "text" or (config.format == "auto" and stream.isatty())
    handler = _Handler(stream)
    handler.setFormatter(TextFormatter(config.redact) if as_text else JsonFormatter(config.redact))
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    level = config.level.upper()
    logging.getLogger("stocktake").setLevel(level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    # A refused login is told by our own error, in one line; the library's has a dozen, with what each part answered.
    logging.getLogger("azure.identity").setLevel(logging.CRITICAL)
    os.environ.setdefault("MLFLOW_CONFIGURE_LOGGING", "false")  # for an import that is still to come
    for name in _TAKEN:
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    logging.captureWarnings(True)


def redact_with(redact: Redact) -> None:
    """From now on pass every string that is logged through `redact`: the redactor is known only after start-up."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Handler) and isinstance(handler.formatter, JsonFormatter):
            handler.setFormatter(type(handler.formatter)(redact))


class _Handler(logging.StreamHandler[TextIO]):
    """Ours, so that a second set-up finds it. A record that cannot be told is named, never printed as it is."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the interface's name
        """The usual way prints the arguments of the record, unredacted, to stderr."""
        kind = sys.exc_info()[0]
        failed = kind.__name__ if kind else "unknown"
        line = {
            "level": "error",
            "logger": record.name,
            "message": "a log record could not be written",
            "error": failed,
        }
        try:
            self.stream.write(json.dumps(line) + "\n")
        except (OSError, ValueError):
            return  # stderr itself is gone


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError):  # another library's format and arguments do not fit
        return str(record.msg)


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _type_name(error: TracebackException) -> str:
    kind = error.exc_type
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")


def _str(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - an object that cannot name itself must not cost the line
        return f"<{type(value).__name__}>"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text)} characters)"


def _one_line(text: str) -> str:
    """A line break in data must not look like a line of ours, nor an escape sequence reach the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
