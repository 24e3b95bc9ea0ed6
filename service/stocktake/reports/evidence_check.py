"""Checking an evidence bundle with nothing but the bundle, and the heads that were published where there are any.

It may come from anybody: whatever it says is made again from what it holds. Streams.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import zip_longest
from pathlib import Path
from typing import Any

import msgspec

from stocktake.core import chain
from stocktake.core.chain import LIFTED, NOTHING, Row, Sort
from stocktake.reports.bundle import BundleError, Reader
from stocktake.store.chain import CHANGE, LISTING, LOOKS, SCAN

_TIMES = ("_at", "valid_from", "valid_to", "at", "not_before", "not_after")
_FORMATS = (1,)
Heads = Mapping[str, Mapping[int, str]]  # published ones: by workspace and number


@dataclass(slots=True)
class Verdict:
    """What came of checking a bundle."""

    about: Mapping[str, Any] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    members: int = 0  # rows that the chain was seen to hold
    before: int = 0  # rows from before the chain began: nothing vouches for them
    waiting: int = 0  # rows whose last passes are not in the chain yet
    links: int = 0
    head: tuple[int, str] | None = None
    anchored: int | None = None  # the newest published head that the bundle's chain meets
    unanchored: int = 0  # rows in links behind that one

    def wrongs(self, what: str, *, most: int = 50) -> None:
        """Note something that is not as it was made."""
        if len(self.wrong) < most:
            self.wrong.append(what)


def check(path: Path, published: Heads | None = None) -> Verdict:
    """Check a bundle. What is wrong is said, never raised."""
    done = Verdict()
    try:
        with Reader(path) as bundle:
            for one in bundle.check():
                done.wrongs(one)
            _Check(bundle, done, published or {}).run()
    except BundleError as exc:
        done.wrongs(str(exc))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as exc:
        done.wrongs(f"it says something in another way than stocktake does ({type(exc).__name__}: {exc})")
    return done


class _Check:
    def __init__(self, bundle: Reader, done: Verdict, published: Heads) -> None:
        self._bundle, self._done, self._published = bundle, done, published
        self._roots: dict[int, tuple[bytes, int]] = {}  # of the links that are told in full: root and number of members
        self._begins = 0
        self._met: list[int] = []

    def run(self) -> None:
        done = self._done
        done.about = self._bundle.json("bundle.json")
        if done.about["format"] not in _FORMATS:
            raise BundleError(f"It has format {done.about['format']}; this version of stocktake reads format 1")
        self._links()
        self._beginning()
        purged: set[datetime] = set()
        states = list[tuple[datetime, datetime | None]]()
        asset = done.about["asset"]
        for where, one, proof in self._pairs("states.jsonl", "chain/states.jsonl"):
            self._is_about(where, one, asset)
            sha = self._bundle.sum(one["document"])
            if sha != one["sha256"]:
                done.wrongs(f"{where}: its document is another one")
            self._member(where, _state(one, sha), proof, one["scan_id"])
            states.append((one["valid_from"], one["valid_to"]))
        for where, one, proof in self._pairs("changes.jsonl", "chain/changes.jsonl"):
            if one["asset_id"] != asset["asset_id"]:
                done.wrongs(f"{where}: is about another asset")
            self._member(where, _change(one), proof, one["scan_id"])
            if one["type"] == "purged":
                purged.add(one["at"])
        self._ends(states, purged)
        numbers = set[int]()
        for where, one, proof in self._pairs("ledger/scans.jsonl", "chain/scans.jsonl"):
            numbers.add(one["scan_id"])
            said = chain.body("scan", *(one[name] for name in SCAN))
            self._member(where, (Sort.SCAN, one["scan_id"], 0, said), proof, one["scan_id"])
        for where, one, proof in self._pairs("ledger/scans.jsonl", "chain/looks.jsonl"):
            if not one["passes_in_chain"] and proof["link"] is None:
                done.waiting += 1
                continue
            said = chain.body("looks", *(one[name] for name in LOOKS))
            self._member(where, (Sort.LOOKS, one["scan_id"], 0, said), proof, one["scan_id"])
        for where, one, proof in self._pairs("ledger/listings.jsonl", "chain/listings.jsonl"):
            said = chain.body("listing", *(one[name] for name in LISTING))
            if one["scan_id"] not in numbers:
                done.wrongs(f"{where}: is of a scan that is not in here")
            self._member(where, (Sort.LISTING, one["scan_id"], one["ordinal"], said), proof, one["scan_id"])
        self._anchor()

    def _pairs(self, rows: str, proofs: str) -> Iterator[tuple[str, dict[str, Any], Mapping[str, Any]]]:
        """Rows with their proofs, which stand in the same order."""
        both = zip_longest(self._bundle.lines(rows), self._bundle.lines(proofs))
        for number, (row, proof) in enumerate(both, 1):
            if row is None or proof is None:
                raise BundleError(f"{proofs} has other lines than {rows}")
            yield f"{rows} line {number}", {name: _read(name, value) for name, value in row.items()}, proof

    def _links(self) -> None:
        done, before = self._done, NOTHING
        heads = self._published.get(done.about["workspace"], {})
        for expected, line in enumerate(self._bundle.lines("chain/links.jsonl"), 1):
            where = f"link {line['seq']}"
            if line["seq"] != expected:
                raise BundleError(f"chain/links.jsonl: {where} stands where link {expected} belongs")
            if "says" in line:
                said = msgspec.json.decode(line["says"])
                if said["seq"] != expected or said["workspace"] != done.about["workspace"]:
                    done.wrongs(f"{where}: says that it is another one")
                self._roots[expected] = bytes.fromhex(said["root"]), said["count"]
                what = chain.said(line["says"])
            else:
                what = bytes.fromhex(line["said"])
            before = chain.link_digest(before, what)
            if expected in heads:
                if heads[expected] == before.hex():
                    done.anchored = expected
                else:
                    done.wrongs(f"{where}: is not the one that was published as a head")
            done.links, done.head = expected, (expected, before.hex())
        head = done.about["chain"]["head"]
        if (head["seq"], head["digest"]) != done.head if head is not None else done.head is not None:
            done.wrongs("the chain does not lead to the head that the bundle names")

    def _beginning(self) -> None:
        one = self._bundle.json("chain/beginning.json")
        if self._done.head is None:
            self._begins = 1 << 62  # there is no chain: nothing vouches for anything
            return
        last = one["last_scan_before"]
        said = chain.beginning(last)
        if one["link"] != 1:
            raise BundleError("chain/beginning.json: is not of the first link")
        self._member("chain/beginning.json", (Sort.BEGINNING, last, 0, said), one, last)
        self._begins = last

    def _member(self, where: str, row: Row, proof: Mapping[str, Any], scan: int) -> None:
        """See that the chain holds a row."""
        seq = proof["link"]
        if seq is None:
            if scan <= self._begins:
                self._done.before += 1
            else:
                self._done.wrongs(f"{where}: no link holds it")
            return
        if seq not in self._roots:
            self._done.wrongs(f"{where}: link {seq}, which should hold it, is not in here")
            return
        root, count = self._roots[seq]
        try:
            record, reached = chain.proved(proof["proof"], proof["index"], count)
        except ValueError as exc:
            self._done.wrongs(f"{where}: its proof leads nowhere ({exc})")
            return
        if reached != root:
            self._done.wrongs(f"{where}: its proof does not lead to link {seq}")
        elif record != chain.address(*row[:3]) + chain.leaf(bytes.fromhex(proof["salt"]), row[3]):
            self._done.wrongs(f"{where}: link {seq} holds something else")
        else:
            self._done.members += 1
            self._met.append(seq)

    def _is_about(self, where: str, one: Mapping[str, Any], asset: Mapping[str, Any]) -> None:
        if any(one[name] != asset[name] for name in ("asset_id", "kind", "key")):
            self._done.wrongs(f"{where}: is about another asset")

    def _ends(self, states: Sequence[tuple[datetime, datetime | None]], purged: set[datetime]) -> None:
        """A state ends when the next begins, or when its asset was purged: both are in the chain."""
        for number, (start, end) in enumerate(states, 1):
            following = states[number][0] if number < len(states) else None
            if following is not None and following < start:
                self._done.wrongs(f"states.jsonl line {number + 1}: begins before the one before it")
            if end is None and following is not None:
                self._done.wrongs(f"states.jsonl line {number}: has not ended, though another follows")
            elif end is not None and end not in purged and end != following:
                self._done.wrongs(f"states.jsonl line {number}: nothing in here shows that it ended then")

    def _anchor(self) -> None:
        """How much of it stands in links that are covered by a head that was published."""
        anchored = self._done.anchored
        self._done.unanchored = sum(seq > (anchored or 0) for seq in self._met)


def _read(name: str, value: Any) -> Any:
    if isinstance(value, str) and name.endswith(_TIMES):
        return datetime.fromisoformat(value)
    return value


def _state(one: Mapping[str, Any], sha: str) -> Row:
    lifted = tuple([one[name] for name in LIFTED])
    said = chain.version_body(
        one["asset_id"], one["valid_from"], one["scan_id"], one["kind"], one["key"], one["partition"],
        one["lifecycle"], lifted, bytes.fromhex(sha),
    )  # fmt: skip
    return Sort.VERSION, one["asset_id"], chain.micros(one["valid_from"]), said


def _change(one: Mapping[str, Any]) -> Row:
    said = chain.body("change", *(one[name] for name in CHANGE[1:]))
    return Sort.CHANGE, one["asset_id"], chain.micros(one["at"]), said


def heads_of(lines: Iterable[str], wrongs: Callable[[str], object]) -> dict[str, dict[int, str]]:
    """Read published heads, one JSON a line, as `evidence head` prints them. What is no head is told."""
    found: dict[str, dict[int, str]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            said = msgspec.json.decode(line)
            heads = {str(name): (int(one[0]), str(one[1])) for name, one in said["workspaces"].items()}
            if said["head"] != chain.head_of(heads):
                wrongs(f"line {number}: its head is not that of the workspaces it names")
                continue
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            wrongs(f"line {number}: is no head")
            continue
        for name, (seq, digest) in heads.items():
            if found.setdefault(name, {}).setdefault(seq, digest) != digest:
                wrongs(f"line {number}: says another digest of link {seq} of {name} than an earlier one")
    return found
