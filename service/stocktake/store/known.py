"""What the inventory already knows of a workspace, for a source that plans its pass (sources.protocol.Known)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime

from sqlalchemy import Connection, text

from stocktake.core.assets import Kind
from stocktake.store.claims import Claim


class StoreKnown:
    """Answers from the database; `flush` publishes what is still on its way, so that `changed` tells the truth."""

    def __init__(self, connection: Connection, claim: Claim, flush: Callable[[], None]) -> None:
        self._connection = connection
        self._claim = claim
        self._flush = flush

    def partition_sizes(self, kind: Kind) -> Mapping[str, int]:
        with self._connection.begin():
            rows = self._connection.execute(
                text(
                    "SELECT partition, count(*) FROM asset WHERE workspace_id = :wid AND kind = :kind"
                    " AND gone_at IS NULL GROUP BY partition"
                ),
                {"wid": self._claim.workspace_id, "kind": kind},
            )
            return {partition: int(number) for partition, number in rows}

    def changed(self, kind: Kind) -> frozenset[str]:
        """Keys whose being or lifecycle changed in this scan: created, deleted, restored, purged, first seen."""
        self._flush()
        with self._connection.begin():
            rows = self._connection.execute(
                text(
                    "SELECT a.key FROM change c JOIN asset a USING (asset_id) WHERE c.scan_id = :scan"
                    " AND c.kind = :kind"
                    " AND c.type <> 'updated'"
                    " UNION SELECT key FROM asset WHERE workspace_id = :wid AND kind = :kind"
                    " AND first_seen >= :began"
                ),
                {
                    "scan": self._claim.scan_id,
                    "kind": kind,
                    "wid": self._claim.workspace_id,
                    "began": self._claim.began_at,
                },
            )
            return frozenset(key for (key,) in rows)

    def last_look(self, kind: Kind) -> datetime | None:
        with self._connection.begin():
            found: datetime | None = self._connection.execute(
                text(
                    """
                    SELECT s.last_began_at FROM scan s
                    WHERE s.workspace_id = :wid AND s.state IN ('complete', 'partial')
                      AND EXISTS (SELECT 1 FROM scope_scan c WHERE c.scan_id = s.scan_id AND c.kind = :kind)
                      AND NOT EXISTS (SELECT 1 FROM scope_scan c WHERE c.scan_id = s.scan_id AND c.kind = :kind
                                      AND c.state IN ('partial', 'unobservable'))
                    ORDER BY s.last_began_at DESC LIMIT 1
                    """
                ),
                {"wid": self._claim.workspace_id, "kind": kind},
            ).scalar()
            return found

    def aliases(self) -> Mapping[str, Mapping[str, str]]:
        with self._connection.begin():
            rows = self._connection.execute(
                text(
                    "SELECT a.key, v.document FROM version v JOIN asset a USING (asset_id)"
                    " WHERE v.workspace_id = :wid AND v.kind = 'registered_model' AND v.valid_to IS NULL"
                    " AND v.lifecycle = 'active'"
                ),
                {"wid": self._claim.workspace_id},
            )
            return {key: json.loads(document).get("aliases") or {} for key, document in rows}
