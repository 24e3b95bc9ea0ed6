"""The chain of the ledger: how what was published is bound to all that was published before it. Pure.

A link binds its members, each a salted digest of one row, by the root of a tree, and the link before it by its digest.
Who has a salt and a row can see that they belong to a member; a salt says nothing about another one, and a member
without its salt says nothing about its row, even to somebody who can guess what the row said.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from stocktake.core.words import words

SALT = 16
_LEAF = 32
_FAN = 256
_HEAD = struct.Struct(">cqq")
ADDRESS = _HEAD.size
RECORD = ADDRESS + _LEAF
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
encode = msgspec.json.Encoder().encode

#: What the link before the first one of a workspace would have been.
NOTHING = b"\0" * 32


class What(StrEnum):
    """What a link is about."""

    GENESIS = "genesis"  # the first: what was there before it is not in the chain
    PUBLISHED = "published"  # states and changes that a scan saw
    SCANNED = "scanned"  # rows of the ledger
    NAMED = "named"  # changes whose actor became known
    REDACTED = "redacted"  # rows out of which a value was removed
    DROPPED = "dropped"  # states and changes that retention dropped


class Sort(StrEnum):
    """What kind of row a member stands for; one letter each, for there are many."""

    VERSION = "v"  # asset, valid_from
    CHANGE = "c"  # asset, at
    SCAN = "s"  # scan
    LOOKS = "p"  # scan: what equal passes add to its row
    LISTING = "l"  # scan, ordinal
    REDACTION = "r"  # redaction
    BEGINNING = "g"  # the last scan before the chain began
    DROPPED_VERSION = "d"
    DROPPED_CHANGE = "k"


#: A row that becomes a member: its kind, what it is known by, and all that it says. A plain tuple: there are millions.
Row = tuple[Sort, int, int, bytes]


class Member(NamedTuple):
    """A member of a link as it is kept."""

    sort: Sort
    id: int
    at: int
    leaf: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One link, without its members."""

    workspace: str
    seq: int
    at: datetime
    what: str
    scan: int | None
    count: int
    root: bytes
    before: bytes

    @property
    def digest(self) -> bytes:
        """What the next link and a published head name it by."""
        return link_digest(self.before, self.said)

    @property
    def said(self) -> bytes:
        """The digest of what it says itself: with it alone, a chain can be followed past a link."""
        return said(self.text)

    @property
    def text(self) -> str:
        """What it says: one line of JSON, keys in order, no spaces."""
        return msgspec.json.encode(
            {
                "at": self.at.astimezone(UTC),
                "count": self.count,
                "root": self.root.hex(),
                "scan": self.scan,
                "seq": self.seq,
                "what": self.what,
                "workspace": self.workspace,
            },
            order="sorted",
        ).decode()


def said(text: str) -> bytes:
    """The digest of what a link says."""
    return hashlib.sha256(text.encode()).digest()


def link_digest(before: bytes, said: bytes) -> bytes:
    """The digest of a link: of the link before, and of what it says itself."""
    return hashlib.sha256(b"\3" + before + said).digest()


def salt_key(installation_key: bytes) -> bytes:
    """The key that salts are made from: nothing else is, and it leads back to no other."""
    return hmac.digest(installation_key, b"stocktake evidence salts", "sha256")


def salts(key: bytes, nonce: bytes, count: int) -> bytes:
    """The salts of a link's members, one after the other."""
    return hashlib.shake_256(key + nonce).digest(SALT * count)


def leaf(salt: bytes, body: bytes) -> bytes:
    """The digest of a row."""
    return hashlib.sha256(b"\0" + salt + body).digest()


def open_leaf(sort: Sort, id_: int, at: int) -> bytes:
    """The digest of a member that keeps nothing secret: its own address is all that it says."""
    return hashlib.sha256(b"\2" + _HEAD.pack(sort.encode(), id_, at)).digest()


def packed(key: bytes, nonce: bytes, rows: Sequence[Row]) -> bytes:
    """The members of a link."""
    all_salts = salts(key, nonce, len(rows))
    sha, pack = hashlib.sha256, _HEAD.pack
    return b"".join(
        [
            pack(sort.encode(), id_, at) + sha(b"\0" + all_salts[n * SALT : n * SALT + SALT] + body).digest()
            for n, (sort, id_, at, body) in enumerate(rows)
        ]
    )


def packed_open(members: Iterable[tuple[Sort, int, int]]) -> bytes:
    """The members of a link that keep nothing secret."""
    return b"".join(_HEAD.pack(one[0].encode(), *one[1:]) + open_leaf(*one) for one in members)


def unpacked(members: bytes) -> Iterator[Member]:
    """Read members back."""
    for start in range(0, len(members) - RECORD + 1, RECORD):
        letter, id_, at = _HEAD.unpack_from(members, start)
        yield Member(Sort(letter.decode()), id_, at, members[start + _HEAD.size : start + RECORD])


def address(sort: Sort, id_: int, at: int) -> bytes:
    """How the record of a member begins."""
    return _HEAD.pack(sort.encode(), id_, at)


def root(members: bytes) -> bytes:
    """Bind members to one digest: a tree whose nodes have 256 below them."""
    return _climb(members, RECORD)[-1]


def proof(members: bytes, index: int) -> list[str]:
    """What shows that a member belongs to a root: its neighbours, and those of each node above it, in hex."""
    shown, level, size = [], members, RECORD
    while True:
        start = index // _FAN * _FAN * size
        shown.append(level[start : start + _FAN * size].hex())
        if len(level) <= _FAN * size:
            return shown
        level, size, index = b"".join(_nodes(level, size)), _LEAF, index // _FAN


def proved(shown: Sequence[str], index: int, count: int) -> tuple[bytes, bytes]:
    """Return the record that stands at a place, and the root that it leads to. Raises ValueError."""
    record, size = b"", RECORD
    below: bytes | None = None
    for text in shown:
        group = bytes.fromhex(text)
        at = index % _FAN * size
        one = group[at : at + size]
        if len(one) != size or (below is not None and one != below):
            raise ValueError("a node is not among its neighbours")
        record = record or one
        below, index, size = _node(group), index // _FAN, _LEAF
    if below is None or index:
        raise ValueError("the proof ends too early")
    depth, width = 1, count
    while width > _FAN:
        depth, width = depth + 1, -(-width // _FAN)
    if depth != len(shown):
        raise ValueError("the proof has another depth than the tree")
    return record, below


def _climb(level: bytes, size: int) -> list[bytes]:
    nodes = _nodes(level, size)
    while len(nodes) > 1:
        nodes = _nodes(b"".join(nodes), _LEAF)
    return nodes


def _nodes(level: bytes, size: int) -> list[bytes]:
    step = _FAN * size
    return [_node(level[start : start + step]) for start in range(0, max(1, len(level)), step)]


def _node(group: bytes) -> bytes:
    return hashlib.sha256(b"\1" + group).digest()


def micros(at: datetime) -> int:
    """A time as members hold it."""
    return (at - _EPOCH) // _MICROSECOND


def moment(at: int) -> datetime:
    """A time out of a member."""
    return _EPOCH + at * _MICROSECOND


# ---- what rows say ---------------------------------------------------------------------------------------------------


#: What is lifted out of a document into columns of its own.
LIFTED = words(
    "name state owner parent run created_at started_at ended_at artifact_uri code_version data_version params_digest"
)
_TIMES = slice(LIFTED.index("created_at"), LIFTED.index("ended_at") + 1)


def version_body(
    asset_id: int, valid_from: datetime, scan_id: int, kind: str, key: str, partition: str, lifecycle: str,
    lifted: tuple[Any, ...], document: bytes,
) -> bytes:  # fmt: skip
    """All that a state says. `document` is the whole SHA-256 of the document."""
    for value in lifted[_TIMES]:
        if value is not None and value.tzinfo is not UTC:
            lifted = _utc(lifted)
    return encode(("state", asset_id, valid_from, scan_id, kind, key, partition, lifecycle, lifted, document.hex()))


def body(word: str, *values: Any) -> bytes:
    """All that another row says."""
    return encode((word, *_utc(values)))


def _utc(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Times as the database gives them back, whatever offset a source wrote."""
    for value in values:
        if type(value) is datetime and value.tzinfo is not UTC:
            return tuple([one.astimezone(UTC) if type(one) is datetime else one for one in values])
    return values


def beginning(last_scan: int) -> bytes:
    """What the first link says."""
    return body("scans up to this one are not in the chain", last_scan)


def head_of(heads: Mapping[str, tuple[int, str]]) -> str:
    """One digest for the heads of all workspaces: name, number and digest, in the order of their names."""
    lines = "".join(f"{encode(name).decode()} {seq} {digest}\n" for name, (seq, digest) in sorted(heads.items()))
    return hashlib.sha256(lines.encode()).hexdigest()
