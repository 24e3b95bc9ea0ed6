"""Microsoft's own client, made so that it can do no harm. The one file that imports azure-ai-ml, when used.

It sends GET and nothing else: whatever it is asked to do, a POST (as listSecrets, which answers with a key) is refused
before it is sent, and so is a request to a host that no token of ours may go to.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import Enum
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from stocktake.core.errors import SourceError, Trouble
from stocktake.sources.arm_errors import AzureError, explain
from stocktake.sources.azure_identity import Cloud, Token, bearer
from stocktake.sources.azureml_hosts import within
from stocktake.sources.http import Answer, ForbiddenRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

INSTALL = (
    "This needs azure-ai-ml, Microsoft's client, which is not installed here."
    " Install it beside stocktake: pip install 'stocktake[azure]'"
)
_READS = frozenset({"GET", "HEAD"})


def installed() -> bool:
    """Whether azure-ai-ml is here. Asked without importing it: that takes seconds."""
    try:
        return find_spec("azure.ai.ml") is not None
    except ModuleNotFoundError:
        return False


def made(
    cloud: Cloud, token: Token, place: tuple[str, str, str], *, ca_file: str | None = None, timeout: float = 60.0
) -> Any:
    """The client of one workspace; `place` is its subscription, resource group and name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from azure.ai.ml import MLClient

    # It tells of classes that may change some day. Not before the import, which sets the level of its own.
    logging.getLogger("azure.ai.ml").setLevel(logging.ERROR)

    options: dict[str, Any] = {"connection_verify": ca_file} if ca_file else {}
    if not cloud.known:
        options["cloud_metadata"] = {
            "azure_portal": "https://portal.azure.com",
            "resource_manager": cloud.resource_manager,
            "active_directory": cloud.authority,
            "aml_resource_id": cloud.resource_manager,
            "storage_endpoint": cloud.storage,
            "registry_discovery_endpoint": cloud.resource_manager,
        }
    return MLClient(
        TokenOnly(token),
        *place,
        cloud=cloud.name,
        enable_telemetry=False,
        show_progress=False,
        read_timeout=timeout,
        per_call_policies=[_guard(cloud)],
        **options,
    )


class TokenOnly:
    """Our token as the libraries of Azure ask for one: kept, renewed ahead, and refused in our own words."""

    def __init__(self, token: Callable[[], str]) -> None:
        self._token = token

    def get_token(self, *_: str, **__: Any) -> Any:
        """The token, whatever the scope: it was asked for the only one that it may be sent to."""
        from azure.core.credentials import AccessToken

        text = self._token()
        ends = bearer(text).ends
        # One that is opaque is asked for again before each request; the token itself is kept all the same.
        return AccessToken(text, ends if ends is not None else int(datetime.now(UTC).timestamp()) + 60)


def _guard(cloud: Cloud) -> Any:
    from azure.core.pipeline import PipelineRequest
    from azure.core.pipeline.policies import SansIOHTTPPolicy

    class Guard(SansIOHTTPPolicy[Any, Any]):
        """Lets nothing but reads out, and these to the cloud's own hosts alone."""

        def on_request(self, request: PipelineRequest[Any]) -> None:
            sent = request.http_request
            host = urlsplit(sent.url).hostname or ""
            home = urlsplit(cloud.resource_manager).hostname or ""
            if sent.method not in _READS:
                raise ForbiddenRequest(f"{sent.method} {urlsplit(sent.url).path} is no read, and was not sent")
            if host != home and not any(within(host, allowed) for allowed in cloud.data_hosts):
                raise SourceError(
                    Trouble.CONFIG,
                    f"the workspace leads to the host {host}, to which no token may be sent; nothing was",
                    next_step="Set `cloud` to the one this workspace is in (its data-plane hosts are part of it).",
                )

    return Guard()


def plain(value: Any) -> Any:
    """A value as YAML has it: enumerations by their value, times as text."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    return dict(value) if isinstance(value, Mapping) else None if value is None else str(value)


def dumped(entity: Any) -> dict[str, Any]:
    """What an entity says of itself, by the client's own writer (YAML, the form of its files)."""
    import yaml

    text = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        entity.dump(text)
    made = yaml.safe_load(text.getvalue())
    return made if isinstance(made, dict) else {}


@contextmanager
def in_words(what: str) -> Iterator[None]:
    """Turn what the client raises into our own words: of its messages only what has a fixed form is told."""
    from azure.core import exceptions

    try:
        yield
    except (SourceError, ForbiddenRequest):
        raise
    except exceptions.HttpResponseError as exc:
        if exc.response is None:
            raise _unread(what, exc) from None
        raise _explained(what, exc.response) from None
    except (exceptions.ServiceRequestError, exceptions.ServiceResponseError) as exc:
        raise SourceError(
            Trouble.UNREACHABLE,
            f"{what} could not be asked for ({type(exc).__name__})",
            next_step="Check the network, DNS and proxy between here and the resource manager, and `ca_file`.",
        ) from None
    except Exception as exc:  # noqa: BLE001 - it raises many makes on a body that it does not know
        raise _unread(what, exc) from None


def _explained(what: str, response: Any) -> SourceError:
    answer = Answer(
        what=what,
        status=response.status_code,
        body=response.body(),
        content_type=response.headers.get("content-type", ""),
        requested_at=datetime.now(UTC),
    )
    error = explain(answer)
    gone = {"ResourceNotFound", "ResourceGroupNotFound", "SubscriptionNotFound", "WorkspaceNotFound"}
    if response.status_code == 404 and not (isinstance(error, AzureError) and gone & set(error.codes)):
        return SourceError(
            Trouble.NOT_FOUND, f"there is no {what}", next_step="Check the name; `stocktake list job` has those that"
            " were seen.", status=404,
        )  # fmt: skip
    return error


def _unread(what: str, exc: Exception) -> SourceError:
    return SourceError(
        Trouble.SHAPE,
        f"azure-ai-ml could not read {what} ({type(exc).__name__}): it does not know every type that Azure has",
        next_step="`stocktake show` has the whole body as the last scan saw it.",
    )
