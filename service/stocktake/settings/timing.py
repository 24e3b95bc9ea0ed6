"""How a person writes time in the configuration: durations such as `10m`, and schedules (a duration or cron)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, PlainValidator, WithJsonSchema

if TYPE_CHECKING:
    from apscheduler.triggers.cron import CronTrigger

_UNITS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_DURATION = re.compile(r"(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_PATTERN = r"^(\d+w)?(\d+d)?(\d+h)?(\d+m)?(\d+s)?$"
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LONGEST = timedelta(days=36_500)


def parse_duration(value: object) -> timedelta:
    """Read `90s`, `10m`, `24h`, `7d`, `2w` or a row of them (`1h30m`), largest unit first."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, bool) or not isinstance(value, str):
        raise ValueError("is a duration without a unit. Write for example 90s, 10m, 24h or 7d")
    text = value.replace(" ", "").lower()
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError("is not a duration. Write a whole number and a unit, for example 90s, 10m, 24h, 7d or 1h30m")
    seconds = sum(int(n) * size for n, size in zip(match.groups(), _UNITS.values(), strict=True) if n)
    if seconds == 0:
        raise ValueError("must be longer than nothing. Write for example 90s, 10m, 24h or 7d")
    if seconds > _LONGEST.total_seconds():
        raise ValueError("is longer than a hundred years. Write for example 90s, 10m, 24h or 7d")
    return timedelta(seconds=seconds)


def format_duration(value: timedelta) -> str:
    """Write a duration the way it is read, in the largest units that need no fraction."""
    rest, parts = int(value.total_seconds()), []
    for unit, size in _UNITS.items():
        if unit == "w" and rest % size:
            continue  # 10d reads better than 1w3d
        if unit == "d" and rest == size:
            continue  # 24h reads better than 1d
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


@dataclass(frozen=True, slots=True)
class Cron:
    """A five-field cron expression in UTC, with the meaning that crontab(5) gives it."""

    expression: str

    def trigger(self, *, jitter: int | None = None) -> CronTrigger:
        """Give APScheduler's trigger. Its own reader counts Monday as day 0, so weekdays are handed over by name."""
        from apscheduler.triggers.cron import CronTrigger

        minute, hour, day, month, weekday = self.expression.split()
        return CronTrigger(
            minute=minute, hour=hour, day=day, month=month, day_of_week=_weekdays(weekday), timezone=UTC, jitter=jitter
        )

    def __str__(self) -> str:
        return self.expression


def _weekdays(field: str) -> str:
    """Turn the weekday field (0 and 7 are Sunday) into names: `1-5` is mon,tue,wed,thu,fri."""
    if field == "*":
        return field
    days: set[int] = set()
    for part in field.lower().split(","):
        span, _, step = part.partition("/")
        first, dash, last = span.partition("-")
        begin, end = (0, 6) if span == "*" else (_weekday(first), _weekday(last if dash else first))
        if step and not dash and span != "*":
            end = 6
        if end < begin and end == 0:
            end = 7  # fri-sun
        if end < begin or (step and (not step.isdigit() or int(step) == 0)):
            raise ValueError("has a range or step of weekdays that ends before it begins")
        days.update(day % 7 for day in range(begin, end + 1, int(step or 1)))
    return ",".join(_DAYS[day] for day in sorted(days))


def _weekday(name: str) -> int:
    if name.isdigit() and int(name) <= 7:
        return int(name)
    if name in _DAYS:
        return _DAYS.index(name)
    raise ValueError("has a weekday that is neither 0 to 7 nor sun to sat")


Timing = timedelta | Cron


def parse_timing(value: object) -> Timing:
    """Read a duration or a cron expression of five fields."""
    if isinstance(value, Cron):
        return value
    if not isinstance(value, str) or ("*" not in value and len(value.split()) < 4):
        return parse_duration(value)
    cron = Cron(" ".join(value.split()))
    fields = cron.expression.split()
    if len(fields) != 5:
        raise ValueError(
            f"is a cron expression of {len(fields)} fields. Write five (minute hour day month weekday), for example"
            ' "0 3 * * *" for every night at 3 (UTC), or a duration such as 24h'
        )
    if fields[2] != "*" and fields[4] != "*":
        raise ValueError(
            "names both a day of the month and a weekday, which cron programs read in two ways. Leave one of them *"
        )
    try:
        trigger = cron.trigger()
    except ValueError as exc:
        raise ValueError(f"is not a cron expression: {exc}. Write for example '0 3 * * *'") from None
    if trigger.get_next_fire_time(None, datetime(2024, 1, 1, tzinfo=UTC)) is None:
        raise ValueError("is a cron expression that never comes true. Check the day and the month")
    return cron


def format_timing(value: Timing) -> str:
    """Write a schedule the way it is read."""
    return str(value) if isinstance(value, Cron) else format_duration(value)


def period(value: Timing) -> timedelta:
    """Say how far apart two passes may be at most: what the staleness bound is made of."""
    if not isinstance(value, Cron):
        return value
    trigger, longest = value.trigger(), timedelta()
    # Five years see every month and a leap day; 2,000 steps are enough for what repeats within a day or a week.
    at = last = datetime(2024, 1, 1, tzinfo=UTC)
    for step in range(2_000):
        following: datetime | None = trigger.get_next_fire_time(None if step == 0 else last, at)
        if following is None or following.year > 2032:
            break
        if step:
            longest = max(longest, following - last)
        last, at = following, following + timedelta(seconds=1)
    return longest or timedelta(days=366)


def _schema(words: str, examples: list[str], pattern: str | None = None) -> dict[str, Any]:
    return {"type": "string", "title": words, "examples": examples} | ({"pattern": pattern} if pattern else {})


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(_schema("duration", ["90s", "10m", "24h", "7d"], _PATTERN)),
]
When = Annotated[
    Timing,
    PlainValidator(parse_timing),
    PlainSerializer(format_timing, return_type=str),
    WithJsonSchema(_schema("duration or cron", ["10m", "24h", "0 3 * * *"])),
]


def parse_forever(value: object) -> timedelta | None:
    """Read a duration, or `forever` (None)."""
    return None if value is None or value == "forever" else parse_duration(value)


Retention = Annotated[
    timedelta | None,
    PlainValidator(parse_forever),
    PlainSerializer(lambda value: "forever" if value is None else format_duration(value), return_type=str),
    WithJsonSchema(_schema("duration or forever", ["90d", "400d", "forever"])),
]
