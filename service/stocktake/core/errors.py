"""The two families of errors that cross rooms: the bottom raises, the pipeline decides, the worker survives."""

from __future__ import annotations

from enum import StrEnum


class Trouble(StrEnum):
    """Why a source could not be read, the way an operator thinks about it."""

    UNREACHABLE = "unreachable"  # DNS, connection refused, timeout
    TLS = "tls"  # certificate not trusted, wrong host name
    AUTHENTICATION = "authentication"  # 401
    PERMISSION = "permission"  # 403
    NOT_FOUND = "not-found"  # 404 on an endpoint: wrong URL or wrong workspace
    THROTTLED = "throttled"  # 429 after all retries
    QUOTA = "quota"  # a limit of the subscription, the region or the workspace is used up
    SERVER = "server"  # 5xx after all retries
    DEPENDENCY = "dependency-missing"  # something that the asked one needs is gone: its storage, its key vault
    SOFT_DELETED = "soft-deleted"  # the workspace was deleted and can still be brought back
    REGION = "unsupported-region"  # the resource provider, or this version of its API, is not offered there
    SHAPE = "unexpected-shape"  # not JSON, half a page, a login page, an unknown structure
    TRUNCATED = "truncated"  # a cap was reached, a token repeated itself
    BUDGET = "budget-used-up"  # the requests that our own configuration grants one scan
    CONFIG = "config"  # what we were told to do cannot be done
    UNSUPPORTED = "unsupported"  # this server does not offer that


#: Troubles in which nothing can be said about the workspace at all: carry forward, one access finding.
UNOBSERVABLE = frozenset(
    {
        Trouble.UNREACHABLE,
        Trouble.TLS,
        Trouble.AUTHENTICATION,
        Trouble.PERMISSION,
        Trouble.NOT_FOUND,
        Trouble.SOFT_DELETED,
        Trouble.CONFIG,
    }
)


class SourceError(Exception):
    """A source could not list or parse something.

    `what` says what failed and where (never a secret, never a payload); `next_step` says what a person can do.
    """

    def __init__(self, trouble: Trouble, what: str, *, next_step: str, status: int | None = None) -> None:
        super().__init__(what)
        self.trouble = trouble
        self.what = what
        self.next_step = next_step
        self.status = status

    def __str__(self) -> str:
        return f"{self.what} ({self.trouble}). {self.next_step}"


class SendError(Exception):
    """A receiver did not take what it was sent.

    `recoverable`: it may take it later, as it is; else it never will. `after`: for so many seconds it asked to be left
    alone.
    """

    def __init__(
        self, what: str, *, recoverable: bool, next_step: str, status: int | None = None, after: float | None = None
    ) -> None:
        super().__init__(what)
        self.what = what
        self.recoverable = recoverable
        self.next_step = next_step
        self.status = status
        self.after = after

    def __str__(self) -> str:
        return f"{self.what}. {self.next_step}"


class ConfigError(Exception):
    """The configuration, a flag or the installation is wrong; the message says what, where and what to do next.

    A scan keeps the two apart in the ledger, where `next_step` is given.
    """

    def __init__(self, what: str, *, next_step: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.what} {self.next_step}" if self.next_step else self.what


class Stopped(Exception):
    """The scan was asked to stop; what was published stands."""

    def __init__(self) -> None:
        super().__init__("it was asked to stop before it was done")


class Fenced(Exception):
    """Another worker took this scan over; nothing more may be published under its token."""
