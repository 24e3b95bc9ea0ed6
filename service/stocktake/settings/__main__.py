"""`python -m stocktake.settings --markdown` prints the reference page, `--baseline` that of baseline files; `--schema`
the JSON schema."""

from __future__ import annotations

import json
import sys

from stocktake.settings.reference import baseline_markdown, json_schema, markdown


def main(arguments: list[str]) -> int:
    """Print what is asked for."""
    if arguments == ["--markdown"]:
        sys.stdout.write(markdown())
    elif arguments == ["--baseline"]:
        sys.stdout.write(baseline_markdown())
    elif arguments == ["--schema"]:
        sys.stdout.write(json.dumps(json_schema(), indent=2) + "\n")
    else:
        sys.stderr.write("usage: python -m stocktake.settings --markdown | --baseline | --schema\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
