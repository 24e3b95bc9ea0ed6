"""Times as people write and read them: "2 days ago" in, "3 min ago" out. The clock is always an argument."""

from __future__ import annotations

import calendar
import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo

_SECONDS = {
    "s": 1, "sec": 1, "second": 1,
    "m": 60, "min": 60, "minute": 60,
    "h": 3600, "hr": 3600, "hour": 3600,
    "d": 86400, "day": 86400,
    "w": 604800, "week": 604800,
}  # fmt: skip
_MONTHS = {"month": 1, "year": 12}
_PART = re.compile(r"(?P<count>\d+(?:\.\d+)?|an?|one)\s*(?P<unit>[a-z]+)(?:\s*,\s*|\s+and\s+|\s*)")
_CLOCK = re.compile(r"(?:at\s+)?(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2}))?\Z")
EXAMPLES = (
    '"2026-11-24T02:30", "2026-11-24T02:30:00Z", "2 days ago", "10 min ago", "yesterday", "yesterday 14:00", "02:30"'
)


class TimeError(ValueError):
    """A time was not understood; the message says what is."""


def parse_time(text: str, *, now: datetime, zone: tzinfo | None = None, future: bool = True) -> datetime:
    """Read a time and return it in UTC.

    A time without an offset is local time (`zone`, by default the machine's). "yesterday" and "today" are the
    midnights they began with; a bare clock time is the last time the clock showed it; "ago" counts real hours, but
    months and years by the calendar. With `future=False` a time that has not come yet is refused.
    """
    words = " ".join(text.strip().lower().split())
    found = _relative(words, now) or _named(words, now.astimezone(zone), zone)
    if found is None:
        found = _iso(text.strip(), zone)
    if found is None:
        raise TimeError(f"{text!r} is not a time that stocktake understands. Write it like one of: {EXAMPLES}.")
    if not future and found > now + timedelta(minutes=5):
        raise TimeError(f"{text!r} lies in the future ({utc(found)}); the inventory knows the past only.")
    return found


def parse_day(text: str, *, now: datetime, zone: tzinfo | None = None) -> tuple[datetime, datetime]:
    """Read a day and return its first moment and that of the next day, in UTC; a time of day is that moment alone."""
    words = text.strip().lower()
    try:
        day = now.astimezone(zone).date() - timedelta(days={"today": 0, "yesterday": 1}[words])
    except KeyError:
        try:
            day = date.fromisoformat(words)
        except ValueError:
            at = parse_time(text, now=now, zone=zone, future=False)
            return at, at + timedelta(microseconds=1)
    try:
        start, end = (_localised(datetime.combine(one, time()), zone) for one in (day, day + timedelta(days=1)))
    except (OverflowError, ValueError):
        raise TimeError(f"{text!r} is further away than a calendar goes.") from None
    if start > now:
        raise TimeError(f"{text!r} lies in the future (it begins at {utc(start)}); the inventory knows the past only.")
    return start, end


def _relative(words: str, now: datetime) -> datetime | None:
    """Read "2 days ago", "1h30m", "a week ago"; a bare number with a unit counts backwards too."""
    body = words.removesuffix(" ago").strip()
    seconds, months, position = 0.0, 0, 0
    while position < len(body):
        part = _PART.match(body, position)
        if part is None:
            return None
        unit = part["unit"] if part["unit"] in _SECONDS else part["unit"].removesuffix("s")
        count = 1.0 if part["count"] in ("a", "an", "one") else float(part["count"])
        if unit in _SECONDS:
            seconds += count * _SECONDS[unit]
        elif unit in _MONTHS and count.is_integer():
            months += int(count) * _MONTHS[unit]
        else:
            return None
        position = part.end()
    if not body:
        return None
    try:
        return _months_before(now, months).astimezone(UTC) - timedelta(seconds=seconds)
    except (OverflowError, ValueError):
        raise TimeError(f"{words!r} is further back than a calendar goes.") from None


def _months_before(moment: datetime, months: int) -> datetime:
    year, month = divmod(moment.year * 12 + moment.month - 1 - months, 12)
    day = min(moment.day, calendar.monthrange(year, month + 1)[1])
    return moment.replace(year=year, month=month + 1, day=day)


def _named(words: str, local: datetime, zone: tzinfo | None) -> datetime | None:
    """Read "now", "today", "yesterday 14:00" and "02:30", in local time."""
    if words == "now":
        return local.astimezone(UTC)
    first, _, rest = words.partition(" ")
    back = {"today": 0, "yesterday": 1}.get(first)
    clock = _CLOCK.match(rest if back is not None else words)
    if (back is not None and rest and clock is None) or (back is None and clock is None):
        return None
    moment = time()
    if clock is not None:
        try:
            moment = time(int(clock["hour"]), int(clock["minute"]), int(clock["second"] or 0))
        except ValueError:
            return None
    if back is None:
        back = 1 if moment > local.time() else 0
    return _localised(datetime.combine(local.date() - timedelta(days=back), moment), zone)


def _iso(text: str, zone: tzinfo | None) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
        return _localised(found, zone) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _localised(naive: datetime, zone: tzinfo | None) -> datetime:
    return (naive.replace(tzinfo=zone) if zone is not None else naive).astimezone(UTC)


def utc(moment: datetime) -> str:
    """Write a time as every machine-readable output does: ISO 8601, UTC, Z; microseconds only where there are any."""
    return moment.astimezone(UTC).isoformat().removesuffix("+00:00") + "Z"


def exact(moment: datetime, *, zone: tzinfo | None = None) -> str:
    """Write a time for a person: local, to the second, with its offset."""
    local = moment.astimezone(zone)
    offset = local.strftime("%z")
    return f"{local:%Y-%m-%d %H:%M:%S} {'UTC' if offset == '+0000' else offset}"


def short(moment: datetime, *, now: datetime, zone: tzinfo | None = None) -> str:
    """Write a local time as short as it stays clear: the clock for today, with the date for other days."""
    local = moment.astimezone(zone)
    if local.date() == now.astimezone(zone).date():
        return f"{local:%H:%M:%S}"
    return f"{local:%Y-%m-%d %H:%M}"


def ago(moment: datetime, *, now: datetime) -> str:
    """Write how long ago a time is: "3 min ago"; "in 5 min" where it has not come yet."""
    seconds = (now - moment).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"{span(seconds, units=1)} ago" if seconds > 0 else f"in {span(-seconds, units=1)}"


_SIZES = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def span(seconds: float, *, units: int = 2) -> str:
    """Write a duration with its one or two largest units: "2 h 5 min", "3.1 y"."""
    whole = round(seconds)
    if whole < 1:
        return f"{max(seconds, 0):.1f} s"
    if whole >= 365 * 86400:
        return f"{whole / (365.25 * 86400):.1f} y"
    parts = []
    for size, name in _SIZES:
        count, whole = divmod(whole, size)
        if count:
            parts.append(f"{count} {name}")
        elif parts:
            break  # "2 d 5 s" says no more than "2 d"
        if len(parts) == units:
            break
    return " ".join(parts)
