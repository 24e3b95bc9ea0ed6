"""Puts workbook.json and alerts.json into the ARM templates beside them: `python deploy/azure/pack.py`.

A test fails when that was forgotten. ARM cannot read a second file, and the portal's editor wants the workbook alone,
so both are kept.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def template(workbook: dict[str, Any]) -> dict[str, Any]:
    """The ARM template that deploys the workbook to a resource group."""
    return {
        "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
        "contentVersion": "1.0.0.0",
        "metadata": {"description": "The stocktake workbook, over one Application Insights resource."},
        "parameters": {
            "applicationInsights": {
                "type": "string",
                "metadata": {"description": "Resource id of the Application Insights that stocktake pushes to."},
            },
            "displayName": {
                "type": "string",
                "defaultValue": "stocktake",
                "metadata": {"description": "The workbook's name in the gallery."},
            },
            "location": {
                "type": "string",
                "defaultValue": "[resourceGroup().location]",
                "metadata": {"description": "Where the workbook's definition is stored."},
            },
        },
        "resources": [
            {
                "type": "Microsoft.Insights/workbooks",
                "apiVersion": "2023-06-01",
                # A workbook is named by a GUID; this one is the same at every deployment, so it is replaced.
                "name": "[guid(resourceGroup().id, parameters('applicationInsights'), 'stocktake')]",
                "location": "[parameters('location')]",
                "kind": "shared",
                "properties": {
                    "displayName": "[parameters('displayName')]",
                    "category": "workbook",
                    "sourceId": "[parameters('applicationInsights')]",
                    "version": "1.0",
                    "serializedData": json.dumps(workbook, ensure_ascii=False, separators=(",", ":")),
                },
            }
        ],
        "outputs": {
            "workbook": {
                "type": "string",
                "value": "[resourceId('Microsoft.Insights/workbooks', "
                "guid(resourceGroup().id, parameters('applicationInsights'), 'stocktake'))]",
            }
        },
    }


def alerts(rules: list[dict[str, Any]]) -> dict[str, Any]:
    """The ARM template that deploys the alert rules to a resource group."""
    return {
        "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
        "contentVersion": "1.0.0.0",
        "metadata": {"description": "Alert rules for stocktake itself, over one Application Insights resource."},
        "parameters": {
            "applicationInsights": {
                "type": "string",
                "metadata": {"description": "Resource id of the Application Insights that stocktake pushes to."},
            },
            "actionGroups": {
                "type": "array",
                "defaultValue": [],
                "metadata": {"description": "Resource ids of the action groups that are told."},
            },
            "location": {
                "type": "string",
                "defaultValue": "[resourceGroup().location]",
                "metadata": {"description": "The region of that Application Insights."},
            },
        },
        "resources": [
            {
                "type": "Microsoft.Insights/scheduledQueryRules",
                "apiVersion": "2023-12-01",
                "name": rule["name"],
                "location": "[parameters('location')]",
                "kind": "LogAlert",
                "properties": {
                    "displayName": rule["summary"],
                    "description": rule["description"],
                    "severity": rule["severity"],
                    "enabled": True,
                    "scopes": ["[parameters('applicationInsights')]"],
                    "evaluationFrequency": "PT15M",
                    "windowSize": "PT1H",
                    "overrideQueryTimeRange": "P2D",
                    "criteria": {
                        "allOf": [
                            {
                                "query": "\n".join(rule["query"]),
                                "timeAggregation": "Count",
                                "operator": "GreaterThan",
                                "threshold": 0,
                                "dimensions": [
                                    {"name": name, "operator": "Include", "values": ["*"]}
                                    for name in rule["dimensions"]
                                ],
                                "failingPeriods": {"numberOfEvaluationPeriods": 1, "minFailingPeriodsToAlert": 1},
                            }
                        ]
                    },
                    "autoMitigate": True,
                    "actions": {"actionGroups": "[parameters('actionGroups')]"},
                },
            }
            for rule in rules
        ],
    }


def main() -> None:
    for source, made, name in (
        ("workbook.json", template, "azuredeploy.json"),
        ("alerts.json", alerts, "alerts.deploy.json"),
    ):
        given = json.loads((HERE / source).read_text(encoding="utf-8"))
        text = json.dumps(made(given), indent=2, ensure_ascii=False) + "\n"
        (HERE / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
