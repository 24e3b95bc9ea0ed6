"""Time for tests: what was scanned a moment ago becomes the history of a day long past."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Engine, text

from stocktake import pipeline
from stocktake.core.assets import Mode
from stocktake.core.guard import Guard
from stocktake.core.redact import Redactor
from stocktake.sources.http import HttpConfig
from stocktake.sources.mlflow_rest import MlflowRest, MlflowRestConfig

KEY = b"k" * 32


def scan_server(engine: Engine, uri: str, workspace: str = "research", mode: Mode = Mode.SWEEP) -> pipeline.ScanReport:
    """Scan a real MLflow server."""
    return pipeline.scan(
        engine,
        lambda now: MlflowRest(MlflowRestConfig(http=HttpConfig(base_url=uri)), now),
        workspace=workspace,
        source_name="mlflow_rest",
        uri=uri,
        mode=mode,
        redactor=Redactor(KEY),
        key=KEY,
        guard=Guard(),
    )


def began(engine: Engine) -> datetime:
    """When the first scan began."""
    with engine.connect() as connection:
        at: datetime = connection.execute(text("SELECT min(began_at) FROM scan")).scalar_one()
    return at


def age(engine: Engine, by: timedelta) -> None:
    """Move all of the history into the past, as if all of it had been seen so much earlier."""
    with engine.begin() as connection:
        columns = connection.execute(
            text(
                "SELECT c.table_name, array_agg(c.column_name::text) FROM information_schema.columns c"
                " JOIN information_schema.tables t USING (table_schema, table_name)"
                " WHERE c.table_schema = 'public' AND t.table_type = 'BASE TABLE'"
                " AND c.data_type = 'timestamp with time zone' GROUP BY c.table_name"
            )
        ).all()
        for table, names in columns:
            moved = ", ".join(f"{name} = {name} - CAST(:by AS interval)" for name in names)
            connection.execute(text(f"UPDATE {table} SET {moved}"), {"by": by})
