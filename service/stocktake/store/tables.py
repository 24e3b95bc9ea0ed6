"""The tables, as SQLAlchemy Core sees them. The migrations in alembic/ make them; `alembic check` compares the two.

Whoever takes METADATA from here has those of the other files as well.
"""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    false,
    func,
    text,
    true,
)

from stocktake.store import alert_tables, chain_tables, finding_tables, governance_tables
from stocktake.store.metadata import METADATA

__all__ = ["METADATA", "alert_tables", "chain_tables", "finding_tables", "governance_tables"]

_TIME = DateTime(timezone=True)


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=text("0"))


installation = Table(
    "installation",
    METADATA,
    Column("one", Boolean, primary_key=True, server_default=true()),
    Column("key_check", LargeBinary, nullable=False),  # HMAC of a constant under the installation's key
    Column("created_at", _TIME, nullable=False, server_default=func.now()),
    CheckConstraint("one", name="installation_is_one_row"),
)

workspace = Table(
    "workspace",
    METADATA,
    Column("workspace_id", Integer, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False),
    Column("source", Text, nullable=False),  # the adapter: mlflow_rest, ...
    Column("uri", Text),  # where it was last read; NULL once an operator accepted a new address
    Column("created_at", _TIME, nullable=False, server_default=func.now()),
    Column("unobservable_since", _TIME),  # NULL while we can see it
    Column("trouble", Text),
    Column("error", Text),
    Column("next_step", Text),
    UniqueConstraint("name", name="workspace_name_key"),
)

claim = Table(
    "claim",
    METADATA,
    Column("workspace_id", ForeignKey("workspace.workspace_id"), nullable=False),
    Column("mode", Text, nullable=False),
    Column("token", Uuid, nullable=False),  # whoever holds it may publish; a newer claim replaces it
    Column("scan_id", BigInteger, nullable=False),
    Column("taken_at", _TIME, nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("workspace_id", "mode", name="claim_pkey"),
)

scan = Table(
    "scan",
    METADATA,
    Column("scan_id", BigInteger, Identity(always=True), primary_key=True),
    Column("workspace_id", ForeignKey("workspace.workspace_id"), nullable=False),
    Column("mode", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("identity", Text),
    Column("filtered", Boolean, nullable=False, server_default=false()),
    Column("epoch", Integer, nullable=False),
    Column("began_at", _TIME, nullable=False),
    Column("finished_at", _TIME),
    Column("passes", Integer, nullable=False, server_default=text("1")),  # equal hot passes extend one row
    Column("last_began_at", _TIME, nullable=False),
    Column("last_finished_at", _TIME),
    _count("seen"),
    _count("created"),
    _count("updated"),
    _count("deleted"),
    _count("restored"),
    _count("purged"),
    _count("baseline"),  # first sights that are no change
    _count("carried"),  # missing, but absence was not proved
    _count("withheld"),  # missing and confirmed, but too many at once
    _count("redacted"),
    _count("requests"),
    _count("bytes_read"),
    _count("throttled"),
    Column("trouble", Text),
    Column("error", Text),
    Column("next_step", Text),
    Column("chained", SmallInteger, nullable=False, server_default=text("0")),  # 0, 1: not all of it is; 2: it is
    Index("scan_unchained", "workspace_id", postgresql_where=text("chained < 2")),
    Index("scan_by_workspace", "workspace_id", text("scan_id DESC")),
)

scope_scan = Table(
    "scope_scan",
    METADATA,
    Column("scan_id", ForeignKey("scan.scan_id", ondelete="CASCADE"), nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("partition", Text, nullable=False),  # a label: "" for a whole kind, an experiment, or a group of them
    Column("covers", ARRAY(Text), nullable=False),  # the partitions whose absence this listing could judge
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("ended", Boolean, nullable=False),  # the pages came to their end, whatever was on them
    Column("began_at", _TIME, nullable=False),
    Column("finished_at", _TIME, nullable=False),
    _count("listed"),
    _count("missing"),
    _count("purged"),
    _count("carried"),
    _count("withheld"),
    PrimaryKeyConstraint("scan_id", "ordinal", name="scope_scan_pkey"),
)

scope = Table(
    "scope",
    METADATA,
    Column("workspace_id", ForeignKey("workspace.workspace_id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("partition", Text, nullable=False),
    Column("state", Text, nullable=False),  # how the last listing of it ended
    Column("reason", Text),
    Column("first_listed_at", _TIME),  # first listing that reached its end, filtered ones included
    Column("last_listed_at", _TIME),
    Column("first_complete_at", _TIME),  # the baseline: when the first complete listing ended
    Column("last_complete_at", _TIME),  # when the last complete listing began
    Column("last_scan", BigInteger, nullable=False),
    PrimaryKeyConstraint("workspace_id", "kind", "partition", name="scope_pkey"),
    postgresql_with={"fillfactor": "50"},  # every pass updates every row: in place, without its index
)

former_scope = Table(
    "former_scope",
    METADATA,
    Column("workspace_id", ForeignKey("workspace.workspace_id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("partition", Text, nullable=False),  # an experiment that is gone: its scope is never listed again
    Column("first_observed_at", _TIME, nullable=False),  # since when it had been observed while it was there
    PrimaryKeyConstraint("workspace_id", "kind", "partition", name="former_scope_pkey"),
)

horizon = Table(
    "horizon",
    METADATA,
    Column("workspace_id", ForeignKey("workspace.workspace_id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("dropped_before", _TIME, nullable=False),  # retention dropped states that ended before this time
    PrimaryKeyConstraint("workspace_id", "kind", name="horizon_pkey"),
)

asset = Table(
    "asset",
    METADATA,
    Column("asset_id", BigInteger, Identity(always=True), primary_key=True),
    Column("workspace_id", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("partition", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),  # of the canonical document of the open version
    Column("raw_digest", LargeBinary, nullable=False),  # keyed, of the bytes as they came
    Column("epoch", Integer, nullable=False),  # the normalisation under which the digests were made
    Column("observed_at", _TIME, nullable=False),  # request time of the open version; older news is refused
    Column("first_seen", _TIME, nullable=False),
    Column("lifecycle", Text, nullable=False),
    Column("baseline", Boolean, nullable=False),  # first seen at the baseline: its creation was not observed
    Column("gone_at", _TIME),  # purged
    Index("asset_key", "workspace_id", "kind", "key", unique=True),
    Index("asset_live", "workspace_id", "kind", "partition", postgresql_where=text("gone_at IS NULL")),
    postgresql_with={"fillfactor": "90"},
)

version = Table(
    "version",
    METADATA,
    Column("asset_id", BigInteger, nullable=False),  # of asset; the key is not checked row by row (migration 0003)
    Column("valid_from", _TIME, nullable=False),
    Column("valid_to", _TIME),  # NULL: the open version
    Column("workspace_id", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("scan_id", BigInteger, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("lifecycle", Text, nullable=False),
    Column("partition", Text, nullable=False),
    Column("name", Text),
    Column("state", Text),
    Column("owner", Text),
    Column("parent", Text),
    Column("run", Text),
    Column("created_at", _TIME),
    Column("started_at", _TIME),
    Column("ended_at", _TIME),
    Column("artifact_uri", Text),
    Column("code_version", Text),
    Column("data_version", Text),
    Column("params_digest", Text),
    Column("document", Text, nullable=False),  # canonical JSON as text: jsonb cannot hold it faithfully
    Column("aside", Text),  # what only this source can know; not compared
    PrimaryKeyConstraint("asset_id", "valid_from", name="version_pkey"),
    Index("version_open", "workspace_id", "kind", "asset_id", unique=True, postgresql_where=text("valid_to IS NULL")),
    Index("version_registry", "workspace_id", "run", postgresql_where=text("kind = 'model_version'")),  # retention
    Index("version_closed", "valid_to", postgresql_where=text("valid_to IS NOT NULL")),  # retention
    Index("version_place", "workspace_id", text("valid_from DESC"), postgresql_where=text("kind = 'workspace'")),
    Index(
        "version_running",
        "workspace_id",
        postgresql_where=text("kind = 'run' AND valid_to IS NULL AND state = 'RUNNING'"),
    ),
    Index(
        "version_run_began",
        "workspace_id",
        "partition",
        "started_at",
        postgresql_where=text("kind = 'run' AND valid_to IS NULL"),
    ),
    Index(
        "version_compared",
        "workspace_id",
        postgresql_where=text(
            "kind = 'run' AND valid_to IS NULL AND strpos(document, '\"stocktake.comparison\"\\:') > 0"
        ),
    ),
    Index(
        "version_redacted",
        "workspace_id",
        "kind",
        postgresql_where=text("valid_to IS NULL AND strpos(document, '[redacted:') > 0"),
    ),
    Index(
        "version_job_live",  # jobs that have not ended
        "workspace_id",
        postgresql_where=text(
            "kind IN ('job', 'child_job') AND valid_to IS NULL AND state NOT IN ('Completed', 'Failed', 'Canceled')"
        ),
    ),
)

change = Table(
    "change",
    METADATA,
    Column("change_id", BigInteger, Identity(always=True), primary_key=True),
    Column("workspace_id", Integer, nullable=False),
    Column("asset_id", ForeignKey("asset.asset_id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("scan_id", BigInteger, nullable=False),
    Column("at", _TIME, nullable=False),  # the look that saw it
    Column("not_before", _TIME),  # the look before; NULL where there was none
    Column("not_after", _TIME, nullable=False),
    Column("recorded_at", _TIME, nullable=False, server_default=func.clock_timestamp()),
    Column("type", Text, nullable=False),
    Column("category", Text, nullable=False),
    Column("name", Text),
    Column("actor", Text),  # NULL: unknown
    Column("actor_source", Text),
    Column("fields", Text, nullable=False),  # canonical JSON: [{path, before, after}]
    Column("story_kind", Text),  # the larger change it may be a part of
    Column("story_key", Text),
    Column("story_type", Text),
    Column("part_of", BigInteger),  # the change that tells the story
    Index("change_by_time", "workspace_id", "at"),
    Index("change_by_asset", "asset_id", "at"),
    Index("change_by_scan", "scan_id"),
    Index("change_by_workspace", "workspace_id", "change_id"),  # judging goes on behind its cursor
    Index("change_parts", "part_of", postgresql_where=text("part_of IS NOT NULL")),
)

withheld = Table(
    "withheld",
    METADATA,
    Column("asset_id", ForeignKey("asset.asset_id"), primary_key=True, autoincrement=False),
    Column("workspace_id", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("partition", Text, nullable=False),
    Column("since", _TIME, nullable=False),
    Column("not_before", _TIME),
    Column("scan_id", BigInteger, nullable=False),  # the last that confirmed it
    Column("confirmations", Integer, nullable=False),  # sweeps that confirmed it by id
    Column("accepted_at", _TIME),
    Column("accepted_by", Text),
    Index("withheld_by_scope", "workspace_id", "kind", "partition"),
)

cut_listing = Table(
    "cut_listing",
    METADATA,
    Column("workspace_id", ForeignKey("workspace.workspace_id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("place", Text, nullable=False),  # the source's own word for where the listing goes on
    Column("began_at", _TIME, nullable=False),  # its first part
    Column("saved_at", _TIME, nullable=False, server_default=text("clock_timestamp()")),
    Column("scan_id", BigInteger, nullable=False),  # the last that listed a part of it
    Column("epoch", Integer, nullable=False),
    Column("listed", BigInteger, nullable=False),
    Column("problem", Text),  # the first that there was
    Column("seen", LargeBinary, nullable=False),  # the ids of what the parts showed, eight bytes each
    PrimaryKeyConstraint("workspace_id", "kind"),
)

redaction = Table(
    "redaction",
    METADATA,
    Column("redaction_id", BigInteger, Identity(always=True), primary_key=True),
    Column("began_at", _TIME, nullable=False, server_default=func.clock_timestamp()),
    Column("finished_at", _TIME),  # NULL: it was cut short; the same command again goes on with it
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),  # keyed, as it stands in the marks; never the value
    _count("assets"),
    _count("versions"),
    _count("changes"),
    _count("others"),  # rows of the ledger and of what is withheld
)

fetched = Table(
    "fetched",
    METADATA,
    Column("fetch_id", BigInteger, Identity(always=True), primary_key=True),
    Column("began_at", _TIME, nullable=False, server_default=func.clock_timestamp()),
    Column("finished_at", _TIME),  # NULL: it is running, or was killed
    Column("workspace", Text, nullable=False),  # by its name: it may never have been scanned
    Column("kind", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("what", Text, nullable=False),  # show, download
    Column("state", Text),  # complete, partial, failed, interrupted
    Column("place", Text),  # the container and the folder in it
    _count("blobs"),
    _count("bytes"),
    Column("identity", Text),  # whom our token stood for
    Column("operator", Text, nullable=False),
    Column("error", Text),
    Index("fetched_by_time", "began_at"),
)

redacted_text = Table(
    "redacted_text",
    METADATA,
    Column("mac", LargeBinary, primary_key=True),  # keyed digest of a text that held a removed value
    Column("core", LargeBinary, nullable=False),  # the same from its first letter or digit to its last
    Column("lead", Integer, nullable=False),  # characters before the core, in it, and behind it
    Column("length", Integer, nullable=False),
    Column("trail", Integer, nullable=False),
    Column("cuts", ARRAY(Integer), nullable=False),  # which parts of it were the value: from, to, from, to, ...
    Column("fingerprint", Text, nullable=False),
)

discovered = Table(
    "discovered",
    METADATA,
    Column("key", Text, primary_key=True),  # its address in small letters
    Column("name", Text, nullable=False),  # ours; given once
    Column("entry", Text, nullable=False),  # of the configuration
    Column("subscription", Text, nullable=False),
    Column("resource_group", Text, nullable=False),  # as it was written when it was first seen
    Column("workspace", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("tags", Text, nullable=False),  # JSON, secrets replaced
    Column("guid", Text),  # the workspace's own id, where it was told
    Column("how", Text, nullable=False),  # what showed it: resource-graph, list
    Column("standing", Text, nullable=False),
    Column("since", _TIME, nullable=False),  # it stands so
    Column("first_seen", _TIME, nullable=False),
    Column("last_seen", _TIME, nullable=False),
    Column("judged_at", _TIME, nullable=False),  # when the look began that said so: an older one says nothing
    Column("why", Text, nullable=False),
    Column("next_step", Text, nullable=False),
    UniqueConstraint("name", name="discovered_name_key"),
)

discovery_scope = Table(
    "discovery_scope",
    METADATA,
    Column("entry", Text, nullable=False),
    Column("path", Text, nullable=False),  # a subscription, a resource group, a management group
    Column("asked_at", _TIME, nullable=False),
    Column("first_looked_at", _TIME),  # NULL: never looked at
    Column("last_looked_at", _TIME),
    Column("looked", Boolean, nullable=False),  # the last time
    Column("trouble", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("next_step", Text, nullable=False),
    PrimaryKeyConstraint("entry", "path"),
)

discovery_event = Table(
    "discovery_event",
    METADATA,
    Column("event_id", BigInteger, Identity(always=True), primary_key=True),
    Column("key", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("entry", Text, nullable=False),
    Column("at", _TIME, nullable=False),
    Column("not_before", _TIME),  # the look before
    Column("event", Text, nullable=False),
    Column("before", Text),  # how it stood; NULL where it appeared
    Column("after", Text, nullable=False),
    Column("why", Text, nullable=False),
    Index("discovery_event_by_time", "at"),
)

act = Table(
    "act",
    METADATA,
    Column("act_id", BigInteger, Identity(always=True), primary_key=True),
    Column("workspace_id", ForeignKey("workspace.workspace_id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("key", Text, nullable=False),  # of the asset, as the log writes it
    Column("operation", Text, nullable=False),
    Column("operation_id", Text, nullable=False),  # the same in all lines of an operation
    Column("caller", Text, nullable=False),  # empty: the log names nobody
    Column("event_id", Text, nullable=False),  # of the line that says most
    Column("accepted", Boolean, nullable=False),  # else it is only known to have begun
    Column("failed", Boolean, nullable=False),  # in the end
    Column("began_at", _TIME, nullable=False),  # its first line and its last, by the log's own clock
    Column("ended_at", _TIME, nullable=False),
    Column("seen_at", _TIME, nullable=False, server_default=func.clock_timestamp()),
    UniqueConstraint("workspace_id", "operation_id", "operation", "kind", "key", "caller", name="act_key"),
    Index("act_by_asset", "workspace_id", "kind", text("lower(key)"), "ended_at"),
    Index("act_by_time", "ended_at"),  # retention
)

act_log = Table(
    "act_log",
    METADATA,
    Column("workspace_id", ForeignKey("workspace.workspace_id"), primary_key=True, autoincrement=False),
    Column("read_from", _TIME),  # without a gap from here
    Column("read_to", _TIME),  # to here; NULL: it was never read
    Column("asked_at", _TIME, nullable=False),
    Column("trouble", Text),  # why it could not be read on the last time
    Column("error", Text),
    Column("next_step", Text),
)

heartbeat = Table(
    "heartbeat",
    METADATA,
    Column("holder", Text, primary_key=True),
    Column("at", _TIME, nullable=False),
)
