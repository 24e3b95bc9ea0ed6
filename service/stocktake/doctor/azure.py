"""Checks of an Azure ML workspace: do we get a token and as whom, is the workspace there, which right is missing where.

One GET for each right that a scan uses: the first page of each list and no more. No token and no name of a person is
told.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from stocktake.core.errors import ConfigError, SourceError
from stocktake.doctor import azure_rights
from stocktake.doctor.checks import Check, apart, fail, ok, warn
from stocktake.making import Shared, azureml_config, credential_of
from stocktake.settings import AzureMlSettings, Settings, WorkspaceSettings
from stocktake.settings.timing import format_duration
from stocktake.sources.arm import Arm
from stocktake.sources.arm_errors import codes
from stocktake.sources.azure_identity import bearer
from stocktake.sources.azureml import AzureMlConfig
from stocktake.sources.azureml_plan import WORKSPACE, Place, soft_deleted
from stocktake.sources.http import Answer

_CLOCK = 60.0  # seconds that our clock and Azure's may differ without a word: Entra allows five minutes


def workspace(
    settings: Settings, one: WorkspaceSettings, azureml: AzureMlSettings, environ: Mapping[str, str]
) -> Iterator[Check]:
    """Everything about one workspace; after the first failure there is nothing more to ask."""
    try:
        config = azureml_config(one, azureml, settings, environ, Shared())
    except ConfigError as exc:
        yield fail("source", exc.what, exc.next_step or "Put the configuration right.", one.name)
        return
    try:
        yield _credential(one, azureml, config, environ)
    except SourceError as exc:
        yield fail("credential", exc.what, exc.next_step, one.name)
        return
    try:
        # Once again and no more: who runs doctor waits for it.
        arm = Arm(replace(config.arm, http=replace(config.arm.http, retries=1)), lambda: datetime.now(UTC))
    except SourceError as exc:
        yield fail("source", exc.what, exc.next_step, one.name)
        return
    with closing(arm):
        place = Place(
            subscription=azureml.subscription, resource_group=azureml.resource_group, workspace=azureml.workspace
        )
        began = time.monotonic()
        try:
            answer = arm.get(place.scope, WORKSPACE.version, accept=frozenset({404}))
            if answer.status == 404:
                yield _missing(one, arm, place, answer)
                return
            body = answer.json()
        except SourceError as exc:
            yield fail("reach", f"{exc.what} ({exc.trouble})", exc.next_step, one.name)
            return
        properties = body.get("properties") if isinstance(body, dict) else None
        if not isinstance(properties, dict):
            yield fail("reach", "the workspace's answer has no properties", "Report this with its path.", one.name)
            return
        state = properties.get("provisioningState")
        words = f"{body.get('location')}, {state}; the first answer took {time.monotonic() - began:.1f} s"
        yield ok("reach", f"the workspace is there: {words}", one.name)
        yield _clock(one, answer)
        yield from azure_rights.rights(one, config, arm, replace(place, location=str(body.get("location"))), properties)


def _credential(
    one: WorkspaceSettings, azureml: AzureMlSettings, config: AzureMlConfig, environ: Mapping[str, str]
) -> Check:
    """Get a token, and say as whom. Raises SourceError when there is none."""
    token = config.arm.http.token
    assert callable(token)
    who = bearer(token())
    said = f"{credential_of(one, azureml, environ).words}: {who.words}"
    if who.ends is None:
        return ok("credential", said, one.name)
    left = timedelta(minutes=(who.ends - datetime.now(UTC).timestamp()) // 60)
    if left <= timedelta():
        step = "Set this machine's clock (NTP), or renew the token: Azure will refuse it."
        return fail("credential", f"{said}; the token ended {format_duration(-left)} ago", step, one.name)
    said += f"; the token is good for {format_duration(left)}"
    if azureml.credential == "token":
        step = "Let a service that runs on its own use another credential: nobody renews this one."
        return warn("credential", said, step, one.name)
    return ok("credential", said, one.name)


def _missing(one: WorkspaceSettings, arm: Arm, place: Place, answer: Answer) -> Check:
    """Tell apart why there is no such workspace: the wrong place, deleted, or deleted and still to be brought back."""
    said = codes(answer)
    if "SubscriptionNotFound" in said:
        step = "Check `subscription`, and `tenant`: an identity sees the subscriptions of its own tenant alone."
        return fail("reach", f"the subscription {place.subscription} is not there for this identity", step, one.name)
    if "ResourceGroupNotFound" in said:
        step = "Check `resource_group`: it was renamed, deleted, or is in another subscription."
        return fail("reach", f"there is no resource group {place.resource_group} there", step, one.name)
    what = f"there is no workspace {place.workspace} in {place.resource_group}"
    wanted = place.scope.rpartition("/providers/")[2].casefold()
    try:
        for page in arm.pages(soft_deleted(place.subscription), "2024-04-01"):
            ids = [str(json.loads(raw).get("id")).casefold() for raw in page.items]
            if any(one.replace("/deletedworkspaces/", "/workspaces/").endswith(wanted) for one in ids):
                step = "Recover it within 14 days of its deletion; until then all that was known of it is kept."
                return fail("reach", f"{what}: it is soft-deleted", step, one.name)
    except SourceError:
        step = "Check `workspace`. Whether it was deleted, and can be recovered, is not told to this identity."
        return fail("reach", what, step, one.name)
    step = "Check `workspace`; a deleted one can be brought back for 14 days, and this one is not among those."
    return fail("reach", what, step, one.name)


def _clock(one: WorkspaceSettings, answer: Answer) -> Check:
    """Compare our clock with Azure's: tokens and hot passes both hang on it."""
    try:
        theirs = parsedate_to_datetime(answer.headers["date"]).astimezone(UTC)
    except (KeyError, ValueError):
        step = "Make sure that this machine follows a time server (NTP)."
        return warn("clock", "Azure's answer does not tell its time", step, one.name)
    # A Date header is cut to the second: its moment is half a second later on average.
    difference = (theirs - (answer.answered_at or answer.requested_at)).total_seconds() + 0.5
    if abs(difference) <= _CLOCK:
        return ok("clock", f"agrees with this machine's within {max(1, abs(difference)):.0f} s", one.name)
    message = f"Azure's clock is {apart(difference)}"
    step = "Let this machine follow a time server (NTP): tokens are refused when it is minutes off."
    return warn("clock", message, step, one.name)
