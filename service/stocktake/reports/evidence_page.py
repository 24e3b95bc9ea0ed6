"""The page of an evidence bundle: one file for people, without a script and without anything from elsewhere.

It says what the files beside it say, and where it leaves something out it names the file. Streams.
"""

from __future__ import annotations

import html
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from stocktake.core import canonical, diff

_STATES, _CHANGES, _SCANS = 50, 200, 100  # the newest; all are in the files
_TEXT = 300
_DOCUMENT = 100_000
Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What is told, as the files hold it. What streams is asked for when its part is written."""

    about: Mapping[str, Any]
    states: Callable[[], Iterable[tuple[Record, str]]]
    changes: Callable[[], Iterable[Record]]
    lineage: Mapping[str, Any]
    findings: Callable[[], Iterable[Record]]
    scans: Callable[[], Iterable[Record]]
    words: Mapping[str, Any]  # what each rule says: title, why, fix
    artifacts: Sequence[tuple[str, str]] = ()

    def parts(self) -> Iterator[str]:
        """Yield the page part by part."""
        newest = deque[tuple[Record, str]](self.states(), maxlen=_STATES)
        yield from self._top(newest[-1] if newest else None)
        yield from self._document(newest[-1] if newest else None)
        yield from self._findings()
        yield from self._changes()
        yield from self._states(newest)
        yield from self._lineage()
        yield from self._ledger()
        yield from self._artifacts()
        yield from self._chain()
        yield "</main></body></html>\n"

    def _top(self, last: tuple[Record, str] | None) -> Iterator[str]:
        about, asset = self.about, self.about["asset"]
        state = last[0] if last else {}
        name = state.get("name")
        kind = str(asset["kind"]).replace("_", " ")
        title = f"{kind} {_plain(name or asset['key'])}"
        yield (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>Evidence: {_e(title)}</title><style>{_STYLE}</style></head><body><header><div>"
            f'<p class="over">Evidence · {_e(about["workspace"])}</p><h1>{_e(title)}</h1>'
            f'<p class="under">as it was known at {_time(about["as_of"])}</p></div></header><main>'
        )
        gone = asset["gone_at"]
        standing = "purged" if gone else state.get("lifecycle", "not known")
        facts = [
            ("Key", f"<code>{_e(asset['key'])}</code>"),
            ("Standing", f'<span class="tag {"bad" if standing != "active" else "good"}">{_e(standing)}</span>'),
            ("State", _e(state.get("state") or "none")),
            ("Owner", _e(state.get("owner") or "unknown")),
            ("First seen", _time(asset["first_seen"]) + (" (the baseline: it may be older)" * asset["baseline"])),
            ("Last complete look", self._look()),
            ("Read from", f"{_e(about['workspace'])} ({_e(about['source'])})"),
        ]
        if gone:
            facts.insert(2, ("Purged", _time(gone)))
        if state.get("run"):
            facts.append(("Run", f"<code>{_e(state['run'])}</code>"))
        for label, field in (("Code", "code_version"), ("Data", "data_version"), ("Artifacts", "artifact_uri")):
            if state.get(field):
                facts.append((label, f"<code>{_e(state[field])}</code>"))
        yield '<dl class="facts">' + "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts) + "</dl>"
        holds = about["holds"]
        cards = [("states", "states"), ("changes", "changes"), ("findings", "findings"), ("scans", "scans behind them")]
        yield '<div class="cards">' + "".join(
            f'<div><strong>{holds[name]:,}</strong><span>{words}</span></div>' for name, words in cards
        ) + "</div>"  # fmt: skip

    def _look(self) -> str:
        number = self.about["last_complete_look"]
        scan = next((one for one in self.scans() if one["scan_id"] == number), None)
        if scan is None:
            return '<span class="tag bad">none: absence in here proves nothing</span>'
        who = f", as {_e(scan['identity'])}" if scan["identity"] else ""
        again = f" (and {scan['passes'] - 1:,} more that found the same)" if scan["passes"] > 1 else ""
        return f"scan {number}, {_time(scan['last_finished_at'] or scan['finished_at'])}{who}{again}"

    def _document(self, last: tuple[Record, str] | None) -> Iterator[str]:
        if last is None:
            return
        state, document = last
        yield f'<section><h2>The document</h2><p class="note">{_e(state["document"])}, SHA-256 '
        yield f'<code class="wrap">{_e(state["sha256"])}</code></p>'
        if len(document) > _DOCUMENT:
            yield f"<p>It has {len(document):,} characters: see the file.</p></section>"
            return
        told = json.dumps(canonical.decode(document), indent=2, ensure_ascii=False)
        yield f"<pre>{_e(told)}</pre></section>"

    def _findings(self) -> Iterator[str]:
        yield "<section><h2>Findings</h2>"
        some = False
        for one in self.findings():
            some = True
            rule = self.words.get(one["rule"], {})
            yield (
                f'<article class="finding {_e(one["severity"])}"><h3>{_e(rule.get("title") or one["rule"])}</h3>'
                f'<p><span class="tag {_e(one["severity"])}">{_e(one["severity"])}</span> {_e(one["state"])} since'
                f" {_time(one['since'])}, first seen {_time(one['first_seen'])}, owner {_e(one['owner'] or 'unknown')}"
                f" <code>{_e(one['rule'])}</code></p>"
            )
            if rule.get("why"):
                yield f"<p>{_e(rule['why'])}</p>"
            yield _table(
                ("When", "From", "To", "By", "Why"),
                (
                    (_time(event["at"]), _e(event["before"] or "new"), _e(event["after"]),
                     _e(event["actor"] or "judging"), _e(event["reason"] or ""))
                    for event in one["history"]
                ),
            )  # fmt: skip
            yield f"<details><summary>What it saw</summary><pre>{_e(_json(one['evidence']))}</pre></details></article>"
        yield "</section>" if some else "<p>No rule ever said anything about it.</p></section>"

    def _changes(self) -> Iterator[str]:
        yield "<section><h2>What changed</h2>"
        newest = deque(self.changes(), maxlen=_CHANGES)
        if not newest:
            yield "<p>No change was seen.</p></section>"
            return
        yield self._cut(len(newest), self.about["holds"]["changes"], "changes.jsonl")
        yield _table(
            ("Between", "What", "Who", "Fields", "Scan"),
            (
                (
                    f"{_time(one['not_before']) if one['not_before'] else 'before'}<br>{_time(one['not_after'])}",
                    f"{_e(one['type'])}<br><small>{_e(one['category'])}</small>",
                    _e(one["actor"] or "unknown")
                    + (f"<br><small>{_e(one['actor_source'])}</small>" if one["actor_source"] else ""),
                    _fields(canonical.decode(one["fields"])),
                    str(one["scan_id"]),
                )
                for one in reversed(newest)
            ),
        )
        yield "</section>"

    def _states(self, newest: Sequence[tuple[Record, str]]) -> Iterator[str]:
        yield "<section><h2>How it stood</h2>"
        yield self._cut(len(newest), self.about["holds"]["states"], "states.jsonl")

        def lines() -> Iterator[Sequence[str]]:
            following = [*[document for _, document in newest][:-1]]
            for n in range(len(newest) - 1, -1, -1):
                state, document = newest[n]
                before = following[n - 1] if n else None
                told = "first state that is shown"
                if before is not None:
                    told = _fields(
                        [
                            {"path": one.path, "before": one.before, "after": one.after}
                            for one in diff.field_changes(canonical.decode(before), canonical.decode(document))
                        ]
                    )
                yield (
                    _time(state["valid_from"]),
                    _time(state["valid_to"]) if state["valid_to"] else "still",
                    _e(state["state"] or "") + f"<br><small>{_e(state['lifecycle'])}</small>",
                    told or "nothing in the document",
                    f"{state['scan_id']}<br><small>{_e(state['document'])}</small>",
                )

        yield _table(("From", "To", "State", "What differs", "Scan"), lines())
        yield "</section>"

    def _lineage(self) -> Iterator[str]:
        yield "<section><h2>Lineage</h2>"
        names = {(one["kind"], one["key"]): one for one in self.lineage["nodes"]}

        def node(end: Mapping[str, str]) -> str:
            known = names.get((end["kind"], end["key"]))
            kind = _e(str(end["kind"]).replace("_", " "))
            if known is None:
                return f"{kind} <code>{_e(end['key'])}</code> <small>only named, never seen</small>"
            told = [str(known["standing"])] if known["standing"] != "active" else []
            told += [f"code {known['code_version']}"] if known["code_version"] else []
            name = f"{_e(known['name'])} " if known["name"] and known["name"] != end["key"] else ""
            return f"{kind} {name}<code>{_e(end['key'])}</code> <small>{_e(', '.join(told))}</small>"

        for title, way in (("Made from", "made_from"), ("Made into", "made_into")):
            edges = self.lineage[way]
            yield f"<h3>{title}</h3>"
            if not edges:
                yield "<p>Nothing that is known.</p>"
                continue
            yield _table(
                ("", "", ""),
                (
                    (node(one["from"]), f"<em>{_e(one['relation'])}</em> {_e(one['detail'] or '')}", node(one["to"]))
                    for one in edges
                ),
            )
        if self.lineage["cut"]:
            yield '<p class="note">Only the nearest are shown.</p>'
        yield "</section>"

    def _ledger(self) -> Iterator[str]:
        yield '<section><h2>The scans behind it</h2><p class="note">What each promised and saw, in ledger/scans.jsonl;'
        yield " how it listed the place of this asset, in ledger/listings.jsonl.</p>"
        newest = deque(self.scans(), maxlen=_SCANS)
        yield self._cut(len(newest), self.about["holds"]["scans"], "ledger/scans.jsonl")

        def state(one: Record) -> str:
            word = "good" if one["state"] == "complete" else "bad"
            return f'<span class="tag {word}">{_e(one["state"])}</span>' + (
                f"<br><small>{_e(one['error'])}</small>" if one["error"] else ""
            )

        yield _table(
            ("Scan", "When", "How", "As whom", "Passes", "Seen"),
            (
                (
                    f"{one['scan_id']}<br><small>{_e(one['mode'])}</small>",
                    f"{_time(one['began_at'])}<br>{_time(one['last_finished_at'] or one['finished_at'])}",
                    state(one),
                    _e(one["identity"] or "not known")
                    + ("<br><small>lists filtered by rights</small>" * one["filtered"]),
                    f"{one['passes']:,}",
                    f"{one['seen']:,}",
                )
                for one in reversed(newest)
            ),
        )  # fmt: skip
        yield "</section>"

    def _artifacts(self) -> Iterator[str]:
        if self.artifacts:
            yield "<section><h2>Artifacts</h2>"
            yield _table(
                ("File", "SHA-256"),
                ((f"artifacts/{_e(name)}", f'<code class="wrap">{digest}</code>') for name, digest in self.artifacts),
            )
            yield "</section>"

    def _chain(self) -> Iterator[str]:
        chain = self.about["chain"]
        yield "<section><h2>How to check this</h2>"
        if chain["head"] is None:
            yield '<p class="tag bad">This workspace has no chain: nothing vouches for what is here.</p>'
        else:
            yield (
                f"<p>Every state, change and row of the ledger in here is a member of a link of the chain of"
                f" <em>{_e(chain['workspace'])}</em>, which has {chain['links']:,} links. Its head is number"
                f' {chain["head"]["seq"]}:</p><p><code class="wrap big">{chain["head"]["digest"]}</code></p>'
            )
        if chain["rows_from_before"]:
            yield (
                f'<p class="tag bad">{chain["rows_from_before"]:,} rows are older than the chain (scans up to'
                f" {chain['scans_before_it_began']}): nothing vouches for those.</p>"
            )
        yield (
            "<ol><li><code>sha256sum -c MANIFEST.sha256</code> in the unpacked folder: no file was altered since.</li>"
            "<li><code>stocktake evidence verify BUNDLE.zip</code>: everything in here belongs to the chain. It needs"
            " neither the database nor a key.</li>"
            "<li><code>stocktake evidence verify BUNDLE.zip --heads FILE</code>: and the chain is the one whose heads"
            " were published, to a place that the database's administrator cannot rewrite.</li></ol>"
            f'<ul class="note">{"".join(f"<li>{_e(one)}</li>" for one in self.about["notes"])}</ul>'
            f'<p class="note">Made by {_e(self.about["made_by"])}.</p></section>'
        )

    def _cut(self, shown: int, of: int, file: str) -> str:
        return f'<p class="note">The newest {shown:,} of {of:,}; all are in {file}.</p>' if shown < of else ""


def _table(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{name}</th>" for name in columns)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in line) + "</tr>" for line in lines)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _fields(fields: Iterable[Mapping[str, Any]]) -> str:
    return "".join(
        f'<div class="field"><code>{_e(one["path"])}</code> <del>{_e(_short(one["before"]))}</del> '
        f"<ins>{_e(_short(one['after']))}</ins></div>"
        for one in fields
    )


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else "–" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _TEXT else f"{text[:_TEXT]}… ({len(text):,} characters)"


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def _plain(text: Any) -> str:
    return canonical.unescape(str(text))


def _e(value: Any) -> str:
    """A text as HTML shows it: whatever it holds, it is no markup, and no sign in it turns the line around."""
    text = "".join(one if one in "\n\t" or one.isprintable() else f"\\u{ord(one):04x}" for one in _plain(value))
    return html.escape(text)


def _time(at: datetime) -> str:
    utc = at.astimezone(UTC)
    return f'<time datetime="{utc.isoformat()}">{utc:%Y-%m-%d %H:%M:%S} UTC</time>'


_STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--dim:#5d6b7c;--line:#dfe4ea;--back:#f5f7f9;--card:#fff;--lead:#12395b;
--good:#1b7f4d;--bad:#b3261e;--warn:#9a5b00;--code:#eef2f6}
@media (prefers-color-scheme:dark){:root{--ink:#e4e9ef;--dim:#9aa7b5;--line:#303a46;--back:#12171d;--card:#1a2129;
--lead:#0d2740;--good:#5fcf96;--bad:#ff8a80;--warn:#f0b35a;--code:#232c36}}
*{box-sizing:border-box}body{margin:0;background:var(--back);color:var(--ink);
font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif}
header{background:var(--lead);color:#fff;padding:2.2rem 0 4.2rem}header div,main{max-width:66rem;margin:0 auto}
header div{padding:0 1.2rem}
h1{margin:.1rem 0;font-size:1.75rem;line-height:1.25;overflow-wrap:anywhere}.over,.under{margin:0;opacity:.8}
.over{text-transform:uppercase;letter-spacing:.08em;font-size:.78rem}main{padding:0 1.2rem 3rem;margin-top:-2.6rem}
section,.facts,.cards{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:1.1rem 1.3rem;
margin:0 0 1rem}h2{font-size:1.12rem;margin:0 0 .6rem}h3{font-size:1rem;margin:1rem 0 .3rem}
.facts{display:grid;grid-template-columns:minmax(8rem,max-content) 1fr;gap:.4rem 1.2rem}.facts dt{color:var(--dim)}
.facts dd{margin:0;overflow-wrap:anywhere}.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(8rem,1fr));
gap:1rem;text-align:center}.cards strong{display:block;font-size:1.6rem}.cards span{color:var(--dim)}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.92em}th{text-align:left;color:var(--dim);
font-weight:600}th,td{padding:.45rem .7rem .45rem 0;border-bottom:1px solid var(--line);vertical-align:top}
tr:last-child td{border-bottom:0}time{white-space:nowrap}code,pre{font:.92em/1.5 ui-monospace,SFMono-Regular,Menlo,
Consolas,monospace;background:var(--code);border-radius:5px}code{padding:.08em .35em;overflow-wrap:anywhere}
pre{padding:.9rem 1rem;overflow:auto;max-height:34rem;margin:.4rem 0 0}small,.note{color:var(--dim)}
.note{font-size:.9em}.wrap{overflow-wrap:anywhere;word-break:break-all}.big{font-size:1em;padding:.4rem .6rem}
.tag{display:inline-block;border-radius:99px;padding:.02em .65em;font-size:.86em;font-weight:600;
border:1px solid currentColor}.good{color:var(--good)}.bad,.critical{color:var(--bad)}.warning{color:var(--warn)}
.info{color:var(--dim)}article.finding{border-left:4px solid currentColor;padding:0 0 .4rem 1rem;margin:1rem 0}
article.finding>*{color:var(--ink)}
.field{margin:0 0 .25rem;overflow-wrap:anywhere}del{color:var(--bad);text-decoration-thickness:1px}
ins{color:var(--good);text-decoration:none}ol,ul{padding-left:1.2rem}li{margin:.25rem 0}
@media print{header{background:none;color:#000;padding:0 0 1rem}main{margin:0;padding:0}pre{max-height:none}
section,.facts,.cards{break-inside:auto;border-color:#ccc}}
"""
