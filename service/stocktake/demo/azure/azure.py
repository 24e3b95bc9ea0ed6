"""The whole loopback Azure as one function from request to answer: who asks, whether he may, and what he gets."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from stocktake.demo.azure.arm import Arm
from stocktake.demo.azure.asked import Asked, asked
from stocktake.demo.azure.data_plane import DataPlane
from stocktake.demo.azure.estate import Estate
from stocktake.demo.azure.seeded import TENANT, guid
from stocktake.demo.azure.wire import Refused, Request, Response, data_plane_error, gateway_error

PRINCIPAL = guid(0, 4711)


class Azure:
    """An estate behind its services. Without a token nothing is answered but the discovery of the data plane."""

    def __init__(self, estate: Estate, page_of: Callable[[str], int] | None = None) -> None:
        self.estate = estate
        self.arm = Arm(estate, page_of)
        self.data_plane = DataPlane(estate)

    def answer(self, request: Request) -> Response:
        """Answer a request; errors are answers too."""
        with self.estate.lock:
            what = asked(request)
            try:
                self._authenticate(request, what)
                self._authorize(what)
                served = self.data_plane if self.data_plane.serves(request.path) else self.arm
                answer = served.answer(request)
            except Refused as refused:
                answer = refused.response
            headers = {"date": f"{self.estate.now():%a, %d %b %Y %H:%M:%S} GMT"}
            headers["x-ms-correlation-request-id" if what.plane in ("arm", "graph") else "x-request-time"] = "0.021"
            if what.plane in ("arm", "graph"):
                headers["x-ms-correlation-request-id"] = guid(len(request.path), 5)
            return replace(answer, headers=headers | dict(answer.headers))

    def _authenticate(self, request: Request, what: Asked) -> None:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and token:
            expires = expiry(token)
            if expires is None or expires > self.estate.now():
                return
            message = (
                f"The access token expiry UTC time '{expires:%m/%d/%Y %I:%M:%S %p}' is earlier than current UTC time"
            )
            code = "ExpiredAuthenticationToken"
        elif what.plane == "discovery":
            return
        else:
            code, message = "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing."
        challenge = f'Bearer authorization_uri="https://login.microsoftonline.com/{TENANT}", error="invalid_token"'
        if what.plane in ("arm", "graph"):
            raise gateway_error(401, code, message, www_authenticate=challenge)
        raise data_plane_error(401, message, "Auth", "Authentication", component=what.plane)

    def _authorize(self, what: Asked) -> None:
        if not what.action or not self.estate.denied(what.scope or what.path, what.action):
            return
        if what.plane == "arm":
            raise gateway_error(
                403, "AuthorizationFailed",
                f"The client '{PRINCIPAL}' with object id '{PRINCIPAL}' does not have authorization to perform action"
                f" '{what.action}' over scope '{what.scope}' or the scope is invalid. If access was recently granted,"
                " please refresh your credentials.",
            )  # fmt: skip
        raise data_plane_error(
            403, f"The user does not have permissions for {what.action} actions.", "Auth", "Authorization",
            component=what.plane,
        )  # fmt: skip


def bearer(
    now: datetime, *, audience: str, lifetime: timedelta = timedelta(hours=1), principal: str = PRINCIPAL
) -> str:
    """A token of the form that Entra's have, signed by nobody."""
    claims = {
        "aud": audience, "iss": f"https://sts.windows.net/{TENANT}/", "tid": TENANT, "oid": principal,
        "appid": guid(1, 4711), "iat": int(now.timestamp()), "exp": int((now + lifetime).timestamp()),
    }  # fmt: skip
    parts = ({"typ": "JWT", "alg": "none"}, claims)
    text = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    return ".".join([*text, "unsigned"])


def claims_of(token: str) -> dict[str, object]:
    """What a token says; {} of one that is no token of ours."""
    try:
        middle = token.split(".")[1]
        found = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    except (IndexError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def expiry(token: str) -> datetime | None:
    """When a token ends, if it says so."""
    at = claims_of(token).get("exp")
    return datetime.fromtimestamp(at, UTC) if isinstance(at, int) else None
