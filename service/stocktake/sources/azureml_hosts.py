"""Where a workspace's data plane is: its own word for it, believed only about hosts that our token may be sent to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from stocktake.core.errors import SourceError, Trouble

_SCHEMES = {"azureml": "https", "https": "https"}


@dataclass(frozen=True, slots=True)
class DataPlane:
    """The addresses of a workspace's MLflow and run-history."""

    origin: str  # https://HOST[:PORT]
    scope: str  # /subscriptions/.../workspaces/NAME

    @property
    def mlflow(self) -> str:
        """Below it lies /api/2.0/mlflow/..."""
        return f"{self.origin}/mlflow/v2.0{self.scope}"

    @property
    def history(self) -> str:
        """Below it lies /runs/..."""
        return f"{self.origin}/history/v1.0{self.scope}"


def data_plane(tracking_uri: object, hosts: Sequence[str], scope: str) -> DataPlane:
    """Read azureml://HOST/mlflow/v1.0/SCOPE. Raises SourceError(CONFIG) where the host or the scope is not ours.

    The address comes from the workspace's body: whoever can write that body must not learn our token.
    """
    if not isinstance(tracking_uri, str) or not tracking_uri:
        raise _refused("the workspace names no mlFlowTrackingUri")
    try:
        parts = urlsplit(tracking_uri)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _refused("the workspace's mlFlowTrackingUri is no address") from None
    if _SCHEMES.get(parts.scheme) is None or parts.username is not None or parts.password is not None:
        raise _refused("the workspace's mlFlowTrackingUri is not azureml:// or https://")
    if not any(within(host, allowed) for allowed in hosts):
        raise _refused(f"the workspace's mlFlowTrackingUri names the host {host}, to which no token may be sent")
    named = "/" + parts.path.partition("/mlflow/v1.0/")[2].rstrip("/")
    if unquote(named).casefold() != unquote(scope).casefold():
        raise _refused("the workspace's mlFlowTrackingUri names another workspace")
    return DataPlane(origin=f"https://{host}" + (f":{port}" if port else ""), scope=scope)


def within(host: str, allowed: str) -> bool:
    """Whether a host is one that is allowed, or below it."""
    plain = allowed.lstrip(".").casefold()
    return bool(plain) and (host.casefold() == plain or host.casefold().endswith(f".{plain}"))


def _refused(what: str) -> SourceError:
    return SourceError(
        Trouble.CONFIG,
        f"{what}; nothing was sent there",
        next_step="Set `cloud` to the one this workspace is in (its data-plane hosts are part of it).",
    )
