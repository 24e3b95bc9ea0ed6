"""`python -m stocktake` is the command `stocktake`."""

from __future__ import annotations

from stocktake.cli import main

if __name__ == "__main__":
    main()
