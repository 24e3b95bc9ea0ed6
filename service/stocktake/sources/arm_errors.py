"""What Azure's errors mean to an operator, and what to do about each. Pure.

Of a message only what has a fixed form is read (the missing action, the scope, our own object id): a message may quote
a payload, and a payload may hold secrets.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from stocktake.core.errors import SourceError, Trouble
from stocktake.sources.http import Answer, status_error

_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{1,79}")
_ACTION = re.compile(r"\bMicrosoft\.[A-Za-z]+(?:/[A-Za-z0-9_-]+)*/(?:read|action|write|delete)\b")
_SCOPE = re.compile(r"over scope '(/[\w\-./() ]{0,600})'")
_OBJECT = re.compile(r"object id '([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})'")
_PRIVATE = re.compile(r"public (?:network )?access|private (?:endpoint|link)", re.IGNORECASE)
_SOFT_DELETED = re.compile(r"soft[- ]?deleted", re.IGNORECASE)
#: Names and ids in a message: what somebody calls soft-deleted need not be.
_QUOTED = re.compile(r"""'[^']*'|"[^"]*"|`[^`]*`|/[^\s]+""")
#: Codes that say of anything that it is not there: of a workspace the words then tell how.
_ANY_RESOURCE = frozenset({"ResourceNotFound", "WorkspaceNotFound"})

#: Codes that say: this identity may not, whatever the load.
DENIALS = frozenset({"AuthorizationFailed", "LinkedAuthorizationFailed", "RequestDisallowedByPolicy", "AccessDenied"})

#: Codes of a 401 that another try with a token asked for anew may cure.
STALE_TOKENS = frozenset({"ExpiredAuthenticationToken", "TokenExpired", "AuthenticationTokenExpired"})

_RIGHT = "Assign a role that has it (docs/how-to/azure-permissions.md); a new assignment takes up to 10 minutes."
_SCOPE_STEP = "Check subscription, resource_group and workspace in the configuration, and that nobody moved it."
_LOGIN = (
    "Check the credential and the tenant of this workspace; `stocktake doctor` shows which one is used, and as whom."
)
_FAULT = "The next scan tries again; if it stays so, look at Azure's service health for the region."

#: code -> what it is to an operator, and the next step. The most specific code of an answer that is listed decides.
MEANINGS: Mapping[str, tuple[Trouble, str]] = {
    **dict.fromkeys(
        DENIALS | {"UserAuthorizationFailed", "AuthorizationPermissionMismatch"}, (Trouble.PERMISSION, _RIGHT)
    ),
    **dict.fromkeys(
        (
            "ResourceNotFound",
            "ResourceGroupNotFound",
            "SubscriptionNotFound",
            "InvalidSubscriptionId",
            "ParentResourceNotFound",
            "WorkspaceNotFound",
        ),
        (Trouble.NOT_FOUND, _SCOPE_STEP),
    ),
    "DisallowedOperation": (Trouble.PERMISSION, "The subscription may be disabled: look at its state in the portal."),
    "ReadOnlyDisabledSubscription": (
        Trouble.PERMISSION,
        "The subscription is disabled: enable it, or stop watching it.",
    ),
    **dict.fromkeys(
        ("NoRegisteredProviderFound", "InvalidResourceType", "UnsupportedApiVersion", "InvalidApiVersionParameter"),
        (
            Trouble.REGION,
            "This region or cloud does not offer it, or not in this version of the API; nothing of it can be listed.",
        ),
    ),
    **dict.fromkeys(
        ("MissingSubscriptionRegistration", "SubscriptionNotRegistered"),
        (
            Trouble.REGION,
            "The resource provider is not registered in this subscription: register it, or stop watching this place.",
        ),
    ),
    "LocationNotAvailableForResourceType": (Trouble.REGION, "This region does not offer it; nothing needs to be done."),
    **dict.fromkeys(
        STALE_TOKENS, (Trouble.AUTHENTICATION, "Check this machine's clock: the token it sent had run out.")
    ),
    "InvalidAuthenticationTokenTenant": (
        Trouble.AUTHENTICATION,
        "The token is of another tenant than the subscription: set `tenant` to the subscription's.",
    ),
    "InvalidAuthenticationTokenAudience": (
        Trouble.AUTHENTICATION,
        "The token is for another cloud: set `cloud` to the one that the subscription is in.",
    ),
    **dict.fromkeys(
        ("InvalidAuthenticationToken", "AuthenticationFailed", "AuthenticationFailedMissingToken", "Unauthorized"),
        (Trouble.AUTHENTICATION, _LOGIN),
    ),
    **dict.fromkeys(
        (
            "TooManyRequests",
            "SubscriptionRequestsThrottled",
            "ResourceRequestsThrottled",
            "OperationNotAllowedThrottled",
        ),
        (Trouble.THROTTLED, "Scan less often, or watch fewer workspaces of one subscription with one identity."),
    ),
    **dict.fromkeys(
        ("QuotaExceeded", "ResourceQuotaExceeded", "SubscriptionQuotaExceeded"),
        (
            Trouble.QUOTA,
            "A limit of the subscription or the workspace is used up: raise it, or remove what is not used.",
        ),
    ),
    **dict.fromkeys(
        (
            "LinkedResourceNotFound",
            "StorageAccountNotFound",
            "KeyVaultNotFound",
            "DependencyNotFound",
            "DependentResourceNotFound",
            "FailedDependency",
            "WorkspaceStorageNotFound",
            "ContainerNotFound",
        ),
        (
            Trouble.DEPENDENCY,
            "Something the workspace needs (its storage account, key vault, registry, insights) is gone: restore it.",
        ),
    ),
    **dict.fromkeys(
        ("WorkspaceSoftDeleted", "SoftDeletedWorkspace"),
        (
            Trouble.SOFT_DELETED,
            "It can be recovered for 14 days: `az ml workspace` or the portal; else stop watching it.",
        ),
    ),
    **dict.fromkeys(
        (
            "InternalServerError",
            "InternalError",
            "ServiceError",
            "ServiceUnavailable",
            "ServerTimeout",
            "SystemError",
            "TransientError",
            "GatewayTimeout",
        ),
        (Trouble.SERVER, _FAULT),
    ),
}

_BY_STATUS: Mapping[int, tuple[Trouble, str]] = {
    401: (Trouble.AUTHENTICATION, _LOGIN),
    403: (Trouble.PERMISSION, _RIGHT),
    404: (Trouble.NOT_FOUND, _SCOPE_STEP),
    410: (Trouble.NOT_FOUND, _SCOPE_STEP),
    429: MEANINGS["TooManyRequests"],
}


class AzureError(SourceError):
    """An answer of Azure's that is no success, with what it said in fixed form."""

    def __init__(
        self,
        trouble: Trouble,
        what: str,
        *,
        next_step: str,
        status: int,
        codes: tuple[str, ...] = (),
        action: str | None = None,
        scope: str | None = None,
    ) -> None:
        super().__init__(trouble, what, next_step=next_step, status=status)
        self.codes = codes  # from the general to the specific: ("UserError", "NotFound", "ComponentNotFound")
        self.action = action  # the right that is missing
        self.scope = scope  # and where


def explain(answer: Answer) -> SourceError:
    """The trouble behind an answer of the resource manager or of a workspace's own hosts."""
    error, message = _error(answer)
    codes = tuple(_codes(error)) if error else ()
    if not codes and answer.status not in _BY_STATUS:
        return status_error(answer)
    trouble, step = _meaning(answer.status, codes, message)
    what = " ".join((f"{answer.what} answered with status {answer.status}", *codes[:1], *codes[-1:][: len(codes) - 1]))
    action = scope = None
    if trouble is Trouble.PERMISSION:
        action, scope = _first(_ACTION, message), _first(_SCOPE, message)
        who = _first(_OBJECT, message)
        what += f": the identity{f' with object id {who}' if who else ''} lacks {action}" if action else ""
        what += f" on {scope}" if action and scope else ""
        if _PRIVATE.search(message):
            what += ": the workspace lets in private networks alone"
            step = "Run stocktake where the workspace's private endpoint is reachable, or allow this network's address."
    return AzureError(trouble, what, next_step=step, status=answer.status, codes=codes, action=action, scope=scope)


def codes(answer: Answer) -> tuple[str, ...]:
    """Every error code of an answer, from the general to the specific; none when it is no error of Azure's."""
    error, _ = _error(answer)
    return tuple(_codes(error)) if error else ()


def _meaning(status: int, codes: tuple[str, ...], message: str) -> tuple[Trouble, str]:
    if status == 429:
        return MEANINGS["TooManyRequests"]  # QuotaExceeded stands beside it: the quota of requests
    known = next((code for code in reversed(codes) if code in MEANINGS), None)
    if (
        status in (404, 409, 410)
        and (known is None or known in _ANY_RESOURCE)
        and not any(code.endswith(("GroupNotFound", "SubscriptionNotFound")) for code in codes)
        and _SOFT_DELETED.search(_QUOTED.sub("", message))
    ):
        return MEANINGS["WorkspaceSoftDeleted"]
    if known is not None:
        return MEANINGS[known]
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= 500:
        return Trouble.SERVER, _FAULT
    return Trouble.SHAPE, "Report this with the path and the code: stocktake asked for what the service does not take."


def _error(answer: Answer) -> tuple[Mapping[str, Any] | None, str]:
    """The error object of an answer, and its message: in an envelope as ARM writes it, or bare."""
    try:
        body = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None, ""
    if not isinstance(body, dict):
        return None, ""
    error = body.get("error", body)
    if not isinstance(error, dict):
        error = body
    message = error.get("message")
    return error, message[:4096] if isinstance(message, str) else ""


def _codes(error: Mapping[str, Any]) -> Iterator[str]:
    """The codes of an error: its own, of its details, and down its inner errors, wherever a service puts them."""
    for name in ("code", "error_code"):
        yield from _code(error.get(name))
    details = error.get("details")
    for detail in details[:5] if isinstance(details, list) else ():
        if isinstance(detail, dict):
            yield from _code(detail.get("code"))
    inner: Any = error.get("innerError", error.get("innererror"))
    extra = error.get("additionalInfo")
    for one in extra if isinstance(extra, list) else ():
        if isinstance(one, dict) and one.get("type") == "InnerError" and isinstance(one.get("info"), dict):
            inner = one["info"].get("value")
    for _ in range(10):  # deep enough for every recorded one, and no circle
        if not isinstance(inner, dict):
            return
        yield from _code(inner.get("code"))
        inner = inner.get("innerError", inner.get("innererror"))


def _code(value: Any) -> Iterator[str]:
    if isinstance(value, str) and _CODE.fullmatch(value):
        yield value


def _first(pattern: re.Pattern[str], message: str) -> str | None:
    found = pattern.search(message)
    return (found[1] if pattern.groups else found[0]) if found else None
