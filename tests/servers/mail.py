"""A loopback mail server that keeps what it is given: as much of SMTP as a client needs."""

from __future__ import annotations

import email
import email.policy
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage


@dataclass(slots=True)
class Mails:
    """What came, and what is answered to `RCPT TO` and at the end of a mail."""

    port: int = 0
    mails: list[tuple[list[str], EmailMessage]] = field(default_factory=list)
    to: str = "250 ok"
    end: str = "250 ok"


@contextmanager
def mail_server() -> Iterator[Mails]:
    """The server, on a free port of the loopback address."""
    made = Mails()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self._say("220 loopback")
            to: list[str] = []
            while line := self.rfile.readline().decode().strip():
                match line.split(":")[0].split(" ")[0].upper():
                    case "EHLO" | "HELO":
                        self._say("250 loopback")
                    case "RCPT":
                        to.append(line.partition("<")[2].partition(">")[0])
                        self._say(made.to)
                    case "DATA":
                        self._say("354 go on")
                        raw = b"".join(iter(self.rfile.readline, b".\r\n"))
                        read = email.message_from_bytes(raw.replace(b"\r\n..", b"\r\n."), policy=email.policy.default)
                        assert isinstance(read, EmailMessage)
                        if made.end.startswith("2"):
                            made.mails.append((to, read))
                        self._say(made.end)
                    case "QUIT":
                        self._say("221 bye")
                        return
                    case _:
                        self._say("250 ok")

        def _say(self, words: str) -> None:
            self.wfile.write(words.encode() + b"\r\n")

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        made.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join(5)
