"""Any of the services that apprise knows, by its URL, which is the secret. An extra of the package.

apprise can neither acknowledge nor resolve: what is over is one more message.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module

from stocktake.core.alerting import Told
from stocktake.core.errors import ConfigError, SendError
from stocktake.core.message_text import cut, heading, plain
from stocktake.core.messages import Message

_LONGEST = 30_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AppriseConfig:
    """The service."""

    name: str
    url: str = field(repr=False)


class Apprise:
    """Hands text to apprise."""

    def __init__(self, config: AppriseConfig) -> None:
        try:
            apprise = import_module("apprise")  # when it is used: an extra
        except ImportError as exc:
            raise ConfigError(
                f"Receiver {config.name!r} is sent to by apprise, which is not installed here.",
                next_step="Install it: pip install 'stocktake[apprise]'.",
            ) from exc
        self._config = config
        self._apprise = apprise.Apprise()
        if not self._apprise.add(config.url):
            raise ConfigError(
                f"Receiver {config.name!r} has an address that apprise does not understand.",
                next_step="Its documentation lists the addresses of each service.",
            )

    def send(self, message: Message) -> int | None:
        """Send a text."""
        kind = "success" if message.status is Told.RESOLVED else {"critical": "failure", "warning": "warning"}.get(
            message.severity, "info"
        )  # fmt: skip
        done = self._apprise.notify(
            title=cut(heading(message), 250), body=cut(plain(message), _LONGEST), notify_type=kind
        )
        if not done:
            raise SendError(
                f"receiver {self._config.name!r} (apprise) did not take the message",
                recoverable=True,
                next_step="apprise says no more than that: send one by its own command to see why.",
            )
        return None

    def close(self) -> None:
        """Nothing is held."""
