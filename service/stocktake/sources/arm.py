"""The resource manager's client: one object, or every page of a list, as raw JSON.

It must never send a token to another host than the resource manager's, never follow a list out of its own path, and
never ask faster than the subscription allows.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import SplitResult, quote, unquote, urlsplit

import msgspec

from stocktake.core.errors import SourceError, Trouble
from stocktake.core.waiting import retry_after
from stocktake.sources import arm_errors
from stocktake.sources.arm_bucket import Bucket, Cut, Late
from stocktake.sources.arm_patience import Patience
from stocktake.sources.http import Answer, HttpClient, HttpConfig
from stocktake.sources.mlflow_pages import encode
from stocktake.sources.mlflow_values import decode
from stocktake.sources.protocol import Traffic

#: Azure's recorded 429s carry no Retry-After; their message says 20 seconds.
THROTTLE_FLOOR = 20.0
LEFT = "x-ms-ratelimit-remaining-subscription-reads"
_PAGE_FACTOR = 4  # a page of an ARM list cannot be asked for in halves, so it may be larger than one of MLflow's


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmConfig:
    """Where the resource manager is, and what may be spent there."""

    http: HttpConfig  # base_url: the cloud's resource manager; token: a callable
    bucket: Bucket | None = None  # shared by all workspaces of a subscription and principal
    member: str = ""  # whose turn it is in the bucket: the workspace's name. Empty: each client has its own
    budget: int | None = None  # the most requests one client may send, retries included


class ArmPage(NamedTuple):
    """One page of a list: its items as they came, and when. `problems` says what was not understood. `onward` is where
    the list goes on behind it, for `pages` to begin there."""

    items: Sequence[bytes]
    requested_at: datetime
    answered_at: datetime | None
    problems: Sequence[str]
    onward: str | None = None


class _Page(msgspec.Struct):
    value: list[msgspec.Raw] | None = None
    next_link: str | None = msgspec.field(default=None, name="nextLink")


class _Item(msgspec.Struct):
    id: str | None = None
    name: Any = None


_page = msgspec.json.Decoder(_Page)
_item = msgspec.json.Decoder(_Item)


class Arm:
    """Asks the resource manager. `close` cuts what another thread is waiting for, in the bucket too."""

    def __init__(
        self,
        config: ArmConfig,
        now: Callable[[], datetime],
        *,
        traffic: Traffic | None = None,
        sleep: Callable[[float], object] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.requests = 0  # of this client, retries included: what the budget is spent on
        self._config = config
        self._now = now
        self._member = config.member or self
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._patience = Patience()
        self._base = urlsplit(config.http.base_url.rstrip("/"))
        self._http = HttpClient(
            replace(
                config.http,
                slots=_Turn(self),
                explain=arm_errors.explain,
                heard=self._heard,
                throttle_floor=max(config.http.throttle_floor, THROTTLE_FLOOR),
                retry_after_cap=float("inf"),  # honoured; longer than one request may take, and we give up
            ),
            now=now,
            traffic=traffic,
            sleep=sleep,
            monotonic=monotonic,
        )
        self.traffic = self._http.traffic

    def get(
        self,
        path: str,
        api_version: str,
        params: Mapping[str, str] | None = None,
        *,
        accept: frozenset[int] = frozenset(),
    ) -> Answer:
        """GET one object. `path` begins with a slash; a name in it that holds more than ARM allows is quoted."""
        return self._http.get(_ascii(path), {**(params or {}), "api-version": api_version}, accept=accept)

    def post(self, path: str, api_version: str, body: Mapping[str, Any]) -> Answer:
        """POST a search, to one of the paths that the configuration lists: Resource Graph and nothing else."""
        return self._http.post(f"{_ascii(path)}?api-version={quote(api_version)}", body, limit=self._limit)

    def pages(
        self, path: str, api_version: str, params: Mapping[str, str] | None = None, *, start: str | None = None
    ) -> Iterator[ArmPage]:
        """Every page of a list, or those from `start` on, following its links. Raises SourceError where one fails: what
        came before stands."""
        path = _ascii(path)
        if start is None:
            answer = self._http.get(path, {**(params or {}), "api-version": api_version}, limit=self._limit)
        else:
            answer = self._http.get(f"{path}?{quote(start, safe=_PRINTABLE)}", limit=self._limit)
        met: set[str] = set()
        while True:
            page, link = split(answer)
            try:
                query = self._follow(link, path, answer.what) if link else None
            except SourceError:
                yield page
                raise
            yield page._replace(onward=query)
            if query is None:
                return
            if query in met:
                raise SourceError(
                    Trouble.TRUNCATED,
                    f"{answer.what}: the link to the next page repeats itself after {len(met) + 1} pages",
                    next_step="The next scan asks anew; what was listed until here stands, nothing is taken for gone.",
                )
            met.add(query)
            answer = self._http.get(f"{path}?{query}", limit=self._limit)

    def close(self) -> None:
        """Release connections; whoever waits for an answer or for a turn fails at once."""
        self._closed.set()
        if self._config.bucket is not None:
            self._config.bucket.wake()
        self._http.close()

    @property
    def _limit(self) -> int:
        return min(self._config.http.page_bytes * _PAGE_FACTOR, self._config.http.hard_bytes)

    def _follow(self, link: str, path: str, what: str) -> str:
        """The query of the next page, exactly as the server wrote it. What else the link says must be what it was."""
        try:
            there = urlsplit(link)
            same = (there.scheme.lower(), there.hostname, _port(there)) == (
                self._base.scheme,
                self._base.hostname,
                _port(self._base),
            )
        except ValueError:
            raise _refused(what, "is no address") from None
        if not same or there.username is not None or there.password is not None:
            raise _refused(what, "points to another host: a token never leaves the resource manager's")
        if _plain(there.path) != _plain(self._base.path + path):
            raise _refused(what, "leaves the list")
        if not there.query:
            raise _refused(what, "has no query: it is the first page again")
        return quote(there.query, safe=_PRINTABLE)

    def _before(self) -> None:
        """Take what one request costs: from the budget of this client, and from the bucket in turn."""
        config = self._config
        with self._lock:
            if config.budget is not None and self.requests >= config.budget:
                raise SourceError(
                    Trouble.BUDGET,
                    f"the budget of {config.budget:,} requests to the resource manager in one scan is used up",
                    next_step="Raise azureml.budget, or scan less often; the next scan goes on from there.",
                )
            self.requests += 1
            if config.budget is not None:
                self.traffic.budget_used = self.requests / config.budget
        if config.bucket is None:
            return
        try:
            waited = config.bucket.take(self._member, self._closed.is_set, longest=config.http.total_timeout)
        except Late:
            trouble, step = arm_errors.MEANINGS["TooManyRequests"]
            raise SourceError(
                trouble, "the resource manager lets this identity ask nothing more for minutes", next_step=step
            ) from None
        except Cut:
            raise SourceError(
                Trouble.UNREACHABLE,
                "a request was cut off while it waited for its turn: stocktake is stopping",
                next_step="The next scan asks again.",
            ) from None
        with self._lock:
            self.traffic.waited += waited

    def _heard(self, answer: Answer, attempt: int) -> float | None:
        """Learn from an answer what is left to be asked, and whether a refusal should be asked about again."""
        bucket = self._config.bucket
        left = answer.headers.get(LEFT, "")
        if bucket is not None and left.isdigit():
            bucket.left(int(left))
        if answer.status == 429 and bucket is not None:
            told = retry_after(answer.headers.get("retry-after"), self._now())
            bucket.pause(THROTTLE_FLOOR if told is None else told)
        return self._patience.heard(answer, attempt)


class _Turn:
    """Held while a request is under way: first a turn in the bucket, then a slot of the host."""

    def __init__(self, arm: Arm) -> None:
        self._arm = arm
        self._slots = arm._config.http.slots

    def __enter__(self) -> None:
        self._arm._before()
        self._slots.__enter__()

    def __exit__(self, *about: Any) -> None:
        self._slots.__exit__(*about)


def split(answer: Answer) -> tuple[ArmPage, str | None]:
    """Cut a page into raw items. An object without the list `value` is not taken for an empty page."""
    answer.require_json()
    try:
        page = _page.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        page = _split_slowly(answer)
    if page.value is None:
        raise _shape(f"{answer.what} answered without a list `value`")
    items, problems = [], []
    for raw in page.value:
        if _known(raw):
            items.append(bytes(raw))
        else:
            problems.append(f"{answer.what}: an item without an id and a name")
    return ArmPage(items, answer.requested_at, answer.answered_at, problems), page.next_link or None


def _split_slowly(answer: Answer) -> _Page:
    try:
        page = decode(answer.body)
    except SourceError:
        raise answer.not_json() from None
    if not isinstance(page, dict):
        raise _shape(f"{answer.what} answered with JSON that is not an object")
    value, link = page.get("value"), page.get("nextLink")
    if not isinstance(value, list):
        raise _shape(f"{answer.what} answered without a list `value`")
    if link is not None and not isinstance(link, str):
        raise _shape(f"{answer.what} answered with a nextLink that is not text")
    return _Page(value=[msgspec.Raw(encode(item)) for item in value], next_link=link)


def _known(raw: msgspec.Raw) -> bool:
    try:
        item = _item.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            item = msgspec.convert(json.loads(bytes(raw)), _Item)
        except (ValueError, msgspec.ValidationError, RecursionError):
            return False
    return bool(item.id or item.name)


def _refused(what: str, why: str) -> SourceError:
    return SourceError(
        Trouble.SHAPE,
        f"{what}: the link to the next page {why}; it is not followed",
        next_step="Look for a proxy that rewrites answers; what was listed until here stands.",
    )


def _shape(what: str) -> SourceError:
    return SourceError(
        Trouble.SHAPE, what, next_step="Report this with the path: stocktake does not understand the answer."
    )


_PRINTABLE = "".join(chr(code) for code in range(0x21, 0x7F))


def _ascii(path: str) -> str:
    """A path as it is sent: what is quoted stays so, and what cannot be sent is quoted."""
    return quote(path, safe=_PRINTABLE.replace("?", "").replace("#", ""))


def _plain(path: str) -> str:
    """A path for comparison: the resource manager tells upper and lower case apart nowhere."""
    return unquote(path).rstrip("/").casefold()


def _port(url: SplitResult) -> int | None:
    return url.port or {"http": 80, "https": 443}.get(url.scheme.lower())
