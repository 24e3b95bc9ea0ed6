"""Why there was no answer: what the HTTP library, TLS and the operating system say, in an operator's words. Pure."""

from __future__ import annotations

import re
import socket

import httpx

from stocktake.core.errors import SourceError, Trouble

#: OpenSSL's words for an answer that is not TLS at all.
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST")


def connection_error(exc: Exception, what: str, host: str) -> SourceError:
    """Turn an error of the HTTP library into the trouble behind it. `what` was asked of `host` (with its port)."""
    reason = str(exc) or type(exc).__name__
    if any(words in reason for words in _NO_TLS):
        return SourceError(
            Trouble.TLS,
            f"{what}: the TLS connection to {host} failed: what answers there does not speak TLS",
            next_step="This port speaks http: write http:// in place of https://, or name the port of https.",
        )
    if "CERTIFICATE_VERIFY_FAILED" in reason or "SSL" in reason:
        return SourceError(
            Trouble.TLS,
            f"{what}: the TLS connection to {host} failed: {_tls_reason(reason)}",
            next_step="Set ca_file to the authority that signed the certificate, or correct the host name.",
        )
    if isinstance(exc, httpx.UnsupportedProtocol | httpx.InvalidURL):
        return config_error(f"{what}: the URL cannot be requested", "Write it as https://host[:port][/path].")
    if isinstance(exc, httpx.DecodingError):
        return SourceError(
            Trouble.SHAPE, f"{what}: the compressed answer is damaged", next_step="Look for a proxy that alters it."
        )
    if isinstance(exc, httpx.TimeoutException):
        text, step = "did not answer in time", "Check the server's load, or raise `timeout`."
    elif isinstance(exc, httpx.ConnectError):
        text, step = _unconnected(exc)
    else:
        text, step = "broke the connection off", "Look at the server's log and at proxies in between."
    return SourceError(Trouble.UNREACHABLE, f"{what}: {host} {text}", next_step=step)


def config_error(what: str, next_step: str) -> SourceError:
    """What we were told to do cannot be done."""
    return SourceError(Trouble.CONFIG, what, next_step=next_step)


def _unconnected(exc: BaseException) -> tuple[str, str]:
    """Say why there is no connection, by the operating system's error behind the HTTP library's."""
    cause: BaseException | None = exc
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    match cause:
        case socket.gaierror():
            return "could not be connected to: the name does not resolve", "Check the URL, and DNS here."
        case ConnectionRefusedError():
            step = "Check the URL and its port, the firewall, and that the server runs and listens there."
            return "could not be connected to: the connection was refused", step
        case OSError() if cause.strerror:
            step = "Check the URL, the network and the firewall."
            return f"could not be connected to: {cause.strerror.lower()}", step
    return "could not be connected to", "Check the URL, DNS, the firewall, and that the server runs."


def _tls_reason(reason: str) -> str:
    """OpenSSL's words without its file and line."""
    return re.sub(r"\s*\(_ssl\.c:\d+\)", "", reason).removeprefix("[SSL: CERTIFICATE_VERIFY_FAILED] ")
