"""The configuration: what is read, what is refused and in which words, and that its reference page is true."""

from __future__ import annotations

import base64
import json
import re
import stat
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stocktake.core.errors import ConfigError
from stocktake.making import address, make_source, source_name
from stocktake.settings import MlflowSettings, Settings, check, installation_key, json_schema, load_settings, markdown
from stocktake.settings.reference import undocumented
from stocktake.settings.timing import Cron, format_duration, parse_duration, parse_timing, period
from stocktake.sources.mlflow_rest import MlflowRest

ROOT = Path(__file__).parents[2]
Load = Callable[..., Settings]

FIRST = """\
database: embedded            # or postgresql://user@host/db; passwords come from the environment, or Entra
workspaces:
  - name: research
    mlflow: {uri: "http://127.0.0.1:5000"}
  - name: archive
    mlflow: {database: "sqlite:////data/mlflow.db"}
"""
HEAD = "workspaces:\n  - name: a\n    mlflow: {uri: 'http://h:5000'}\n"


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def act(text: str, **environ: str) -> Settings:
        file = tmp_path / "stocktake.yaml"
        file.write_text(text, "utf-8")
        return load_settings(file, environ)

    return act


def refusal(load: Load, text: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(text, **environ)
    return str(caught.value)


def server(settings: Settings, number: int = 0) -> MlflowSettings:
    """The MLflow server that a workspace watches."""
    found = settings.workspaces[number].mlflow
    assert found is not None
    return found


def test_the_first_example_is_read_and_everything_else_has_a_default(load: Load, tmp_path: Path) -> None:
    settings = load(FIRST, STOCKTAKE_DATA_DIR=str(tmp_path / "d"))
    assert [one.name for one in settings.workspaces] == ["research", "archive"]
    assert settings.schedule.hot == timedelta(minutes=10)
    assert settings.schedule.sweep == timedelta(days=1)
    assert settings.data_dir == tmp_path / "d"
    assert settings.file == tmp_path / "stocktake.yaml"
    assert [problem.path for problem in check(settings, {})] == ["workspaces[1].mlflow.database"]  # not on this machine


def test_an_empty_file_and_no_file_are_the_defaults(load: Load, tmp_path: Path) -> None:
    for settings in (load(""), load("# nothing\n"), load_settings(None, {})):
        assert settings.model_dump() == Settings().model_dump()


def test_the_file_may_be_named_by_the_environment(load: Load, tmp_path: Path) -> None:
    load(FIRST)
    assert len(load_settings(None, {"STOCKTAKE_CONFIG": str(tmp_path / "stocktake.yaml")}).workspaces) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("workspces: []", "workspces (line 1) is not a known key. Did you mean `workspaces`?"),
        (HEAD + "log: {levle: INFO}", "log.levle (line 4) is not a known key. Did you mean `level`?"),
        (HEAD + "colour: red", "colour (line 4) is not a known key. Known: `database`"),
        ("workspaces:\n- name: a\n  mlflow:\n    uri: ftp://x", "workspaces[0].mlflow.uri (line 4) must begin with"),
        ("workspaces:\n- name: a\n  mlflow: {}", "workspaces[0].mlflow (line 3) needs exactly one of `uri`"),
        ("workspaces:\n- mlflow: {uri: 'http://x'}", "workspaces[0].name (line 2) is missing. Add it."),
        ("workspaces:\n- name: A_b\n  mlflow: {uri: 'http://x'}", "workspaces[0].name (line 2) must be small letters"),
        ("workspaces:\n- name: 12\n  mlflow: {uri: 'http://x'}", "name (line 2) must be text. Put it in quotes."),
        (HEAD + HEAD.partition("\n")[2], "workspaces (line 1) has the name 'a' twice."),
        ("workspaces: research", "workspaces (line 1) must be a list."),
        ("schedule: 10m", "schedule (line 1) must be a map of keys."),
        ("schedule: {hot: 10}", "schedule.hot (line 1) is a duration without a unit. Write for example 90s, 10m"),
        ("schedule: {hot: 10 min}", "schedule.hot (line 1) is not a duration."),
        ("schedule: {hot: 0m}", "must be longer than nothing"),
        ("schedule: {sweep: '61 * * * *'}", "schedule.sweep (line 1) is not a cron expression"),
        ("schedule: {sweep: '0 3 * *'}", "is a cron expression of 4 fields"),
        ("schedule: {sweep: '0 3 1 * 1'}", "names both a day of the month and a weekday"),
        ("schedule: {sweep: '0 3 31 2 *'}", "never comes true"),
        ("schedule: {splay: 3}", "schedule.splay (line 1) must be less than or equal to 0.5."),
        ("database: mysql://x/y", "database (line 1) must begin with postgresql://"),
        ("web: {port: 99999}", "web.port (line 1) must be less than or equal to 65535."),
        ("web: {port: many}", "web.port (line 1) must be a valid integer"),
        ("log: {level: loud}", "log.level (line 1) must be one of 'DEBUG', 'INFO', 'WARNING' or 'ERROR'."),
        ("redaction: {keys: ['(']}", "redaction.keys[0] (line 1) is not a regular expression"),
        ("redaction: {values: ['x*']}", "redaction.values[0] (line 1) matches the empty text"),
        ("a: 1\na: 2", "a (line 1) is given twice (again in line 2)"),
        ("a:\n\t- b", "line 2, column 1: is not valid YAML: found character '\\t'"),
        ("a: [1", "line 1"),
        ("- a", "must be a map of keys"),
        ("workspaces:\n- name: a\n  mlflow: {uri: 'http://x', auth: basic}", "needs `username`"),
        ("workspaces:\n- name: a\n  mlflow: {uri: 'http://x', username: u}", "needs `password_env`"),
        ("workspaces:\n- name: a\n  mlflow: {uri: 'http://x', auth: none, token_env: T}", "does not use"),
        ("workspaces:\n- name: a\n  mlflow: {uri: 'http://x', token_env: ey-J.x}", "must be the name of an env"),
        ("workspaces:\n- name: a\n  mlflow: {database: 'sqlite:x.db'}", "needs three slashes"),
        ("workspaces:\n- name: a\n  mlflow: {database: 'mysql://h/x'}", "not read directly"),
        ("workspaces:\n- name: a\n  mlflow: {uri: 'http://h:port'}", "is not an address"),
        ("telemetry: {interval: 1s}", "telemetry.interval (line 1) is shorter than 10s"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_file_place_and_way_out(load: Load, text: str, words: str) -> None:
    told = refusal(load, text)
    assert "stocktake.yaml" in told
    assert words in told
    assert "?." not in told


def test_all_mistakes_are_told_at_once(load: Load) -> None:
    told = refusal(load, "log: {level: loud}\nweb: {port: -1}\nschedule: {hot: 10}\n")
    assert "3 problems" in told
    assert [line.split()[1] for line in told.splitlines()[1:]] == ["schedule.hot", "web.port", "log.level"]


@pytest.mark.parametrize(
    "text",
    [
        "database: postgresql://u:{}@h/db",
        "database: postgresql://h/db?password={}",
        HEAD.replace("{", "{{").replace("}", "}}").replace("http://h:5000", "https://u:{}@h"),
        "workspaces:\n- name: a\n  mlflow: {{uri: 'http://x', password: {}}}",
        "workspaces:\n- name: a\n  mlflow: {{uri: 'http://x', token: {}}}",
        "workspaces:\n- name: a\n  mlflow: {{database: 'postgresql://u:{}@h/x'}}",
        "telemetry: {{azure_monitor: {{connection_string: {}}}}}",
        "api_key: {}",
        "colour: {{db-password: {}}}",
    ],
)
def test_a_secret_in_the_file_is_refused_and_not_repeated(load: Load, text: str) -> None:
    told = refusal(load, text.format("hunter" + "22"))
    assert "hunter" not in told
    assert "environment variable" in told


def test_a_wrong_value_is_not_repeated_either(load: Load) -> None:
    assert "hunter22" not in refusal(load, "log: {level: hunter22}\nweb: {port: hunter22}\nschedule: {hot: hunter22}\n")


def test_a_file_that_is_not_there_or_not_text(load: Load, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such file\. Check --config or STOCKTAKE_CONFIG"):
        load_settings(tmp_path / "none.yaml", {})
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not text in UTF-8"):
        load_settings(tmp_path / "x.yaml", {})
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(tmp_path, {})


def test_yaml_that_grows_or_refers_to_itself_is_refused(load: Load) -> None:
    assert "YAML" in refusal(load, "a: &a [*a]")
    assert "YAML" in refusal(load, "!!python/object/apply:os.system ['true']")


def test_a_workspace_takes_what_its_schedule_leaves_out_from_the_common_one(load: Load) -> None:
    settings = load("schedule: {hot: 5m, sweep: 12h, splay: 0}\n" + HEAD + "    schedule: {hot: 1m}\n")
    schedule = settings.workspaces[0].schedule
    assert schedule is not None
    assert (schedule.hot, schedule.sweep, schedule.splay) == (timedelta(minutes=1), timedelta(hours=12), 0)


def test_how_to_sign_in_is_inferred(load: Load) -> None:
    base = "workspaces:\n- name: a\n  mlflow: {uri: 'https://x', %s}"
    assert server(load(base % "username: ann, password_env: P")).auth == "basic"
    assert server(load(base % "token_env: T")).auth == "bearer"
    assert server(load(base % "auth: azure")).auth == "azure"
    assert server(load(base % "timeout: 5s")).auth == "none"


def test_one_mlflow_workspace_of_a_database_can_be_named(load: Load) -> None:
    mlflow = "{database: 'postgresql://h/x', workspace: team-a, password_env: SECRET}"
    settings = load(f"workspaces:\n- name: a\n  mlflow: {mlflow}\n")
    assert server(settings).workspace == "team-a"
    assert address(settings.workspaces[0]) == "postgresql://h/x#team-a"
    assert source_name(settings.workspaces[0]) == "mlflow_database"
    assert [problem.path for problem in check(settings, {})] == ["workspaces[0].mlflow.password_env"]
    assert check(settings, {"SECRET": "x"}) == []


def test_a_database_on_a_host_without_a_password_is_odd(load: Load) -> None:
    settings = load("workspaces:\n- name: a\n  mlflow: {database: 'postgresql://ann@h/x'}\n")
    (problem,) = check(settings, {"PGPASSWORD": "of our own database"})
    assert (problem.path, problem.fatal) == ("workspaces[0].mlflow.database", False)
    assert check(settings, {"PGPASSFILE": "/a/file"}) == []


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_the_database_is_spoken_to_with_psycopg(load: Load, scheme: str) -> None:
    settings = load(f"database: {scheme}://ann@db.example.org:5433/stock?sslmode=require")
    assert settings.database_url({}) == "postgresql+psycopg://ann@db.example.org:5433/stock?sslmode=require"


class TestTrackingUri:
    """Without a file, MLflow's own variables name the one server to watch."""

    def test_one_workspace_named_after_the_host(self) -> None:
        environ = {"MLFLOW_TRACKING_URI": "https://Ml.Example.org:8443/", "MLFLOW_TRACKING_TOKEN": "x"}
        settings = load_settings(None, environ)
        (workspace,) = settings.workspaces
        assert (workspace.name, server(settings).uri) == ("ml-example-org-8443", "https://Ml.Example.org:8443")
        assert (server(settings).auth, server(settings).token_env) == ("bearer", "MLFLOW_TRACKING_TOKEN")

    def test_a_user_and_password_win_over_a_token_as_in_mlflow(self) -> None:
        environ = {
            "MLFLOW_TRACKING_URI": "http://h", "MLFLOW_TRACKING_TOKEN": "x", "MLFLOW_TRACKING_USERNAME": "ann",
            "MLFLOW_TRACKING_PASSWORD": "y", "MLFLOW_TRACKING_INSECURE_TLS": "true",
            "MLFLOW_TRACKING_SERVER_CERT_PATH": "/ca.pem", "MLFLOW_WORKSPACE": "team",
        }  # fmt: skip
        mlflow = server(load_settings(None, environ))
        assert (mlflow.auth, mlflow.username, mlflow.password_env) == ("basic", "ann", "MLFLOW_TRACKING_PASSWORD")
        assert (mlflow.insecure_tls, mlflow.ca_file, mlflow.workspace) == (True, Path("/ca.pem"), "team")

    def test_they_are_never_used_for_the_workspaces_of_a_file(self, load: Load) -> None:
        environ = {"MLFLOW_TRACKING_URI": "http://other", "MLFLOW_TRACKING_TOKEN": "x", "MLFLOW_TRACKING_USERNAME": "a"}
        settings = load(HEAD, **environ)
        assert [one.mlflow.uri for one in settings.workspaces if one.mlflow] == ["http://h:5000"]
        assert server(settings).auth == "none"

    def test_a_database(self) -> None:
        mlflow = server(load_settings(None, {"MLFLOW_TRACKING_URI": "sqlite:////x/mlflow.db"}))
        assert (mlflow.database, mlflow.workspace) == ("sqlite:////x/mlflow.db", None)
        inside = {"MLFLOW_TRACKING_URI": "sqlite:////x/mlflow.db", "MLFLOW_WORKSPACE": "team-a"}
        assert server(load_settings(None, inside)).workspace == "team-a"

    @pytest.mark.parametrize(
        ("uri", "folder"),
        [
            ("mlruns", Path.cwd() / "mlruns"),
            ("./mlruns", Path.cwd() / "mlruns"),
            ("/data/churn 2/mlruns", Path("/data/churn 2/mlruns")),
            ("file:///data/churn%202/mlruns", Path("/data/churn 2/mlruns")),
        ],
    )
    def test_a_folder_is_named_after_the_one_it_lies_in(self, uri: str, folder: Path) -> None:
        settings = load_settings(None, {"MLFLOW_TRACKING_URI": uri})
        (workspace,) = settings.workspaces
        assert server(settings).folder == folder
        if folder.is_relative_to("/data"):
            assert workspace.name == "churn-2"

    @pytest.mark.parametrize(
        "uri", ["databricks", "databricks-uc", "uc", "s3://b/mlruns", "https://u:hunter22@h", "http://"]
    )
    def test_what_cannot_be_watched_is_refused(self, uri: str) -> None:
        with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI") as caught:
            load_settings(None, {"MLFLOW_TRACKING_URI": uri})
        assert "hunter22" not in str(caught.value)


def problems(settings: Settings, **environ: str) -> dict[str, bool]:
    return {one.path: one.fatal for one in check(settings, environ)}


def test_check_finds_what_only_this_machine_can_tell(load: Load) -> None:
    settings = load(
        "database: postgresql://ann@db/x\nretention: {history: 1d}\n"
        "telemetry: {otlp: {endpoint: 'http://c:4318', headers_env: H}, azure_monitor: {}}\n"
        "workspaces:\n- name: a\n  mlflow: {uri: 'http://x', token_env: T, ca_file: /none.pem}\n"
        "- name: b\n  mlflow: {uri: 'http://x', insecure_tls: true}\n  schedule: {hot: 2d}\n"
    )
    assert problems(settings) == {
        "database": False, "retention.history": True, "workspaces[0].mlflow.token_env": True,
        "workspaces[0].mlflow.ca_file": True, "workspaces[0].mlflow.uri": False,
        "workspaces[1].mlflow.insecure_tls": False, "workspaces[1].schedule.sweep": False,
        "workspaces[1].mlflow": False,
        "telemetry.otlp.headers_env": True, "telemetry.azure_monitor.connection_string_env": True,
    }  # fmt: skip
    fine = problems(settings, T="x", H="a=b", APPLICATIONINSIGHTS_CONNECTION_STRING="x", PGPASSWORD="x")
    assert [path for path, fatal in fine.items() if fatal] == ["retention.history", "workspaces[0].mlflow.ca_file"]


SIGNED_IN = (
    "workspaces:\n- {name: a, mlflow: {uri: 'http://127.0.0.1', token_env: T}}\n"
    "- {name: b, mlflow: {uri: 'http://127.0.0.1/b', username: ann, password_env: P}}\n"
)


def headers(settings: Settings, name: str, environ: dict[str, str]) -> dict[str, str]:
    """What the client of a workspace signs its requests with."""
    one = next(each for each in settings.workspaces if each.name == name)
    with closing(make_source(one, settings, environ, lambda: datetime.now(UTC))) as source:
        assert isinstance(source, MlflowRest)
        return source._http._authorization()


@pytest.mark.parametrize("around", ["{}\n", "{}\r\n", " {}\t"])
def test_what_surrounds_a_mounted_secret_is_no_part_of_it(load: Load, around: str) -> None:
    settings, environ = load(SIGNED_IN), {"T": around.format("abc.def"), "P": around.format("hunter22 ü")}
    assert headers(settings, "a", environ) == {"authorization": "Bearer abc.def"}
    pair = base64.b64encode("ann:hunter22 ü".encode()).decode()
    assert headers(settings, "b", environ) == {"authorization": f"Basic {pair}"}
    assert check(settings, environ) == []


@pytest.mark.parametrize(
    ("name", "variable", "value"),
    [
        ("a", "T", "hunter22é"), ("a", "T", "hunter22\nmore"), ("a", "T", "hunter22 more"), ("a", "T", " \n"),
        ("a", "T", "hunter22\udce9"), ("b", "P", "hunter22\nmore"), ("b", "P", "hunter22\udce9"),
    ],
)  # fmt: skip
def test_a_secret_that_cannot_be_sent_is_refused_by_its_variable_and_not_repeated(
    load: Load, name: str, variable: str, value: str
) -> None:
    settings, environ = load(SIGNED_IN), {"T": "x", "P": "x"} | {variable: value}
    with pytest.raises(ConfigError, match=rf"{name!r} names the environment variable {variable}, which") as caught:
        headers(settings, name, environ)
    (problem,) = check(settings, environ)
    assert (problem.workspace, problem.fatal, f"variable {variable}, which" in problem.what) == (name, True, True)
    assert "hunter22" not in f"{caught.value} {problem}"


def test_a_user_name_that_cannot_be_sent_is_refused(load: Load) -> None:
    words = SIGNED_IN.replace("ann", '"an:n"')
    assert "workspace 'b': workspaces[1].mlflow.username" in refusal(load, words)


def test_a_problem_names_its_workspace(load: Load) -> None:
    found = [str(one) for one in check(load(SIGNED_IN), {"P": "x"})]
    assert found[0].startswith("workspace 'a': workspaces[0].mlflow.token_env names the environment variable T, which")
    assert "workspace 'a': workspaces[0].mlflow (line 3) needs exactly one" in refusal(
        load, "workspaces:\n- name: a\n  mlflow: {}"
    )
    assert "hunter22" not in refusal(load, "workspaces:\n- name: 'hunter22:x'\n  mlflow: {}")


class TestTiming:
    """How a person writes time."""

    @pytest.mark.parametrize(
        ("text", "seconds"),
        [("90s", 90), ("10m", 600), ("24h", 86400), ("7d", 604800), ("2w", 1209600), ("1h30m", 5400), ("1H 30M", 5400)],
    )
    def test_durations(self, text: str, seconds: int) -> None:
        assert parse_duration(text) == timedelta(seconds=seconds)

    @given(st.integers(1, 10**8))
    def test_a_duration_is_read_as_it_was_written(self, seconds: int) -> None:
        value = timedelta(seconds=seconds)
        assert parse_duration(format_duration(value)) == value

    @pytest.mark.parametrize("value", [10, 1.5, True, None, "", "10", "m", "-5m", "1.5h", "10 minutes", "200000d"])
    def test_what_is_no_duration(self, value: object) -> None:
        with pytest.raises(ValueError, match=r"Write for example|Write a whole number"):
            parse_duration(value)

    @pytest.mark.parametrize(
        ("weekday", "days"),
        [("0", {6}), ("7", {6}), ("1", {0}), ("1-5", {0, 1, 2, 3, 4}), ("sun", {6}), ("5-7", {4, 5, 6}),
         ("fri-sun", {4, 5, 6}), ("0,3", {6, 2}), ("*/2", {6, 1, 3, 5}), ("*", set(range(7)))],
    )  # fmt: skip
    def test_weekdays_are_those_of_crontab(self, weekday: str, days: set[int]) -> None:
        """APScheduler's own reader counts Monday as 0, so that a backup planned for Sunday runs on Monday."""
        cron = parse_timing(f"0 3 * * {weekday}")
        assert isinstance(cron, Cron)
        trigger, at, seen = cron.trigger(), datetime(2026, 1, 1, tzinfo=UTC), set()
        for _ in range(14):
            at = trigger.get_next_fire_time(None, at)
            seen.add(at.weekday())
            at += timedelta(minutes=1)
        assert seen == days

    @pytest.mark.parametrize("weekday", ["8", "mondays", "5-1", "1-", "*/0"])
    def test_weekdays_that_are_none(self, weekday: str) -> None:
        with pytest.raises(ValueError, match="is not a cron expression"):
            parse_timing(f"0 3 * * {weekday}")

    @pytest.mark.parametrize(
        ("text", "longest"),
        [("10m", timedelta(minutes=10)), ("*/10 * * * *", timedelta(minutes=10)), ("0 3 * * *", timedelta(days=1)),
         ("0 3 * * 1-5", timedelta(days=3)), ("0 0 1 * *", timedelta(days=31)), ("0 9-17 * * *", timedelta(hours=16))],
    )  # fmt: skip
    def test_the_period_is_the_longest_wait(self, text: str, longest: timedelta) -> None:
        assert period(parse_timing(text)) == longest


def test_every_key_is_documented_and_the_page_is_true() -> None:
    assert undocumented() == []
    page = ROOT / "docs" / "reference" / "configuration.md"
    assert page.read_text("utf-8") == markdown(), (
        "run: python -m stocktake.settings --markdown > docs/reference/configuration.md"
    )


def test_the_schema_is_one_that_editors_read_and_its_defaults_are_valid() -> None:
    schema = json_schema()
    assert schema["additionalProperties"] is False
    defaults: dict[str, Any] = {name: field["default"] for name, field in schema["properties"].items()}
    assert Settings.model_validate(json.loads(json.dumps(defaults))) == Settings()


def test_what_config_show_prints_can_be_read_again(load: Load) -> None:
    settings = load(FIRST + "schedule: {sweep: '0 3 * * *'}\nretention: {history: forever}\n")
    assert load(json.dumps(settings.model_dump(mode="json"))).model_dump() == settings.model_dump()


class TestInstallationKey:
    """What fingerprints are made with."""

    def test_it_is_made_once_for_its_user_alone(self, tmp_path: Path) -> None:
        key = installation_key(tmp_path / "d", {})
        assert len(key) == 32
        assert installation_key(tmp_path / "d", {}) == key
        assert stat.S_IMODE((tmp_path / "d" / "installation.key").stat().st_mode) == 0o600
        assert [file.name for file in (tmp_path / "d").iterdir()] == ["installation.key"]
        assert installation_key(tmp_path / "e", {}) != key

    @pytest.mark.parametrize("text", ["ab" * 32, "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s="])
    def test_the_environment_wins(self, tmp_path: Path, text: str) -> None:
        assert installation_key(tmp_path, {"STOCKTAKE_REDACTION_KEY": text}) == b"\xab" * 32
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("text", ["short", "zz" * 32, "é" * 40])
    def test_a_wrong_one_is_refused_and_not_repeated(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(ConfigError, match="no installation key") as caught:
            installation_key(tmp_path, {"STOCKTAKE_REDACTION_KEY": text})
        assert text not in str(caught.value)

    def test_a_damaged_file_is_never_replaced(self, tmp_path: Path) -> None:
        (tmp_path / "installation.key").write_text("")
        with pytest.raises(ConfigError, match="from a backup"):
            installation_key(tmp_path, {})
        assert (tmp_path / "installation.key").read_text() == ""

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(ConfigError, match="cannot be read or made"):
            installation_key(tmp_path / "file" / "d", {})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("{folder: /m, uri: 'http://h'}", "exactly one of"),
        ("{folder: /m, database: 'sqlite:////x.db'}", "exactly one of"),
        ("{}", "exactly one of"),
        ("{folder: /m, username: ann, password_env: P}", "belongs to `uri`"),
        ("{folder: /m, password_env: P}", "belongs to `uri`"),
        ("{folder: /m, workspace: team}", "belongs to `uri`"),
        ("{folder: /m, insecure_tls: true}", "belong to `uri`"),
    ],
)
def test_a_folder_has_nothing_of_a_server(load: Load, words: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        load(f"workspaces:\n- name: a\n  mlflow: {words}\n")


def test_a_folder_that_is_not_there_is_fatal_and_the_same_one_twice_is_odd(load: Load) -> None:
    settings = load(
        "workspaces:\n- {name: a, mlflow: {folder: /nowhere/mlruns}}\n- {name: b, mlflow: {folder: /nowhere/mlruns}}\n"
    )
    assert problems(settings) == {
        "workspaces[0].mlflow.folder": True, "workspaces[1].mlflow.folder": True, "workspaces[1].mlflow": False,
    }  # fmt: skip


def test_a_key_that_names_one_of_a_few_words_holds_no_secret_whatever_it_is_called(load: Load) -> None:
    monitor = load("telemetry: {azure_monitor: {credential: entra}}").telemetry.azure_monitor
    assert monitor is not None
    assert monitor.credential == "entra"
    told = refusal(load, "telemetry: {azure_monitor: {credential: hunter2-pasted}}")
    assert "must be one of" in told or "must be 'none' or 'entra'" in told
    assert "hunter2" not in told
