"""What the inventory already knows of a workspace, for a source that plans its pass (sources.protocol.Known)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from stocktake.core import canonical
from stocktake.core.assets import Kind
from stocktake.store import cuts
from stocktake.store.claims import Claim


def sample(connection: Connection, workspace: str, most: int) -> tuple[Kind, dict[str, str]]:
    """Some of the live runs that are known, or of the experiments where there are none: names by id.

    Ids of runs are random, so the first in their order are as good as any; experiment 0 is on every server.
    """
    for kind in (Kind.RUN, Kind.EXPERIMENT):
        rows = connection.execute(
            text(
                "SELECT a.key, v.name FROM asset a JOIN workspace w USING (workspace_id)"
                " JOIN version v ON v.asset_id = a.asset_id AND v.valid_to IS NULL WHERE w.name = :name"
                " AND a.kind = :kind AND a.gone_at IS NULL AND a.lifecycle = 'active'"
                " AND NOT (a.kind = 'experiment' AND a.key = '0') ORDER BY a.key LIMIT :most"
            ),
            {"name": workspace, "kind": kind, "most": most},
        )
        if found := {canonical.unescape(key): canonical.unescape(name or "") for key, name in rows}:
            break
    return kind, found


class StoreKnown:
    """Answers from the database; `flush` publishes what is still on its way, so that `changed` tells the truth.
    `taken` has the cuts whose places it told. `experiments` are to be listed anew, changed or not."""

    def __init__(
        self,
        connection: Connection,
        claim: Claim,
        flush: Callable[[], None],
        experiments: frozenset[str] = frozenset(),
    ) -> None:
        self._connection = connection
        self._experiments = experiments  # those that are to be listed anew, changed or not
        self._claim = claim
        self._flush = flush
        self.taken: dict[Kind, cuts.Cut] = {}

    def partition_sizes(self, kind: Kind) -> Mapping[str, int]:
        with self._connection.begin():
            rows = self._connection.execute(
                text(
                    "SELECT partition, count(*) FROM asset WHERE workspace_id = :wid AND kind = :kind"
                    " AND gone_at IS NULL GROUP BY partition"
                ),
                {"wid": self._claim.workspace_id, "kind": kind},
            )
            return {canonical.unescape(partition): int(number) for partition, number in rows}

    def changed(self, kind: Kind) -> frozenset[str]:
        """Keys whose being or lifecycle changed in this scan, or of whose runs nothing has been listed since it did."""
        self._flush()
        with self._connection.begin():
            rows = self._connection.execute(
                text(
                    "SELECT a.key FROM change c JOIN asset a USING (asset_id) WHERE c.scan_id = :scan"
                    " AND c.kind = :kind"
                    " AND c.type <> 'updated'"
                    " UNION SELECT key FROM asset WHERE workspace_id = :wid AND kind = :kind"
                    " AND first_seen >= :began"
                    # What an earlier pass saw happen to an experiment, but was cut before it had listed its runs.
                    " UNION SELECT a.key FROM change c JOIN asset a USING (asset_id) JOIN scope s"
                    " ON s.workspace_id = a.workspace_id AND s.kind = 'run' AND s.partition = a.key"
                    " WHERE :kind = 'experiment' AND c.workspace_id = :wid AND c.kind = :kind AND c.type <> 'updated'"
                    " AND c.at > greatest(s.last_complete_at, s.last_listed_at) AND c.at > (SELECT"
                    " min(greatest(last_complete_at, last_listed_at)) FROM scope WHERE workspace_id = :wid"
                    " AND kind = 'run' AND last_listed_at IS NOT NULL)"
                    " UNION SELECT e.key FROM asset e WHERE :kind = 'experiment' AND e.workspace_id = :wid"
                    " AND e.kind = :kind AND e.gone_at IS NULL AND NOT EXISTS (SELECT 1 FROM scope s"
                    " WHERE s.workspace_id = :wid AND s.kind = 'run' AND s.partition IN (e.key, ''))"
                ),
                {
                    "scan": self._claim.scan_id,
                    "kind": kind,
                    "wid": self._claim.workspace_id,
                    "began": self._claim.began_at,
                },
            )
            found = frozenset(canonical.unescape(key) for (key,) in rows)
            return found | self._experiments if kind == Kind.EXPERIMENT else found

    def last_look(self, kind: Kind) -> datetime | None:
        with self._connection.begin():
            found: datetime | None = self._connection.execute(
                text(
                    """
                    SELECT CASE WHEN s.passes > 1 THEN s.last_began_at ELSE least(s.last_began_at, (
                        SELECT min(c.began_at) FROM scope_scan c WHERE c.scan_id = s.scan_id AND c.kind = :kind)) END
                    FROM scan s
                    WHERE s.workspace_id = :wid AND s.state IN ('complete', 'partial') AND s.mode <> 'recheck'
                      AND EXISTS (SELECT 1 FROM scope_scan c WHERE c.scan_id = s.scan_id AND c.kind = :kind)
                      AND NOT EXISTS (SELECT 1 FROM scope_scan c WHERE c.scan_id = s.scan_id AND c.kind = :kind
                                      AND NOT c.ended)
                    ORDER BY s.last_began_at DESC LIMIT 1
                    """
                ),
                {"wid": self._claim.workspace_id, "kind": kind},
            ).scalar()
            return found

    def document(self, kind: Kind, key: str) -> Mapping[str, Any] | None:
        with self._connection.begin():
            document: str | None = self._connection.execute(
                text(
                    "SELECT v.document FROM asset a JOIN version v USING (asset_id)"
                    " WHERE a.workspace_id = :wid AND a.kind = :kind AND a.key = :key AND v.valid_to IS NULL"
                ),
                {"wid": self._claim.workspace_id, "kind": kind, "key": canonical.escape(key)},
            ).scalar()
        found: Mapping[str, Any] | None = canonical.decode(document) if document is not None else None
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
            return {canonical.unescape(key): canonical.decode(document).get("aliases") or {} for key, document in rows}

    def among(self, kind: Kind, keys: Sequence[str]) -> frozenset[str]:
        with self._connection.begin():
            rows = self._connection.execute(
                text(  # by the index asset_key
                    "SELECT key FROM asset WHERE workspace_id = :wid AND kind = :kind AND key = ANY(:keys)"
                    " AND gone_at IS NULL"
                ),
                {"wid": self._claim.workspace_id, "kind": kind, "keys": [canonical.escape(key) for key in keys]},
            )
            return frozenset(canonical.unescape(key) for (key,) in rows)

    def unfinished(self, kind: Kind, ended: frozenset[str]) -> Sequence[str]:
        with self._connection.begin():
            rows = self._connection.execute(
                text(  # by the index version_open
                    "SELECT a.key FROM version v JOIN asset a USING (asset_id) WHERE v.workspace_id = :wid"
                    " AND v.kind = :kind AND v.valid_to IS NULL AND v.lifecycle = 'active' AND a.gone_at IS NULL"
                    " AND v.state <> ALL(:ended) ORDER BY a.key"
                ),
                {"wid": self._claim.workspace_id, "kind": kind, "ended": sorted(ended)},
            )
            return [canonical.unescape(key) for (key,) in rows]

    def cut(self, kind: Kind) -> str | None:
        with self._connection.begin():
            found = cuts.find(self._connection, self._claim, kind)
        if found is None:
            return None
        self.taken[kind] = found
        return found.place

    def parents_due(self, ended: frozenset[str], childless: frozenset[str], since: datetime | None) -> Sequence[str]:
        self._flush()
        with self._connection.begin():
            rows = self._connection.execute(
                text(  # by the index version_open, twice; the type is read of those alone that are due
                    "SELECT key FROM (SELECT a.key, v.document FROM version v JOIN asset a USING (asset_id)"
                    " WHERE v.workspace_id = :wid AND v.kind = 'job' AND v.valid_to IS NULL AND a.gone_at IS NULL"
                    " AND (v.state IS NULL OR v.state <> ALL(:ended)"
                    " OR ((CAST(:since AS timestamptz) IS NULL OR v.valid_from >= :since) AND NOT EXISTS"
                    " (SELECT 1 FROM version c WHERE c.workspace_id = :wid AND c.kind = 'child_job'"
                    " AND c.valid_to IS NULL AND c.parent = a.key AND c.valid_from >= v.valid_from)))"
                    " OFFSET 0) due"
                    " WHERE coalesce(CAST(document AS jsonb) #>> '{properties,jobType}', '') <> ALL(:childless)"
                    " ORDER BY key"
                ),
                {
                    "wid": self._claim.workspace_id,
                    "ended": sorted(ended),
                    "childless": sorted(childless),
                    "since": since,
                },
            )
            return [canonical.unescape(key) for (key,) in rows]
