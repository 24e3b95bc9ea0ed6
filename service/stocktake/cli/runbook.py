"""Writes docs/runbook/ from the words of the rules; a test compares the two.

`python -m stocktake.cli.runbook FOLDER` writes a page for each rule, and the list of them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from stocktake.cli.rules import said, told
from stocktake.core.rules import Rule
from stocktake.rules import RULES

_MADE = "<!-- made of the words in service/stocktake/rules/ by `python -m stocktake.cli.runbook docs/runbook` -->"


def pages() -> dict[str, str]:
    """Every page by its name."""
    made = {f"{rule.id}.md": _page(rule) for rule in RULES}
    lines = [f"| [{rule.id}]({rule.id}.md) | {rule.severity} | {rule.words.title} |" for rule in RULES]
    head = [
        _MADE,
        "# Runbook",
        "",
        "A page for each rule: what a finding of it means, how to look, what to do, and how to go back.",
        "",
        "| rule | severity | title |",
        "|---|---|---|",
    ]
    return made | {"README.md": "\n".join([*head, *lines]) + "\n"}


def _page(rule: Rule) -> str:
    facts = told(rule)
    needs = ", ".join(facts["needs"])
    if facts["sort"] == "change":
        seen = "A change is enough: it opens whether or not the scan was complete."
    elif needs:
        seen = f"It is judged only after a complete list of: {needs}."
    else:
        seen = "It is judged after every scan, from stocktake's own ledger."
    if facts["sort"] != "change" or (rule.opens_after, rule.resolves_after) != (1, 1):
        seen += f" It opens after {_looks(rule.opens_after)}, and resolves after {_looks(rule.resolves_after)}."
    parts = [_MADE, f"# {rule.words.title}", "", f"`{rule.id}`, {rule.severity}. {seen}"]
    for heading, words in said(rule):
        parts += ["", f"## {heading}", words]
    parts += ["", "## Take it on"]
    parts += ["`stocktake finding show ID` has the evidence, the history, and these words with KEY and KIND filled in;"]
    parts += ["`stocktake finding ack ID --reason TEXT` says that you are at it, or, of a change, that it was meant."]
    return "\n".join(parts) + "\n"


def _looks(count: int) -> str:
    return "one such look" if count == 1 else f"{count} such looks in a row"


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in pages().items():
        (folder / name).write_text(page)
