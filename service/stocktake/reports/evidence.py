"""An evidence bundle: all that is known of one asset, and by what it can be seen that it was published as it stands.

Streams: what is held is the asset's own places in the chain, never its documents and never a workspace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import Connection

from stocktake import __version__
from stocktake.core import canonical, chain
from stocktake.core.chain import Sort
from stocktake.core.lineage import Node, Walk, walk
from stocktake.reports import evidence_page
from stocktake.reports.bundle import Writer
from stocktake.store import evidence, finding_list
from stocktake.store import lineage as graph
from stocktake.store.evidence import Place, Subject

FORMAT = 1
_MOST_NODES = 500
Addresses = dict[tuple[Sort, int, int], int]  # a row's place in the chain is looked for by these; the scan behind it

#: What a bundle cannot show, said in it.
NOTES = (
    "Strings stand as the database holds them: U+E000 and four hex digits stand for a character that Postgres cannot"
    " store; NaN and the infinities are strings.",
    "A value that was redacted stays so: nothing here holds it. A state out of which one was removed later is held by"
    " the chain as it stands now; the link that says so names the redaction.",
    "Findings are what rules say about the states. They are not in the chain: the same rules say the same of the same"
    " states.",
    "Who did it is unknown unless a source names somebody. A change happened between not_before and not_after.",
)


@dataclass(slots=True, kw_only=True)
class Told:
    """What a bundle holds, in numbers."""

    states: int = 0
    changes: int = 0
    findings: int = 0
    scans: int = 0
    links: int = 0
    artifacts: int = 0
    head: tuple[int, str] | None = None
    before_the_chain: int = 0  # rows that were there before the chain began: nothing vouches for them
    sums: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A file that was fetched for a bundle."""

    name: str
    path: Path


def write(
    connection: Connection,
    one: Subject,
    file: BinaryIO,
    *,
    until: datetime,
    key: bytes,
    page_words: Mapping[str, Any],
    artifacts: Sequence[Artifact] = (),
    tell: Callable[[str], object] = lambda _: None,
) -> Told:
    """Write a bundle about one asset, as it was known until a time. `key` is the key of the salts.

    In a transaction of one snapshot.
    """
    return _Bundle(connection, one, until, key, tell).write(file, page_words, artifacts)


class _Bundle:
    def __init__(
        self, connection: Connection, one: Subject, until: datetime, key: bytes, tell: Callable[[str], object]
    ) -> None:
        self._connection, self._one, self._until, self._key, self._tell = connection, one, until, key, tell
        self._beginning = evidence.beginning(connection, one)
        self._numbers = evidence.scans(connection, one, until)
        self._places: dict[tuple[Sort, int, int], Place] = {}
        self.told = Told()

    def write(self, file: BinaryIO, page_words: Mapping[str, Any], artifacts: Sequence[Artifact]) -> Told:
        self._places = evidence.places(self._connection, self._one, list(self._addresses()), self._numbers)
        with Writer(file) as out:
            self._tell("documents")
            for number, (_, document) in enumerate(self._states(), 1):
                out.add(_document(number), [document.encode()])
            out.add_lines("states.jsonl", self._counted("states", (state for state, _ in self._states())))
            out.add_lines("changes.jsonl", self._counted("changes", self._changes()))
            self._tell("lineage and findings")
            lineage = self._lineage()
            out.add_json("lineage.json", lineage)
            out.add_lines("findings.jsonl", self._counted("findings", self._findings()))
            self._tell("the ledger and the chain")
            out.add_lines("ledger/scans.jsonl", self._counted("scans", self._scans()))
            out.add_lines("ledger/listings.jsonl", self._listings())
            self._prove(out)
            out.add_lines("chain/links.jsonl", self._links())
            for artifact in artifacts:
                out.add_file(f"artifacts/{artifact.name}", artifact.path)
                self.told.artifacts += 1
            about = self._about()
            out.add_json("bundle.json", about)
            self._tell("the page")
            page = evidence_page.Page(
                about=about,
                states=self._states,
                changes=self._changes,
                lineage=lineage,
                findings=self._findings,
                scans=self._scans,
                words=page_words,
                artifacts=[(one.name, out.sums[f"artifacts/{one.name}"]) for one in artifacts],
            )
            out.add("index.html", (part.encode() for part in page.parts()))
        self.told.sums = out.sums
        return self.told

    def _addresses(self) -> Iterator[tuple[Sort, int, int]]:
        for state, _ in self._states():
            yield _of_state(state)
        for change in self._changes():
            yield _of_change(change)
        for number in self._numbers:
            yield from ((Sort.SCAN, number, 0), (Sort.LOOKS, number, 0))
        for listing in self._listings():
            yield Sort.LISTING, listing["scan_id"], listing["ordinal"]

    def _counted(self, name: str, rows: Iterable[Any]) -> Iterator[Any]:
        for row in rows:
            setattr(self.told, name, getattr(self.told, name) + 1)
            yield row

    # ---- what is known ----------------------------------------------------------------------------------------------

    def _states(self) -> Iterator[tuple[dict[str, Any], str]]:
        for number, (state, document) in enumerate(evidence.states(self._connection, self._one, self._until), 1):
            yield {"n": number} | state | {"document": _document(number)}, document

    def _changes(self) -> Iterator[dict[str, Any]]:
        for number, change in enumerate(evidence.changes(self._connection, self._one, self._until), 1):
            yield {"n": number} | change

    def _findings(self) -> Iterator[dict[str, Any]]:
        one = self._one
        for row in finding_list.about(self._connection, one.workspace, one.kind, canonical.unescape(one.key)):
            history = [
                {name: getattr(event, name) for name in event.__slots__} for event in row.history
                if event.at <= self._until
            ]  # fmt: skip
            if row.first_seen <= self._until:
                yield {name: getattr(row, name) for name in row.__slots__} | {"history": history}

    def _scans(self) -> Iterator[dict[str, Any]]:
        return evidence.ledger(self._connection, self._numbers)

    def _listings(self) -> Iterator[dict[str, Any]]:
        return evidence.listings(self._connection, self._one, self._numbers)

    def _lineage(self) -> dict[str, Any]:
        start = Node(self._one.kind, canonical.unescape(self._one.key))
        found = graph.Graph(self._connection, self._one.workspace, self._until)
        ways = [walk(start, found.touching, back=back, most=_MOST_NODES) for back in (True, False)]
        return {
            "cut": any(way.cut for way in ways),  # then only the nearest are told
            "made_from": _edges(ways[0]),
            "made_into": _edges(ways[1]),
            "nodes": [
                {
                    "kind": node.kind, "key": node.key, "name": one.name, "state": one.state,
                    "standing": one.standing, "code_version": one.code_version, "valid_from": one.valid_from,
                    "digest": one.digest, "scan": one.scan,
                }
                for node in _nodes(start, ways)
                if (one := found.known.get(node)) is not None
            ],
        }  # fmt: skip

    # ---- the chain --------------------------------------------------------------------------------------------------

    def _prove(self, out: Writer) -> None:
        proofs = evidence.Proofs(self._connection, self._one, self._key)

        def shown(address: tuple[Sort, int, int], scan: int) -> dict[str, Any]:
            place = self._places.get(address)
            if place is not None:
                return proofs.of(place)
            self.told.before_the_chain += self._beginning is None or scan <= self._beginning
            return {"link": None}

        out.add_lines("chain/states.jsonl", (shown(_of_state(state), state["scan_id"]) for state, _ in self._states()))
        out.add_lines("chain/changes.jsonl", (shown(_of_change(one), one["scan_id"]) for one in self._changes()))
        for name, sort in (("scans", Sort.SCAN), ("looks", Sort.LOOKS)):
            out.add_lines(f"chain/{name}.jsonl", (shown((sort, one, 0), one) for one in self._numbers))
        out.add_lines(
            "chain/listings.jsonl",
            (shown((Sort.LISTING, one["scan_id"], one["ordinal"]), one["scan_id"]) for one in self._listings()),
        )
        first = proofs.of(Place(seq=1, index=0)) if self._beginning is not None else {"link": None}
        out.add_json("chain/beginning.json", {"last_scan_before": self._beginning} | first)

    def _links(self) -> Iterator[dict[str, Any]]:
        """Every link: those that hold something shown here in full, of the others the digest of what they say."""
        needed = {place.seq for place in self._places.values()}
        for link in evidence.links(self._connection, self._one):
            self.told.links += 1
            self.told.head = (link.seq, link.digest.hex())
            full = link.seq == 1 or link.seq in needed
            yield {"seq": link.seq} | ({"says": link.text} if full else {"said": link.said.hex()})

    def _about(self) -> dict[str, Any]:
        one, told = self._one, self.told
        return {
            "format": FORMAT,
            "made_by": f"stocktake {__version__}",
            "as_of": self._until,
            "workspace": one.workspace,
            "source": one.source,
            "asset": {
                "asset_id": one.asset_id,
                "kind": one.kind,
                "key": one.key,
                "partition": one.partition,
                "first_seen": one.first_seen,
                "baseline": one.baseline,
                "gone_at": one.gone_at if one.gone_at is not None and one.gone_at <= self._until else None,
            },
            "last_complete_look": evidence.last_look(self._connection, one, self._until),
            "holds": {
                "states": told.states, "changes": told.changes, "findings": told.findings, "scans": told.scans,
                "artifacts": told.artifacts,
            },
            "chain": {
                "workspace": one.workspace,
                "links": told.links,
                "head": {"seq": told.head[0], "digest": told.head[1]} if told.head else None,
                "scans_before_it_began": self._beginning,
                "rows_from_before": told.before_the_chain,
            },
            "notes": list(NOTES),
        }  # fmt: skip


def _document(number: int) -> str:
    return f"documents/{number:06}.json"


def _of_state(state: Mapping[str, Any]) -> tuple[Sort, int, int]:
    return Sort.VERSION, state["asset_id"], chain.micros(state["valid_from"])


def _of_change(change: Mapping[str, Any]) -> tuple[Sort, int, int]:
    return Sort.CHANGE, change["asset_id"], chain.micros(change["at"])


def _nodes(start: Node, ways: Sequence[Walk]) -> list[Node]:
    ends = (end for way in ways for edge in way.edges for end in (edge.source, edge.target))
    return sorted({start, *ends})


def _edges(way: Walk) -> list[dict[str, Any]]:
    return [
        {
            "from": edge.source._asdict(), "relation": edge.relation, "to": edge.target._asdict(),
            "detail": edge.detail,
        }
        for edge in sorted(way.edges, key=lambda one: (one.source, one.relation, one.target, one.detail or ""))
    ]  # fmt: skip
