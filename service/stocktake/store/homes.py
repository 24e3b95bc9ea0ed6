"""Where a workspace in Azure is, as its own document tells: an ARM id is one of its assets only if it begins so."""

from __future__ import annotations

from sqlalchemy import Connection, text

from stocktake.core import canonical
from stocktake.core.references import home

# One that is gone may be known by less: then the newest of its documents that tells.
_DOCUMENTS = """
SELECT v.document FROM version v JOIN workspace w USING (workspace_id)
WHERE w.name = :workspace AND v.kind = 'workspace' ORDER BY v.valid_from DESC
"""


def home_of(connection: Connection, workspace: str) -> str | None:
    """Return the place of a workspace, as core/references.py compares it; None where it is not in Azure."""
    documents = connection.execute(text(_DOCUMENTS), {"workspace": workspace}).scalars()
    return next((found for one in documents if (found := home(canonical.decode(one))) is not None), None)
