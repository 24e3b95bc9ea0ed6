"""Mail, by SMTP. Every delivery of an alert is an answer to its first, so that mail programs show one thread."""

from __future__ import annotations

import contextlib
import smtplib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Literal

from stocktake.core.errors import SendError
from stocktake.core.message_text import cut, heading, line, plain
from stocktake.core.messages import Message

_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailConfig:
    """Through which server, from whom, to whom."""

    name: str
    host: str
    port: int
    sender: str
    to: Sequence[str]
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None


class Email:
    """Sends a mail."""

    def __init__(self, config: EmailConfig) -> None:
        self._config = config
        self._whose = f"receiver {config.name!r} (mail by {config.host}:{config.port})"
        self._open: set[smtplib.SMTP] = set()

    def send(self, message: Message) -> int | None:
        """Hand a mail to the server."""
        mail = written(message, self._config)
        try:
            with self._connected() as smtp:
                self._open.add(smtp)
                try:
                    refused = smtp.send_message(mail, self._config.sender, list(self._config.to))
                finally:
                    self._open.discard(smtp)
        except smtplib.SMTPResponseException as exc:
            raise self._refused(exc.smtp_code, exc.smtp_error) from exc
        except smtplib.SMTPRecipientsRefused as exc:
            code, words = next(iter(exc.recipients.values()))
            raise self._refused(code, words) from exc
        except (OSError, smtplib.SMTPException, ValueError) as exc:
            raise SendError(
                f"{self._whose} could not be used ({type(exc).__name__})",
                recoverable=True,
                next_step="Check `host`, `port` and `security`, and that the server lets this host in.",
            ) from exc
        if refused:  # some got it: to send it again would be to send it twice to those
            code, words = next(iter(refused.values()))
            raise SendError(
                f"{self._whose} refused {len(refused)} of {len(self._config.to)} addresses: {code} {_words(words)}",
                recoverable=False,
                next_step="Correct the addresses under `to`.",
                status=code,
            )
        return 250

    def close(self) -> None:
        """Cut what is under way."""
        for smtp in list(self._open):
            with contextlib.suppress(OSError):
                smtp.close()

    def _connected(self) -> smtplib.SMTP:
        config = self._config
        context = ssl.create_default_context(cafile=config.ca_file) if config.security != "none" else None
        if config.security == "tls":
            smtp: smtplib.SMTP = smtplib.SMTP_SSL(config.host, config.port, timeout=_TIMEOUT, context=context)
        else:
            smtp = smtplib.SMTP(config.host, config.port, timeout=_TIMEOUT)
        try:
            if config.security == "starttls":
                smtp.starttls(context=context)
            if config.username is not None:
                smtp.login(config.username, config.password or "")
        except BaseException:
            smtp.close()
            raise
        return smtp

    def _refused(self, code: int, words: bytes | str) -> SendError:
        forever = 500 <= code < 600 and code not in (530, 534, 535, 538, 550, 551, 553, 554)
        return SendError(
            f"{self._whose} refused the mail: {code} {_words(words)}",
            recoverable=not forever,
            next_step="Check the user and the password." if code in (530, 534, 535, 538) else "Look at its log.",
            status=code,
        )


def _words(words: bytes | str) -> str:
    return cut(line(words.decode("utf-8", "replace") if isinstance(words, bytes) else words), 200)


def written(message: Message, config: EmailConfig) -> EmailMessage:
    """The mail."""
    mail = EmailMessage()
    domain = config.sender.rpartition("@")[2].strip("> ") or "stocktake"
    thread = f"<{message.key}@{domain}>"
    mail["Subject"] = cut(heading(message), 200)
    mail["From"] = config.sender
    mail["To"] = ", ".join(config.to)
    mail["Date"] = format_datetime(message.at)
    mail["Message-ID"] = f"<{message.key}.{message.at.timestamp():.6f}.{message.what}.{message.part}@{domain}>"
    mail["References"] = thread
    mail["In-Reply-To"] = thread
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Stocktake-Key"] = message.key
    mail.set_content(plain(message))
    return mail
