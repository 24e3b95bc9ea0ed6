"""Somebody has a role at a workspace whom nobody had given one when stocktake first looked."""

from __future__ import annotations

from stocktake.core.assets import Kind
from stocktake.core.rules import Severity, StateRule, Words

# Added is what was first seen after the first complete list, or came back. The change that saw it names who gave it,
# where the activity log does; and is what the finding is about.
RULE = StateRule(
    id="role-assignment-added",
    severity=Severity.WARNING,
    kinds=(Kind.ROLE_ASSIGNMENT,),
    statement="""
        SELECT r.workspace, 'role_assignment' AS kind, r.key,
            jsonb_strip_nulls(jsonb_build_object(
                'role', coalesce(CASE lower(r.role)
                    WHEN '8e3af657-a8ff-443c-a75c-2fe8c4bcb635' THEN 'Owner'
                    WHEN 'b24988ac-6180-42a0-ab88-20f7382dd24c' THEN 'Contributor'
                    WHEN '18d7d88d-d35e-4fb5-a5c3-7773c20a72d9' THEN 'User Access Administrator'
                    WHEN 'acdd72a7-3385-48ef-bd42-f606fba81ae7' THEN 'Reader' END, r.role),
                'principal', r.properties ->> 'principalId', 'principal_type', r.properties ->> 'principalType',
                'given_at', r.properties ->> 'scope', 'condition', r.properties ->> 'condition',
                'given_on', r.properties ->> 'createdOn', 'change', c.id, 'not_before', c.not_before,
                'not_after', c.not_after)) AS evidence
        FROM (
            SELECT a.*, substring(a.properties ->> 'roleDefinitionId' FROM '[^/]+$') AS role, s.first_complete_at
            FROM inventory.role_assignment a JOIN inventory.scope s ON s.workspace = a.workspace
                AND s.kind = 'role_assignment' AND s.partition = ''
        ) r LEFT JOIN LATERAL (
            SELECT n.id, n.type, n.not_before, n.not_after FROM inventory.change n
            WHERE n.asset_id = r.asset_id AND n.type IN ('created', 'restored') ORDER BY n.id DESC LIMIT 1
        ) c ON true
        WHERE r.first_seen > r.first_complete_at OR c.type = 'restored'
    """,
    words=Words(
        title="A role was given at a workspace",
        why="A principal may do what it could not when stocktake first looked: at the workspace itself, or at the group"
        " or the subscription above it (`given_at`), and then in every workspace below. Roles that may write or give"
        " roles on can change models, read data and hide that they did. A role that is activated for some hours"
        " (Privileged Identity Management) is one for as long as it lasts.",
        cli="stocktake show role_assignment KEY; stocktake changes --kind role_assignment;"
        " az role assignment list --scope WORKSPACE_ID --include-inherited; az ad sp show --id PRINCIPAL (or: az ad"
        " user show, az ad group show)",
        rest="GET"
        " WORKSPACE_ID/providers/Microsoft.Authorization/roleAssignments?$filter=atScope()&api-version=2022-04-01."
        " Who gave it is told where the activity log says so; in Log Analytics: `AzureActivity | where"
        ' OperationNameValue =~ "Microsoft.Authorization/roleAssignments/write" and _ResourceId has "KEY" | project'
        " TimeGenerated, Caller, ActivityStatusValue`",
        portal="Azure portal: the workspace, Access control (IAM), Role assignments; the principal in Microsoft Entra.",
        fix="Ask whoever gave it what for. If it is meant, acknowledge with the ticket, and put it into the definition"
        " in source control; prefer a group to a person, and the workspace to what is above it.",
        rollback="az role assignment delete --ids GIVEN_AT/providers/Microsoft.Authorization/roleAssignments/KEY",
        signal="It opens when a complete list shows an assignment that the first one did not, and resolves when one no"
        " longer shows it. Roles that were there at the first look open nothing.",
    ),
)
