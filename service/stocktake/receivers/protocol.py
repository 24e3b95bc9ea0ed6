"""What every receiver is: a message is handed to it, once. Retrying and remembering belong to the pipeline."""

from __future__ import annotations

from typing import Protocol

from stocktake.core.messages import Message


class Receiver(Protocol):
    """Sends messages. Safe from several threads; a call ends within a quarter of a minute, whatever answers."""

    def send(self, message: Message) -> int | None:
        """Hand a message over and return the status of the answer, where there is one. Raises SendError."""

    def close(self) -> None:
        """Release what is held; a call under way fails."""
