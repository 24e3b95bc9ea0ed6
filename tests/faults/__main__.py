"""Prints what each fault at each level comes to: `python -m tests.faults [--mode hot]`. About half an hour.

A cell is the exit code of `stocktake scan`: 0 complete, 3 partial, 4 failed. A false claim in any cell ends it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from stocktake.core.assets import Mode
from stocktake.store import migrate
from stocktake.store.embedded import embedded_postgres
from stocktake.store.engine import make_engine
from tests.faults.matrix import FAULTS, LEVELS, prepared
from tests.servers.recording_proxy import recording_proxy
from tests.servers.shared import filled_server


def main() -> None:
    """Print the matrix as a table in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mode", type=Mode, choices=list(Mode), default=Mode.SWEEP)
    parser.add_argument("--fault", choices=list(FAULTS), action="append", help="this row alone; may be repeated")
    given = parser.parse_args()
    mode = given.mode
    sys.stdout.write(f"| fault | {' | '.join(LEVELS)} |\n|---|{'---|' * len(LEVELS)}\n")
    with tempfile.TemporaryDirectory(prefix="stocktake-faults-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        with embedded_postgres(Path(name)) as url, recording_proxy(filled_server().server.uri) as proxy:
            engine = make_engine(url)
            migrate.upgrade(engine)
            bench = prepared(engine, proxy)
            for fault in given.fault or FAULTS:
                cells = [str(int(bench.cell(fault, level, mode))) for level in LEVELS]
                sys.stdout.write(f"| {fault} | {' | '.join(cells)} |\n")
                sys.stdout.flush()
            engine.dispose()


if __name__ == "__main__":
    main()
