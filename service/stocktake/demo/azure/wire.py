"""Requests and answers as values, and how Azure says no: error bodies word by word as they were recorded."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stocktake.demo.azure.seeded import Body, guid

_VERSION = re.compile(r"20(2\d)-\d\d-\d\d(-preview|-dataplanepreview|-privatepreview)?|20(1[4-9])-\d\d-\d\d(-preview)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request. Names in the query are in lower case; `$` is part of a name."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)  # lower case
    body: bytes = b""

    def json(self) -> Any:
        """The body, where it is JSON; {} otherwise."""
        try:
            return json.loads(self.body or b"{}")
        except ValueError:
            return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One answer: a JSON value, or bytes as they are."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Refused(Exception):
    """An answer that ends the asking for it."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


def gateway_error(status: int, code: str, message: str, **headers: str) -> Refused:
    """An error of the resource manager itself."""
    body = {"error": {"code": code, "message": message}}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Refused(Response(status=status, body=body, headers={"x-ms-failure-cause": "gateway"} | named))


def service_error(
    status: int, message: str, *inner: str, details: str | None = None, code: str = "UserError"
) -> Refused:
    """An error of the service behind the resource manager; `inner` are its codes from outside in."""
    nested: Body | None = None
    for name in reversed(inner):
        nested = {"code": name, "innerError": nested}
    information = {
        "ComponentName": "managementfrontend",
        "Correlation": {"operation": guid(len(message)).replace("-", ""), "request": "6dfd9b4bc1862655"},
        "Environment": "westeurope", "Location": "westeurope", "Time": "2026-01-05T09:00:00.0000000+00:00",
        "InnerError": nested,
    }  # fmt: skip
    lines = [{"code": details, "message": message, "details": [], "additionalInfo": []}] if details else []
    said = "The specified resource was not found." if details else message
    told = [{"type": name, "info": {"value": value}} for name, value in information.items()]
    error: Body = {"code": code, "message": said, "details": lines, "additionalInfo": told}
    return Refused(Response(status=status, body={"error": error}))


def data_plane_error(status: int, message: str, *inner: str, component: str) -> Refused:
    """An error of a data plane service (run history, MLflow)."""
    nested: Body | None = None
    for name in reversed(inner):
        nested = {"code": name, "innerError": nested}
    error: Body = {
        "code": "UserError", "severity": None, "message": message, "messageFormat": None, "messageParameters": None,
        "referenceCode": None, "detailsUri": None, "target": None, "details": [], "innerError": nested,
        "debugInfo": None, "additionalInfo": None,
    }  # fmt: skip
    body = {
        "error": error, "correlation": {"operation": "0", "request": "0"}, "environment": "westeurope",
        "location": "westeurope", "time": "2026-01-05T09:00:00.0000000+00:00", "componentName": component,
    }  # fmt: skip
    return Refused(Response(status=status, body=body))


def no_resource(kind: str, name: str, group: str) -> Refused:
    """A resource that ARM does not know, e.g. a workspace."""
    return gateway_error(
        404, "ResourceNotFound",
        f"The Resource '{kind}/{name}' under resource group '{group}' was not found. For more details please go to"
        " https://aka.ms/ARMResourceNotFoundFix",
    )  # fmt: skip


def no_route(path: str) -> Refused:
    """A path that nobody offers."""
    kind = "/".join(path.rsplit("/providers/", maxsplit=1)[-1].split("/")[1::2]) or path
    return gateway_error(
        404, "InvalidResourceType", f"The resource type '{kind}' could not be found in the namespace"
        f" '{path.rsplit('/providers/', maxsplit=1)[-1].split('/', maxsplit=1)[0]}'.",
    )  # fmt: skip


_NOT_FOUND = {
    "jobs": ("Job {0} not found.", ("NotFound", "JobNotFound"), None),
    "schedules": ("Resource Trigger {0} not found", ("NotFound", "TriggerNotFound"), None),
    "datastores": ("Could not find datastore: {0}.", ("NotFound", "NoSuchDataStore"), None),
    "models": ("Model container with name: {0} not found.", ("NotFound", "ModelNotFound"), "ModelNotFound"),
    "data": ("Data container with name: {0} not found.", ("NotFound", "DatasetNotFound"), None),
    "environments": ("No environment exists for name: {0}, version: , label: ", ("NotFoundError",), None),
    "components": ("Not found component {0}.", ("NotFound", "ComponentNotFound"), None),
    "onlineEndpoints": ("There is no endpoint with name: {0}", ("NotFound", "NoSuchEndpoint"), "NoSuchEndpoint"),
    "batchEndpoints": ("There is no endpoint with name: {0}", ("NotFound", "NoSuchEndpoint"), "NoSuchEndpoint"),
    "deployments": ("There is no deployment with name: {0}", ("NotFound", "NoSuchDeployment"), "NoSuchDeployment"),
    "connections": ("Connection {0} can't be found in this workspace", ("NotFoundError",), None),
}


def no_item(kind: str, name: str) -> Refused:
    """An item of a workspace that is not there, in the words of the service that keeps its kind."""
    if kind == "computes":  # recorded so: no body at all
        return Refused(Response(status=404, body=None))
    words, inner, details = _NOT_FOUND.get(kind, ("The resource {0} was not found.", ("NotFound",), None))
    code = "NotFound" if kind.endswith(("Endpoints", "deployments")) else "UserError"
    return service_error(404, words.format(name), *inner, details=details, code=code)


def require_version(request: Request) -> str:
    """The API version of a request, refused as ARM does when it is missing or nonsense."""
    version = request.query.get("api-version", "")
    if not version:
        raise gateway_error(
            400, "MissingApiVersionParameter",
            "The api-version query parameter (?api-version=) is required for all requests.",
        )  # fmt: skip
    if not _VERSION.fullmatch(version):
        raise gateway_error(
            400, "NoRegisteredProviderFound",
            f"No registered resource provider found for location 'westeurope' and API version '{version}'."
            " The supported api-versions are '2023-08-01-preview, 2024-04-01, 2024-10-01'.",
        )  # fmt: skip
    return version


def token(position: int, what: str) -> str:
    """A token that continues a list: opaque, and worth nothing for another list."""
    return base64.urlsafe_b64encode(f"{position}|{what}".encode()).decode().rstrip("=")


def position(text: str | None, what: str) -> int | None:
    """The place that a token means; refused when it is not of this list."""
    if not text:
        return None
    try:
        found, _, about = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().partition("|")
        if about == what:
            return int(found)
    except (ValueError, binascii.Error):
        pass
    raise service_error(400, "The continuation token is invalid.", "BadArgument", "ContinuationTokenInvalid")
