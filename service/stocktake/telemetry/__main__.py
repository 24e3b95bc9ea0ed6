"""`python -m stocktake.telemetry --markdown` prints the tables of docs/metrics.md; `--write FILE` renews them there."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stocktake.telemetry.reference import page

BEGIN = "<!-- begin: written by `python -m stocktake.telemetry --write docs/metrics.md` -->"
END = "<!-- end -->"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m stocktake.telemetry", description=__doc__)
    parser.add_argument("--markdown", action="store_true", help="print the tables")
    parser.add_argument("--write", type=Path, metavar="FILE", help="renew the tables between the markers of FILE")
    arguments = parser.parse_args()
    if arguments.write is not None:
        text = arguments.write.read_text(encoding="utf-8")
        if text.count(BEGIN) != 1 or text.count(END) != 1:
            parser.error(f"{arguments.write} does not hold the two markers once each")
        before, rest = text.split(BEGIN)
        after = rest.split(END)[1]
        arguments.write.write_text(f"{before}{BEGIN}\n{page()}{END}{after}", encoding="utf-8")
    elif arguments.markdown:
        sys.stdout.write(page())
    else:
        parser.error("say --markdown or --write FILE")
    return 0


if __name__ == "__main__":
    sys.exit(main())
