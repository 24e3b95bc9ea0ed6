"""Two experiments of one workspace whose names differ in capitals, blanks, hyphens or underscores alone."""

from __future__ import annotations

from stocktake.core.assets import Kind
from stocktake.core.rules import Group, Severity, StateRule, Words

RULE = StateRule(
    id="duplicate-experiment-name",
    severity=Severity.INFO,
    group=Group.HYGIENE,
    for_teams=True,
    kinds=(Kind.EXPERIMENT,),
    statement="""
        WITH folded AS (
            SELECT workspace, key, name, created_at,
                trim('-' FROM lower(regexp_replace(name, '[[:space:]_-]+', '-', 'g'))) AS folded
            FROM inventory.experiment WHERE lifecycle = 'active' AND name <> ''
        ), ranked AS (
            SELECT workspace, key, name,
                row_number() OVER same AS place, first_value(key) OVER same AS first_key,
                first_value(name) OVER same AS first_name
            FROM folded WINDOW same AS (PARTITION BY workspace, folded ORDER BY created_at, length(key), key)
        )
        SELECT workspace, 'experiment' AS kind, key,
            jsonb_build_object('name', name, 'same_as', first_key, 'named', first_name) AS evidence
        FROM ranked WHERE place > 1
    """,
    words=Words(
        title="Two experiments have nearly the same name",
        why="MLflow keeps names apart to the letter: a project that writes its name in two ways lies in two places, and"
        " whoever looks into one misses the runs of the other. The same name in two workspaces (development and"
        " production, say) is usual and no finding.",
        cli="stocktake show experiment KEY; stocktake list experiment",
        rest="GET /api/2.0/mlflow/experiments/search?max_results=1000 (names).",
        portal="MLflow: the list of experiments, both names.",
        fix="Find out which is meant, correct the name in the code of the other, and delete or rename that one.",
        rollback="POST /api/2.0/mlflow/experiments/restore with the experiment_id that was deleted.",
        signal="It opens on the younger of the two, and resolves when one of them is renamed or deleted.",
    ),
)
