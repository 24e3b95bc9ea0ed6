"""A relay in front of a server that lets so many bytes through and then holds them back, until it is told to go on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass(slots=True)
class Stalling:
    """A running relay. It holds what the server answers, of all connections together, beyond `allowed` bytes."""

    port: int
    allowed: int
    passed: int = 0
    stalled: threading.Event = field(default_factory=threading.Event)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def flow(self, allowed: int = 1 << 60) -> None:
        """Let more through, and count anew."""
        with self.changed:
            self.passed, self.allowed = 0, allowed
            self.stalled.clear()
            self.changed.notify_all()

    def take(self, size: int) -> None:
        """Wait until so many bytes may pass."""
        with self.changed:
            while self.passed + size > self.allowed:
                self.stalled.set()
                self.changed.wait()
            self.passed += size


@contextmanager
def stalling(port: int, allowed: int = 1 << 60) -> Iterator[Stalling]:
    """Relay to a port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        relay = Stalling(listening.getsockname()[1], allowed)

        def pump(source: socket.socket, target: socket.socket, *, held: bool) -> None:
            with suppress(OSError):
                while chunk := source.recv(65536):
                    if held:
                        relay.take(len(chunk))
                    target.sendall(chunk)
            for one in (source, target):
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

        def relayed(client: socket.socket) -> None:
            with client, socket.create_connection(("127.0.0.1", port)) as server:
                back = threading.Thread(target=pump, args=(server, client), kwargs={"held": True}, daemon=True)
                back.start()
                pump(client, server, held=False)
                back.join()

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listening.accept()
                    threading.Thread(target=relayed, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield relay
        finally:
            relay.flow()
            listening.shutdown(socket.SHUT_RDWR)
