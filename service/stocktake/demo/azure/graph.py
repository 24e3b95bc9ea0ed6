"""What Resource Graph answers to the one question that discovery asks: the workspaces of subscriptions, by tag."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from stocktake.demo.azure.estate import MANAGEMENT_GROUP, Estate
from stocktake.demo.azure.seeded import TENANT, Body
from stocktake.demo.azure.wire import gateway_error, position, token

_TAG = re.compile(
    r"tags\s*(?:\[\s*['\"](?P<quoted>[^'\"]+)['\"]\s*\]|\.(?P<plain>\w+))\s*(?P<how>=~|==)\s*['\"](?P<value>[^'\"]*)['\"]"
)
_GROUP = re.compile(r"resourceGroup\s*=~\s*'([^']+)'")
READ = "Microsoft.MachineLearningServices/workspaces/read"


def answer(estate: Estate, question: Mapping[str, Any]) -> Body:
    """Answer a query: what the caller may not read is left out without a word, as Azure does it."""
    query = str(question.get("query", ""))
    if "machinelearningservices/workspaces" not in query.lower():
        raise gateway_error(400, "BadRequest", "Please provide below info when asking for support: query is invalid.")
    groups = question.get("managementGroups")
    if groups and MANAGEMENT_GROUP not in groups:
        raise gateway_error(403, "AccessDenied", "No management group that the caller may read was given.")
    asked = question.get("subscriptions")
    rows = []
    for one in estate.workspaces():
        if asked and one.subscription not in asked:
            continue
        if estate.denied(one.scope, READ):
            continue
        body = one.body()
        if all(_has(body["tags"], found) for found in _TAG.finditer(query)) and _within(query, one.group):
            rows.append(body | {"type": body["type"].lower(), "subscriptionId": one.subscription,
                                "resourceGroup": one.group.lower(), "tenantId": TENANT})  # fmt: skip
    options = question.get("options") or {}
    start = position(options.get("$skipToken"), "graph") or 0
    size = int(options.get("$top") or 1000)
    page = rows[start : start + size]
    more = {"$skipToken": token(start + size, "graph")} if len(rows) > start + size else {}
    return {
        "totalRecords": len(rows),
        "count": len(page),
        "data": page,
        "facets": [],
        "resultTruncated": "false",
    } | more


def _has(tags: Mapping[str, str], found: re.Match[str]) -> bool:
    value = tags.get(found["quoted"] or found["plain"])
    if value is None:
        return False
    return value.lower() == found["value"].lower() if found["how"] == "=~" else value == found["value"]


def _within(query: str, group: str) -> bool:
    found = _GROUP.search(query)
    return found is None or found[1].lower() == group.lower()
