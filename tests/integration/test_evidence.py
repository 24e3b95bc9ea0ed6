"""`stocktake evidence`: what is in a bundle, the same each time, and that whatever was altered in it is found."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import zipfile
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from stocktake.core.assets import Kind, Mode
from stocktake.core.redact import Redactor
from stocktake.core.remembered import Sought
from stocktake.reports.evidence_check import Verdict, check
from stocktake.store import redactions
from tests.integration.registry import Registry, look
from tests.integration.scripted import KEY
from tests.integration.test_cli import Cli, configured


@pytest.fixture
def cli(tmp_path: Path, database_url: str) -> Cli:
    made = configured(
        tmp_path, f'database: "{database_url}"\nevidence:\n  file: {tmp_path}/heads.jsonl\n'
    )  # fmt: skip
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "installation.key").write_text(KEY.hex())
    return made


@pytest.fixture
def world(engine: Engine) -> Registry:
    """A run that was edited after its end, purged, and came back; the model version that was made from it."""
    made = Registry()
    for number in range(300):
        made.add_run(f"run{number}", experiment=str(number % 3))
    made.add_run("run0", run_name="odd <script>alert(1)</script> \x1b[31m name")
    made.runs["run0"]["tags"] = {"note": "</script><img src=x onerror=alert(1)>", "ctl": "a\0b\u202e"}
    made.registered["m"] = {"name": "m", "aliases": {}}
    made.versions["m/1"] = {"run_id": "run0", "source": "runs:/run0/model"}
    look(engine, made)
    made.runs["run0"]["params"]["lr"] = "0.1"
    look(engine, made)
    gone = made.runs.pop("run0")
    look(engine, made)
    made.runs["run0"] = gone
    look(engine, made)
    made.runs["run0"]["params"]["lr"] = "0.2"
    look(engine, made)
    for _ in range(3):
        look(engine, made, Mode.HOT)
    return made


def made(cli: Cli, *arguments: str, code: int = 0, name: str = "bundle.zip") -> Path:
    path = cli.folder / name
    answer = cli("-q", "evidence", *(arguments or ("run", "run0")), "--output", str(path), "--force")
    assert answer.code == code, answer.err + answer.out
    return path


def read(path: Path, name: str) -> Any:
    with zipfile.ZipFile(path) as bundle:
        body = bundle.read(name).decode()
    return [json.loads(line) for line in body.splitlines()] if name.endswith("l") else json.loads(body)


def altered(path: Path, name: str, change: Callable[[bytes], bytes | None], *, sums: bool = True) -> Path:
    """The same bundle with one file changed (None: left out), and with sums that fit it."""
    other = path.with_name(f"altered-{path.name}")
    with zipfile.ZipFile(path) as bundle, zipfile.ZipFile(other, "w") as out:
        bodies: dict[str, bytes | None] = {one: bundle.read(one) for one in bundle.namelist()}
        before = bodies[name]
        assert before is not None
        bodies[name] = change(before)
        assert bodies[name] != before
        if sums and name != "MANIFEST.sha256":
            listed = {one: body for one, body in bodies.items() if body is not None and one != "MANIFEST.sha256"}
            lines = [f"{hashlib.sha256(body).hexdigest()}  {one}\n" for one, body in sorted(listed.items())]
            bodies["MANIFEST.sha256"] = "".join(lines).encode()
        for one, body in bodies.items():
            if body is not None:
                out.writestr(one, body)
    return other


def wrong(done: Verdict) -> str:
    return "; ".join(done.wrong)


def test_a_bundle_holds_all_that_is_known_of_an_asset_and_nothing_of_another(cli: Cli, world: Registry) -> None:
    path = made(cli)
    about = read(path, "bundle.json")
    states, changes = read(path, "states.jsonl"), read(path, "changes.jsonl")
    assert about["asset"]["key"] == "run0"
    assert [one["type"] for one in changes] == ["updated", "purged", "restored", "updated"]
    assert [one["valid_to"] is None for one in states] == [False, False, False, True]
    documents = [read(path, one["document"]) for one in states]
    assert [one["params"].get("lr") for one in documents] == [None, "0.1", "0.1", "0.2"]
    with zipfile.ZipFile(path) as bundle:
        for one in states:
            assert hashlib.sha256(bundle.read(one["document"])).hexdigest() == one["sha256"]
        assert not [name for name in bundle.namelist() if b"run17" in bundle.read(name)]
    lineage = read(path, "lineage.json")
    assert [(e["from"]["key"], e["to"]["key"]) for e in lineage["made_into"]] == [("run0", "m/1")]
    (finding,) = [one for one in read(path, "findings.jsonl") if one["rule"] == "run-edited-after-finish"]
    assert finding["history"]
    scans = read(path, "ledger/scans.jsonl")
    assert {one["scan_id"] for one in states} | {one["scan_id"] for one in changes} <= {one["scan_id"] for one in scans}
    assert {one["identity"] for one in scans} == {"tester"}
    assert {one["scan_id"] for one in read(path, "ledger/listings.jsonl")} <= {one["scan_id"] for one in scans}
    assert (about["chain"]["rows_from_before"], about["last_complete_look"]) == (0, 5)


def test_it_can_be_checked_by_anybody_and_by_the_tools_of_any_system(cli: Cli, world: Registry, tmp_path: Path) -> None:
    path = made(cli)
    done = check(path)
    assert (wrong(done), done.before, done.waiting) == ("", 0, 0)
    with zipfile.ZipFile(path) as bundle:
        bundle.extractall(tmp_path / "out")
        names = set(bundle.namelist())
    shown = subprocess.run(
        ["sha256sum", "-c", "MANIFEST.sha256"], cwd=tmp_path / "out", capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert {line.removesuffix(": OK") for line in shown} == names - {"MANIFEST.sha256"}
    rows = [*read(path, "states.jsonl"), *read(path, "changes.jsonl"), *read(path, "ledger/listings.jsonl")]
    assert done.members == len(rows) + 2 * len(read(path, "ledger/scans.jsonl")) + 1


def test_the_same_question_gives_the_same_bytes(cli: Cli, world: Registry, engine: Engine) -> None:
    with engine.connect() as connection:
        at = connection.execute(text("SELECT clock_timestamp()")).scalar_one().isoformat()
    one = made(cli, "run", "run0", "--at", at).read_bytes()
    assert made(cli, "run", "run0", "--at", at, name="other.zip").read_bytes() == one


def test_a_time_that_is_asked_for_is_the_last_that_is_told(cli: Cli, world: Registry, engine: Engine) -> None:
    with engine.connect() as connection:
        at = connection.execute(text("SELECT max(at) FROM change WHERE type = 'purged'")).scalar_one()
    path = made(cli, "run", "run0", "--at", (at.isoformat()), code=7)
    assert not path.exists()
    with engine.connect() as connection:
        at = connection.execute(
            text("SELECT min(c.at) FROM change c JOIN asset a USING (asset_id) WHERE type = 'updated' AND key = 'run0'")
        ).scalar_one()
    path = made(cli, "run", "run0", "--at", at.isoformat())
    assert [one["type"] for one in read(path, "changes.jsonl")] == ["updated"]
    assert read(path, "states.jsonl")[-1]["valid_to"] is None
    assert read(path, "bundle.json")["asset"]["gone_at"] is None
    assert wrong(check(path)) == ""


@pytest.mark.parametrize(
    ("name", "before", "after", "words"),
    [
        ("documents/000002.json", '"lr":"0.1"', '"lr":"0.3"', "its document is another one"),
        ("states.jsonl", '"owner":null', '"owner":"eve"', "holds something else"),
        ("states.jsonl", '"lifecycle":"active"', '"lifecycle":"deleted"', "holds something else"),
        ("states.jsonl", '"key":"run0"', '"key":"run1"', "is about another asset"),
        ("states.jsonl", '"valid_to":"20', '"valid_to":"19', "nothing in here shows that it ended then"),
        ("changes.jsonl", '"actor":null', '"actor":"eve"', "holds something else"),
        ("changes.jsonl", '"not_before":"20', '"not_before":"19', "holds something else"),
        ("changes.jsonl", '"type":"purged"', '"type":"updated"', "holds something else"),
        ("ledger/scans.jsonl", '"identity":"tester"', '"identity":"root"', "holds something else"),
        ("ledger/scans.jsonl", '"passes":1', '"passes":9', "holds something else"),
        ("ledger/listings.jsonl", '"listed":10', '"listed":11', "holds something else"),
        ("chain/links.jsonl", '\\"what\\":\\"published\\"', '\\"what\\":\\"scanned\\"', "does not lead to the head"),
        ("chain/states.jsonl", '"salt":"', '"salt":"00', "holds something else"),
        ("chain/states.jsonl", '"index":', '"index":1', "proof"),
        ("chain/states.jsonl", '"link":', '"link":9', "is not in here"),
        ("chain/beginning.json", '"last_scan_before": 0', '"last_scan_before": 3', "holds something else"),
        ("bundle.json", '"key": "run0"', '"key": "run1"', "is about another asset"),
        ("bundle.json", '"format": 1', '"format": 2', "has format 2"),
    ],
)
def test_whatever_is_altered_in_a_bundle_is_found_though_its_sums_were_made_anew(
    cli: Cli, world: Registry, name: str, before: str, after: str, words: str
) -> None:
    path = altered(made(cli), name, lambda body: body.replace(before.encode(), after.encode(), 1))
    assert words in wrong(check(path))


def test_a_row_that_is_taken_out_is_found(cli: Cli, world: Registry) -> None:
    path = made(cli)

    def without(number: int) -> Callable[[bytes], bytes]:
        return lambda body: b"".join(line for n, line in enumerate(body.splitlines(True)) if n != number)

    for name in ("states.jsonl", "changes.jsonl", "ledger/scans.jsonl", "ledger/listings.jsonl", "chain/looks.jsonl"):
        assert "has other lines than" in wrong(check(altered(path, name, without(1)))), name
    assert "stands where link 3 belongs" in wrong(check(altered(path, "chain/links.jsonl", without(2))))
    both = altered(altered(path, "states.jsonl", without(1)), "chain/states.jsonl", without(1))
    assert "nothing in here shows that it ended then" in wrong(check(both))


def test_sums_that_do_not_fit_and_files_that_do_not_belong_are_found(cli: Cli, world: Registry) -> None:
    path = made(cli)
    assert "index.html is not what the manifest says" in wrong(
        check(altered(path, "index.html", lambda body: body + b" ", sums=False))
    )
    assert "index.html is missing" in wrong(check(altered(path, "index.html", lambda _: None, sums=False)))
    assert "MANIFEST.sha256 is missing" in wrong(check(altered(path, "MANIFEST.sha256", lambda _: None)))
    assert "states.jsonl is missing" in wrong(check(altered(path, "states.jsonl", lambda _: None)))
    with zipfile.ZipFile(path, "a") as bundle:
        bundle.writestr("../evil", "x")
    assert "../evil is in no manifest" in wrong(check(path))


@pytest.mark.parametrize("body", [b"", b"PK\x03\x04", b"no zip at all", b"PK\x05\x06" + b"\0" * 18])
def test_what_is_no_bundle_is_said_to_be_none(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(body)
    assert check(path).wrong


def test_every_byte_of_a_bundle_matters(cli: Cli, world: Registry) -> None:
    """A bundle that is damaged anywhere is no good one, and no damage is more than a message."""
    path = made(cli)
    whole = path.read_bytes()
    directory = whole.rindex(b"PK\x01\x02")  # beyond are offsets and attributes that only the zip itself needs
    with zipfile.ZipFile(path) as bundle:
        start = bundle.start_dir
    assert start < directory
    for at in range(40, start, max(1, start // 60)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x5A]) + whole[at + 1 :])
        found = check(path)
        if not found.wrong:  # a time or a flag in the header of one file: its content is the same
            with zipfile.ZipFile(path) as bundle:
                assert bundle.testzip() is None


def test_the_command_says_what_it_found_and_by_its_exit_code(cli: Cli, world: Registry) -> None:
    path = made(cli)
    answer = cli("evidence", "verify", str(path))
    assert (answer.code, "nothing was altered" in answer.out) == (0, True)
    assert "--heads FILE does" in answer.err
    bad = altered(path, "changes.jsonl", lambda body: body.replace(b'"actor":null', b'"actor":"eve"', 1))
    answer = cli("evidence", "verify", str(bad))
    assert (answer.code, "holds something else" in answer.out) == (10, True)
    assert cli("evidence", "verify", str(path.with_name("none.zip"))).code == 8
    assert cli("evidence", "run", "run0", "--output", str(path)).code == 8
    assert cli("evidence", "run", "nobody", "--output", str(path), "--force").code == 7
    assert cli("evidence", "experiment", "exp 1", "--artifact", "x", "--output", "y.zip").code == 2


def test_a_bundle_is_covered_by_a_head_that_was_published_after_it(cli: Cli, world: Registry, engine: Engine) -> None:
    assert cli("evidence", "head", "--publish").code == 0
    heads = cli.folder / "heads.jsonl"
    path = made(cli)
    answer = cli("evidence", "verify", str(path), "--heads", str(heads))
    assert (answer.code, "Covered by the published head" in answer.out) == (0, True), answer.err
    older = path.with_name("older.zip")
    older.write_bytes(path.read_bytes())
    world.runs["run0"]["params"]["lr"] = "0.3"
    look(engine, world)
    path = made(cli)
    answer = cli("evidence", "verify", str(path), "--heads", str(heads))
    assert (answer.code, "are in later links" in answer.err) == (3, True)
    assert cli("evidence", "head", "--publish").code == 0
    assert len(heads.read_text().splitlines()) == 2
    assert cli("evidence", "verify", str(path), "--heads", str(heads)).code == 0
    lines = heads.read_text().splitlines()
    younger = path.with_name("younger.jsonl")
    younger.write_text(lines[1] + "\n")
    answer = cli("evidence", "verify", str(older), "--heads", str(younger))
    assert (answer.code, "Name an older head, or a younger bundle" in answer.err) == (3, True), answer.err
    said = json.loads(lines[0])
    assert said["head"]
    assert said["workspaces"]["w"][0] > 1
    heads.write_text(lines[0].replace(said["workspaces"]["w"][1], "0" * 64) + "\n")
    answer = cli("evidence", "verify", str(path), "--heads", str(heads))
    assert (answer.code, "its head is not that of the workspaces" in answer.out) == (10, True)
    heads.write_text("\n")
    assert cli("evidence", "verify", str(path), "--heads", str(heads)).code == 8


def test_another_chain_than_the_published_one_is_found(cli: Cli, world: Registry, engine: Engine) -> None:
    assert cli("evidence", "head", "--publish").code == 0
    line = json.loads((cli.folder / "heads.jsonl").read_text())
    with engine.begin() as connection:
        connection.execute(text("UPDATE ledger_link SET at = at - interval '1 day' WHERE seq = 2"))
    answer = cli("evidence", "verify")
    assert (answer.code, "link 2 says something else" in answer.out) == (10, True)
    with engine.begin() as connection:
        connection.execute(text("UPDATE ledger_link SET at = at + interval '1 day' WHERE seq = 2"))
    assert cli("evidence", "verify").code == 0
    seq = line["workspaces"]["w"][0]
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM ledger_link WHERE seq = :seq"), {"seq": seq})
    answer = cli("evidence", "verify")
    assert answer.code == 10
    assert f"link {seq} was published as a head, and is gone" in answer.out


def test_a_redacted_value_is_in_no_bundle_and_the_bundle_is_sound(cli: Cli, world: Registry, engine: Engine) -> None:
    world.runs["run0"]["tags"]["author"] = "Maria Mustermann"
    look(engine, world)
    before = made(cli, name="before.zip")
    with zipfile.ZipFile(before) as bundle:
        held = [name for name in bundle.namelist() if b"Maria Mustermann" in bundle.read(name)]
    assert {"documents/000005.json", "changes.jsonl", "index.html"} <= set(held)
    sought = Sought("Maria Mustermann", Redactor(KEY).fingerprint("Maria Mustermann"), Redactor(KEY).remembered)
    with engine.connect() as connection:
        words = redactions.survey(connection, sought).words
    redactions.redact(engine, sought, Redactor(KEY).remembered, words.values(), actor="me", reason="asked to")
    path = made(cli)
    with zipfile.ZipFile(path) as bundle:
        assert not [name for name in bundle.namelist() if b"Mustermann" in bundle.read(name)]
    assert wrong(check(path)) == ""
    assert wrong(check(before)) == ""
    # Neither the salt of the state as it was, nor one of its proofs, is in the new bundle.
    salts = [{one["salt"] for one in read(where, "chain/states.jsonl")} for where in (before, path)]
    assert len(salts[0] & salts[1]) == len(salts[0]) - 1


def test_what_is_older_than_the_chain_is_told_and_not_vouched_for(cli: Cli, world: Registry, engine: Engine) -> None:
    with engine.begin() as connection:  # as the migration finds an older database
        connection.execute(text("DELETE FROM ledger_link"))
        connection.execute(text("UPDATE scan SET chained = 2"))
    path = made(cli, code=3)
    assert "has no chain" in _page(path)
    world.runs["run0"]["params"]["lr"] = "0.3"
    look(engine, world)
    path = made(cli, code=3)
    assert "older than the chain" in _page(path)
    done = check(path)
    assert (wrong(done), done.before > 4) == ("", True)
    assert cli("evidence", "verify", str(path)).code == 3
    assert cli("evidence", "verify").code == 3


def _page(path: Path) -> str:
    with zipfile.ZipFile(path) as bundle:
        return bundle.read("index.html").decode()


class _Seen(HTMLParser):
    """What a browser would run or fetch, and whether every element is closed."""

    VOID = frozenset({"meta", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_runs_nothing_fetches_nothing_and_shows_odd_names_as_text(cli: Cli, world: Registry) -> None:
    page = _page(made(cli))
    seen = _Seen()
    seen.feed(page)
    assert seen.open == []
    assert seen.tags <= {
        "html", "head", "meta", "title", "style", "body", "header", "main", "div", "p", "h1", "h2", "h3", "dl", "dt",
        "dd", "code", "span", "strong", "section", "article", "pre", "table", "thead", "tbody", "tr", "th", "td",
        "time", "br", "small", "del", "ins", "details", "summary", "em", "ol", "ul", "li",
    }  # fmt: skip
    assert seen.attributes <= {"lang", "charset", "http-equiv", "content", "name", "class", "datetime"}
    style = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert len(style) == 1
    assert "url(" not in style[0]
    assert "@import" not in style[0]
    said = "".join(seen.text)
    assert "<script>alert(1)</script>" in said
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "\0" not in page
    assert "default-src 'none'" in page
    for words in ("run-edited-after-finish", "model version", "tester", "Head", "0.2", "purged", "lr"):
        assert words.lower() in said.lower(), words


def test_an_asset_of_another_kind_has_its_evidence_too(cli: Cli, world: Registry) -> None:
    for kind, key in ((Kind.MODEL_VERSION, "m/1"), (Kind.EXPERIMENT, "1"), (Kind.REGISTERED_MODEL, "m")):
        path = made(cli, str(kind), key)
        assert wrong(check(path)) == "", kind
        assert check(path).members > 3
