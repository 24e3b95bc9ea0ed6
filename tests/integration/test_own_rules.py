"""Rules of operators: read from a folder, refused with one clear error each, asked of the public views and no more."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from stocktake.core.rules import StateRule
from stocktake.ruling import Ruling, examine, load
from stocktake.settings import Settings, WorkspaceSettings
from stocktake.settings.own_rules import Own, Problem
from stocktake.store import rule_check
from tests.integration.registry import Registry, found, look, stands
from tests.integration.test_cli import Cli, configured

HEAD = """/*
severity: warning
kinds: [registered_model]
title: A model without an owner
why: Nobody can be asked.
fix: Name somebody.
*/
"""
SELECT = """SELECT workspace, 'registered_model' AS kind, key,
    jsonb_build_object('seen', first_seen) AS evidence
FROM registered_model
WHERE owner IS NULL AND first_seen < :now;
"""
PYTHON = """
from stocktake.core.assets import ChangeType, Kind
from stocktake.core.rules import ChangeRule, Severity, Verdict, Words, facts

def check(change, held):
    return Verdict(holds=True, evidence=facts(change))

words = dict.fromkeys(("title", "why", "cli", "rest", "portal", "fix", "rollback", "signal"), "words")
RULE = ChangeRule(id="any-edit", severity=Severity.INFO, kinds=(Kind.RUN,), types=(ChangeType.UPDATED,), check=check,
                  words=Words(**words))
"""

Write = Callable[[str, str], Path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "rules"
    made.mkdir()
    return made


@pytest.fixture
def write(folder: Path) -> Write:
    def write(name: str, words: str) -> Path:
        (folder / name).write_text(words)
        return folder / name

    return write


@pytest.fixture
def cli(tmp_path: Path, database_url: str, folder: Path) -> Cli:
    return configured(tmp_path, f'database: "{database_url}"\nrules: {{folder: "{folder}", timeout: 1s}}\n')


@pytest.fixture
def world() -> Registry:
    made = Registry()
    made.add_run("run0")
    made.registered = {"m": {"name": "m", "aliases": {}}, "n": {"name": "n", "aliases": {}, "owner": "ada"}}
    return made


def test_a_rule_of_ones_own_is_listed_shown_checked_tested_and_judged(
    cli: Cli, engine: Engine, world: Registry, write: Write, folder: Path
) -> None:
    file = write("nobodys-model.sql", HEAD + SELECT)
    write("any_edit.py", PYTHON)
    (listed,) = [one for one in cli("rules", "list", "-o", "json").json() if one["id"] == "nobodys-model"]
    assert (listed["severity"], listed["origin"], listed["runbook"]) == ("warning", str(file), None)
    assert "A model without an owner" in cli("rules", "show", "nobodys-model").out
    assert cli("rules", "check").code == 0
    assert [one["ok"] for one in cli("rules", "check", str(file), str(folder), "-o", "json").json()] == [True] * 3
    look(engine, world, rules=())
    answer = cli("rules", "test", "nobodys-model", "-o", "json")
    assert (answer.code, [(one["key"], one["state"]) for one in answer.json()]) == (0, [("m", "would open")])
    settings = Settings.model_validate({"rules": {"folder": str(folder)}})
    judged_by, news = Ruling(settings=settings, engine=engine).of(WorkspaceSettings.model_validate(PLACE))
    assert news == []
    look(engine, world, judged_by=judged_by)
    world.runs["run0"]["params"]["lr"] = "1"
    look(engine, world, judged_by=judged_by)
    assert (stands(engine, "nobodys-model"), stands(engine, "any-edit")) == ({"m": "open"}, {"run0": "open"})
    assert "A model without an owner" in cli("finding", "list").out
    world.registered["m"]["owner"] = "ada"
    assert [one["state"] for one in cli("rules", "test", str(file), "-o", "json").json()] == ["open"]
    look(engine, world, rules=())
    assert cli("rules", "test", "any-edit").code == 8


PLACE = {"name": "w", "mlflow": {"uri": "http://127.0.0.1:1"}}


def checked(engine: Engine, file: Path) -> Own | Problem:
    def both(rule: StateRule) -> rule_check.Flaw | None:
        settings = Settings.model_validate({"rules": {"timeout": "1s"}})
        return rule_check.flaw(engine, rule) or rule_check.trial(engine, rule, settings.rules.timeout)

    return examine(file, both)


@pytest.mark.parametrize(
    ("words", "line", "what"),
    [
        ("SELECT 1", 1, "has no header"),
        (HEAD, None, "has no statement behind its header"),
        (HEAD.replace("severity: warning", "severity: bad") + SELECT, 2, "it is one of info, warning, critical"),
        (HEAD.replace("[registered_model]", "[model]") + SELECT, 3, "'model', which is no kind"),
        (HEAD.replace("kinds: [registered_model]", "opens_after: 2") + SELECT, 1, "`kinds` is missing"),
        (HEAD.replace("fix:", "fixx:") + SELECT, 6, "`fixx` is no key of a rule"),
        (HEAD.replace("why: Nobody can be asked.\n", "") + SELECT, 1, "`why` is missing"),
        (HEAD.replace("Nobody can be asked.", "'") + SELECT, 7, "not valid YAML"),
        (HEAD.replace("title: A", "opens_after: 0\ntitle: A") + SELECT, 4, "whole number from 1 to 100"),
        (HEAD.replace("title: A", "id: another-one\ntitle: A") + SELECT, 4, "let them be the same"),
        (HEAD.replace("title: A", "why: x\ntitle: A") + SELECT, 6, "given twice"),
        (HEAD + SELECT.replace("WHERE", "WHRE"), 11, 'syntax error at or near "owner"'),
        (HEAD + SELECT.replace("owner", "ownr"), 11, 'column "ownr" does not exist'),
        (HEAD + SELECT.replace("registered_model\nW", "nothing\nW"), 10, 'relation "nothing" does not exist'),
        (HEAD + SELECT.replace("IS NULL", "IN (SELECT key FROM public.asset)"), 11, "reads public.asset"),
        (HEAD + SELECT.replace("IS NULL", "IN (SELECT usename::text FROM pg_user)"), 11, "reads pg_catalog.pg_user"),
        (HEAD + SELECT.replace(":now", "now()"), 11, "write :now"),
        (HEAD + SELECT.replace(":now", "current_timestamp"), 11, "write :now"),
        (HEAD + SELECT.replace("first_seen < :now", "age(first_seen) > '1 day'"), 11, "write age(:now, ...)"),
        (HEAD + SELECT.replace(":now", "pg_postmaster_start_time()"), 11, "functions that only compute"),
        (HEAD + SELECT.replace("owner", "pg_read_file('/etc/passwd')"), 11, "calls pg_read_file()"),
        (HEAD + SELECT.replace("owner", "query_to_xml('select 1', true, true, '')::text"), 11, "calls query_to_xml()"),
        (HEAD + SELECT.replace("owner", "set_config('a.b', 'c', false)"), 11, "calls set_config()"),
        (HEAD + SELECT.replace("owner", "(nextval('public.finding_finding_id_seq')::text)"), 11, "calls nextval()"),
        (HEAD + SELECT.replace("AS kind", "AS sort"), None, "yields no column `kind`"),
        (HEAD + SELECT.replace("jsonb_build", "json_build"), None, "yields `evidence` as json: it must be jsonb"),
        (HEAD + SELECT.replace(" key,", " key, owner,"), None, "yields `owner` besides"),
        (HEAD + SELECT.replace("'registered_model'", "'run'"), None, "yields the kind 'run', which `kinds` does not"),
        (HEAD + SELECT.replace(" key,", " NULL::text AS key,"), None, "without a key"),
        (HEAD + SELECT.replace("owner IS NULL", "1 / (length(key) - 1) = 0"), None, "division by zero"),
        (
            HEAD + SELECT.replace("owner IS NULL", "(SELECT count(*) FROM generate_series(1, 100000000000)) > 0"),
            None,
            "takes longer than it may",
        ),
        (HEAD + SELECT + "DROP TABLE finding", None, "cannot insert multiple commands"),
        (HEAD + "DELETE FROM public.finding", 8, 'syntax error at or near "DELETE"'),
        (HEAD + "WITH x AS (DELETE FROM public.finding RETURNING 1) " + SELECT, None, "data-modifying"),
        (HEAD + "SELECT 1) AS y; DROP TABLE finding; --", 8, "syntax error"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line_and_what_to_do(
    engine: Engine, world: Registry, write: Write, words: str, line: int | None, what: str
) -> None:
    look(engine, world, rules=())
    one = checked(engine, write("own-rule.sql", words))
    assert isinstance(one, Problem), one
    assert what in one.what
    assert (one.rule, one.line) == ("own-rule", line), one
    assert str(one).startswith(str(one.file))


@pytest.mark.parametrize(
    ("name", "words", "what"),
    [
        ("Own Rule.sql", HEAD + SELECT, "makes no id"),
        ("own.sql", HEAD + SELECT, "makes no id"),
        ("own-rule.py", "def", "line 1: is not valid Python"),
        ("own-rule.py", "\n1 / 0", "line 2: fails when it is loaded: ZeroDivisionError"),
        ("own-rule.py", "import nothing_there", "line 1: fails when it is loaded: ModuleNotFoundError"),
        ("own-rule.py", "RULE = 1", "defines no RULE"),
        ("own-rule.py", PYTHON, "the id of its RULE is 'any-edit'"),
        ("any-edit.py", PYTHON.replace('"words")', '"")'), "its words say nothing under `title`"),
    ],
)
def test_a_file_that_makes_no_rule_is_refused(write: Write, name: str, words: str, what: str) -> None:
    one = examine(write(name, words))
    assert isinstance(one, Problem)
    assert what in str(one)


def test_a_file_that_is_no_text_or_cannot_be_read_is_refused(folder: Path) -> None:
    (folder / "own-rule.sql").write_bytes(b"/* \xff */")
    (folder / "other-rule.sql").mkdir()
    assert [str(one).partition(": ")[2] for one in (examine(path) for path in sorted(folder.iterdir()))] == [
        "cannot be read (Is a directory). Check its permissions.",
        "is not text in UTF-8. Save it as UTF-8.",
    ]


def test_one_wrong_file_keeps_no_other_from_being_asked_and_its_findings_stay(
    cli: Cli, engine: Engine, world: Registry, write: Write, folder: Path
) -> None:
    write("nobodys-model.sql", HEAD + SELECT)
    write("other-rule.sql", HEAD + SELECT)
    settings = Settings.model_validate({"rules": {"folder": str(folder)}})
    ruling, place = Ruling(settings=settings, engine=engine), WorkspaceSettings.model_validate(PLACE)
    look(engine, world, judged_by=ruling.of(place)[0])
    write("other-rule.sql", HEAD + SELECT.replace("owner", "ownr"))
    world.registered["k"] = {"name": "k", "aliases": {}}
    judged_by, news = ruling.of(place)
    (told,) = news
    assert told.startswith(f'{folder}/other-rule.sql, line 11: column "ownr" does not exist')
    look(engine, world, judged_by=judged_by)
    assert (stands(engine, "nobodys-model"), stands(engine, "other-rule")) == (
        {"m": "open", "k": "open"},
        {"m": "open"},
    )
    assert ruling.of(place)[1] == []  # told once
    answer = cli("finding", "list")
    assert answer.code == 3
    assert "w: other-rule could not be asked since" in answer.err
    assert 'column "ownr" does not exist' in answer.err
    assert "other-rule could not be asked" in cli("status").out
    assert "FAILS in w: " in cli("rules", "list").out
    (failing,) = [one["failing"] for one in cli("rules", "list", "-o", "json").json() if one["id"] == "other-rule"]
    assert [one["workspace"] for one in failing] == ["w"]
    doctor = [one["message"] for one in cli("doctor", "-o", "json").json() if one["check"] == "rules"]
    assert any("other-rule fails: " in one for one in doctor)
    check = cli("rules", "check")
    assert (check.code, check.out.count("is right")) == (4, 1)
    assert f'{folder}/other-rule.sql, line 11: column "ownr" does not exist' in check.out
    assert cli("rules", "test", "other-rule").code == 4
    (folder / "other-rule.sql").unlink()
    look(engine, world, judged_by=ruling.of(place)[0])
    assert stands(engine, "other-rule") == {"m": "resolved"}
    folder.rename(folder.with_name("away"))
    judged_by, (told,) = ruling.of(place)
    assert "cannot be looked into (No such file or directory)" in told
    look(engine, world, judged_by=judged_by)
    assert stands(engine, "nobodys-model") == {"m": "open", "k": "open"}
    assert cli("rules", "list").code == 3
    assert cli("config", "check").code == 2
    assert cli("rules", "check").code == 7
    assert cli("finding", "list", "--rule", "other-rule", "--state", "resolved", "-o", "tsv").out.count("\n") == 2
    assert cli("finding", "list", "--rule", "no-rule-at-all").code == 7


def test_an_id_that_is_taken_is_refused_and_the_other_stays(write: Write, folder: Path) -> None:
    write("missing-owner.sql", HEAD + SELECT)
    write("own-rule.sql", HEAD + SELECT)
    write("own_rule.sql", HEAD + SELECT)
    loaded = load(Settings.model_validate({"rules": {"folder": str(folder)}}))
    assert [one.what.partition("(")[0] for one in loaded.problems] == [
        "there is a rule missing-owner already ",
        "there is a rule own-rule already ",
    ]
    assert loaded.broken == {}


def test_what_is_switched_on_and_off_and_how_severe_it_is(engine: Engine, tmp_path: Path) -> None:
    def on(rules: dict[str, Any], place: dict[str, Any]) -> dict[str, str]:
        settings = Settings.model_validate({"rules": rules})
        named = WorkspaceSettings.model_validate({"name": "w", "mlflow": place})
        judged_by, _ = Ruling(settings=settings, engine=engine).of(named)
        return {rule.id: str(rule.severity) for rule in judged_by.rules}

    server, local, file = {"uri": "http://x"}, {"folder": str(tmp_path)}, {"database": "sqlite:////x.db"}
    assert "missing-owner" in on({}, server)
    assert "missing-owner" not in on({}, local)
    assert "missing-owner" not in on({}, file)
    assert "stale-running" in on({}, local)
    assert "missing-owner" in on({"profile": "team"}, local)
    assert "missing-owner" not in on({"profile": "personal"}, server)
    assert "missing-owner" in on({"profile": "personal", "enable": ["missing-owner"]}, server)
    assert "missing-owner" in on({"enable": ["hygiene"]}, local)
    assert "stale-running" not in on({"disable": ["hygiene"]}, server)
    assert "stale-running" in on({"disable": ["hygiene"], "enable": ["stale-running"]}, server)
    assert "run-deleted" not in on({"disable": ["run-deleted"]}, server)
    assert on({"severity": {"run-deleted": "critical"}}, server)["run-deleted"] == "critical"


@pytest.mark.parametrize(
    ("rules", "what"),
    [
        (
            "{disable: [missing-owners]}",
            "rules.disable: there is no rule 'missing-owners'. Did you mean missing-owner?",
        ),
        ("{severity: {hygiene: info}}", "rules.severity: there is no rule 'hygiene'."),
        ("{enable: [hygiene], disable: [hygiene]}", "both under `enable` and `disable`"),
        ("{timeout: 2h}", "is longer than 30m"),
    ],
)
def test_a_configuration_that_names_no_rule_is_refused(tmp_path: Path, rules: str, what: str) -> None:
    cli = configured(tmp_path, f"database: postgresql://nobody@127.0.0.1:1/none\nrules: {rules}\n")
    answer = cli("config", "check")
    assert (answer.code, answer.out) == (2, "")
    assert what in answer.err


def test_the_examples_of_the_page_are_right(engine: Engine, world: Registry, write: Write) -> None:
    look(engine, world, rules=())
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "own-rules.md").read_text()
    (statement,) = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    for file in (write("wide-learning-rate.sql", statement), write("owner_taken_away.py", code)):
        assert isinstance(one := checked(engine, file), Own), one


def test_the_rules_that_are_shipped_read_the_public_views_alone_and_never_the_clock(
    engine: Engine, world: Registry
) -> None:
    look(engine, world)
    settings = Settings()
    for rule in load(settings).rules:
        if isinstance(rule, StateRule):
            assert rule_check.flaw(engine, rule) is None, rule.id
            assert rule_check.trial(engine, rule, settings.rules.timeout) is None, rule.id
    with engine.connect() as connection:  # nothing is left of the looking
        assert connection.execute(text("SELECT count(*) FROM pg_class WHERE relname = 'asked_rule'")).scalar() == 0
    assert found(engine, "nonsense") == []
