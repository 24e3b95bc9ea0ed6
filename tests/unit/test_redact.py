"""Secrets never enter: what is replaced, what is never touched, and that the cheap filter overlooks nothing.

No string here is a real secret, and none stands in one piece: scanners would take it for one.
"""

from __future__ import annotations

import base64
import json
import random
import re
import string
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stocktake.core.redact import Redactor
from stocktake.core.secret_patterns import suspicious

KEY = b"k" * 32
REDACTOR = Redactor(KEY)
_DICE = random.Random(7)
_MARK = re.compile(r"\[redacted:[a-z\-]+:[0-9a-f]{12}\]")


def some(length: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    """Characters that look random, with a digit and both cases where the alphabet has them."""
    while True:
        text = "".join(_DICE.choice(alphabet) for _ in range(length))
        kinds = [
            any(c in kind for c in text) for kind in (string.digits, string.ascii_lowercase, string.ascii_uppercase)
        ]
        wanted = [
            any(c in kind for c in alphabet) for kind in (string.digits, string.ascii_lowercase, string.ascii_uppercase)
        ]
        if kinds == wanted or length < 8:
            return text


HEX = "0123456789abcdef"
UPPER = string.ascii_uppercase + string.digits
LOWER = string.ascii_lowercase + string.digits
B64 = string.ascii_letters + string.digits + "+/"
URLSAFE = string.ascii_letters + string.digits + "_-"
DIGITS = string.digits


def _key_block(kind: str) -> str:
    return (
        f"-----BEGIN {kind}PRIVATE "
        + "KEY-----\n"
        + some(64, B64)
        + "\n"
        + some(64, B64)
        + f"\n-----END {kind}PRIVATE KEY-----"
    )


# (what it is, the part that must be gone, how it stands in a value)
SHAPED: list[tuple[str, str, str]] = []


def shape(what: str, secret: str, value: str = "{}") -> None:
    SHAPED.append((what, secret, value.replace("{}", secret)))


for prefix in ("AK" + "IA", "AS" + "IA", "AB" + "IA", "AC" + "CA"):
    shape("aws key id", prefix + some(16, UPPER))
for prefix in ("gh" + "p_", "gh" + "o_", "gh" + "u_", "gh" + "s_", "gh" + "r_"):
    shape("github", prefix + some(36))
    shape("github in a url", prefix + some(36), "https://{}@github.com/example/train.git")
shape("github fine-grained", "github" + "_pat_" + some(22) + "_" + some(59))
for prefix in ("gl" + "pat-", "gl" + "dt-", "gl" + "ft-", "gl" + "soat-", "gl" + "rt-"):
    shape("gitlab", prefix + some(20, URLSAFE[:-2]))
shape("gitlab feed", "gl" + "imt-" + some(25))
shape("gitlab trigger", "gl" + "ptt-" + some(40))
shape("gitlab runner", "GR13" + "48941" + some(20))
shape("hugging face", "h" + "f_" + some(34))
shape("hugging face", "h" + "f_" + some(37), "huggingface-cli login --token {}")
shape("hugging face org", "api_" + "org_" + some(34))
shape("openai old", "s" + "k-" + some(20) + "T3Blb" + "kFJ" + some(20))
shape("openai project", "s" + "k-proj-" + some(74, URLSAFE) + "T3Blb" + "kFJ" + some(74, URLSAFE))
shape("openai without a mark", "s" + "k-" + some(48))
shape("anthropic", "s" + "k-ant-api03-" + some(93, URLSAFE) + "AA")
shape("openrouter", "s" + "k-or-v1-" + some(64, HEX))
shape("groq", "g" + "sk_" + some(52))
shape("replicate", "r" + "8_" + some(37))
shape("nvidia", "nv" + "api-" + some(64, URLSAFE))
shape("langsmith", "lsv2" + "_pt_" + some(32, HEX) + "_" + some(10, HEX))
shape("databricks", "da" + "pi" + some(32, HEX))
shape("databricks 2", "da" + "pi" + some(32, HEX) + "-2")
shape("google", "AI" + "za" + some(35))
shape("google oauth", "ya" + "29." + some(60, URLSAFE))
shape("google client", "GO" + "CSPX-" + some(28))
shape("npm", "np" + "m_" + some(36))
shape("pypi", "py" + "pi-AgEIcHlwaS5vcmc" + some(80, URLSAFE))
shape("pypi test", "py" + "pi-AgENdGVzdC5weXBpLm9yZw" + some(80, URLSAFE))
shape("sendgrid", "S" + "G." + some(22) + "." + some(43))
shape("slack bot", "xo" + "xb-" + some(12, DIGITS) + "-" + some(12, DIGITS) + "-" + some(24))
shape("slack user", "xo" + "xp-" + some(12, DIGITS) + "-" + some(12, DIGITS) + "-" + some(32, HEX))
shape("slack app", "xa" + "pp-1-" + some(11, UPPER) + "-" + some(13, DIGITS) + "-" + some(64, HEX))
shape(
    "slack hook",
    "T" + some(8, UPPER) + "/B" + some(10, UPPER) + "/" + some(24),
    "https://hooks." + "slack.com/services/{}",
)
shape("stripe", "s" + "k_live_" + some(24))
shape("stripe restricted", "r" + "k_live_" + some(24))
shape("square", "sq0" + "csp-" + some(43))
shape("twilio", "S" + "K" + some(32, HEX))
shape("mailchimp", some(32, LOWER) + "-us" + "12")
shape("telegram", some(9, DIGITS) + ":" + some(35, URLSAFE[:-2]))
shape("discord", "M" + some(23) + "." + some(6) + "." + some(27))
shape("docker", "dck" + "r_pat_" + some(27, URLSAFE))
shape("digitalocean", "do" + "p_v1_" + some(64, HEX))
shape("jwt", "ey" + "J" + some(33) + "." + "ey" + "J" + some(60) + "." + some(43, URLSAFE))
shape("jwt as a header", "ey" + "J" + some(33) + "." + some(60) + "." + some(43, URLSAFE), "Authorization: Bearer {}")
shape("bearer", some(40), "Authorization: Bearer {}")
shape("basic", base64.b64encode(b"ann:correct horse").decode(), "Authorization: Basic {}")
shape("entra client secret", some(3) + "8" + "Q~" + some(34))
shape(
    "azure storage",
    some(86, B64) + "==",
    "DefaultEndpointsProtocol=https;AccountName=ml;Account" + "Key={};EndpointSuffix=core.windows.net",
)
shape("azure storage alone", some(86, B64) + "==", "Account" + "Key={}")
shape(
    "service bus",
    some(43, B64) + "=",
    "Endpoint=sb://x.servicebus.windows.net/;SharedAccessKeyName=root;SharedAccess" + "Key={}",
)
for secret in (some(43, URLSAFE) + "%3D", some(43, B64[:-2]) + "%2B%3D"):
    shape(
        "sas", secret, "https://ml.blob.core.windows.net/c/data.csv?sv=2022-11-02&sr=b&se=2027-01-01&si" + "g={}&sp=r"
    )
shape("sas, sig first", some(43) + "%3D", "https://ml.blob.core.windows.net/c/data.csv?si" + "g={}&sv=2022")
shape("presigned s3", some(64, HEX), "https://b.s3.amazonaws.com/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature={}")
shape("presigned s3 session", some(80), "https://b.s3.amazonaws.com/k?X-Amz-Security-Token={}&X-Amz-Date=1")
shape("presigned gcs", some(128, HEX), "https://storage.googleapis.com/b/k?X-Goog-Signature={}")
for kind in ("", "RSA ", "EC ", "OPENSSH ", "DSA ", "ENCRYPTED "):
    block = _key_block(kind)
    shape(f"{kind}private key", block.splitlines()[1], block)
shape("private key, cut off", "MIIEvQIBADANBg" + some(40, B64), "-----BEGIN PRIVATE " + "KEY-----\n{}")
shape("putty key", some(64, B64), "PuTTY-User-Key-" + "File-3: ssh-ed25519\nPrivate-Lines: 1\n{}")
for address in (
    "postgresql://ann:{}@db.example.org/mlflow", "postgresql+psycopg2://ann:{}@db/mlflow?sslmode=require",
    "mysql+pymysql://root:{}@127.0.0.1:3306/x", "mongodb+srv://ann:{}@cluster0.example.net/?retryWrites=true",
    "redis://:{}@cache:6379/0", "amqp://ann:{}@mq//", "https://ann:{}@mlflow.example.org", "ftp://ann:{}@files/x",
):  # fmt: skip
    shape("password in an address", some(12), address)
shape("password with signs", "p$s!w(r)*d;,=&" + some(4), "postgresql://ann:{}@db/mlflow")
shape("token as user", some(40, HEX), "https://{}@git.example.org/x.git")
for command in (
    "train.py --password {} --lr 0.1", "train.py --db-password={} --lr 0.1", "train.py --api-key {}", "--api_key={}",
    "curl -d api_key={} https://x", "PGPASSWORD={} psql",
    "export WANDB_API_KEY={}", "Server=db;Uid=sa;Pwd={};Encrypt=yes",
    "jdbc:sqlserver://db;user=sa;password={};", "{'user': 'ann', 'password': '{}'}", "Config(api_key='{}', lr=0.1)",
    '{"password": "{}", cut off', "client_secret: {}", "https://x/cb?access_token={}&state=1",
    "AWS_SECRET_ACCESS_KEY={}",
):  # fmt: skip
    shape("assignment in a text", some(12), command)
shape("quoted with blanks", "correct horse 7 battery", "{'password': '{}'}")

NAMED = [
    ("password", "hunter" + "22"), ("db_password", "letmein"), ("DB_PASSWORD", "Sommer" + "2024!"),
    ("dbPassword", "qwertz"),
    ("spark.hadoop.password", some(10)), ("passwd", some(8)), ("ftp_pwd", some(8)),
    ("passphrase", "correct horse battery"),
    ("secret", some(12)), ("client_secret", some(34)), ("clientSecret", some(34)), ("AZURE_CLIENT_SECRET", some(34)),
    ("api_key", some(20)), ("apiKey", some(20)), ("APIKey", some(20)), ("x-api-key", some(20)),
    ("openai.api.key", some(20)),
    ("wandb_api_key", some(40, HEX)), ("WANDB_API_KEY", some(40, HEX)), ("comet_api_key", some(25)),
    ("neptune_api_token", base64.b64encode(b'{"api_address":"https://x"}').decode()),
    ("aws_secret_access_key", some(40, B64)), ("aws_session_token", some(200, B64)), ("secret_key", some(40, B64)),
    ("minio_access_key", some(20, UPPER)), ("account_key", some(86, B64) + "=="), ("storage_key", some(86, B64) + "=="),
    ("private_key", some(64, B64)), ("encryption_key", some(44, B64)), ("subscription_key", some(32, HEX)),
    ("auth_token", some(32, HEX)), ("access_token", some(30)), ("refresh_token", some(30)), ("accessToken", some(30)),
    ("connection_string", "Endpoint=https://x;Id=" + some(8)), ("sas_token", "sv=2022&sr=c&x=" + some(20)),
    ("token", some(32)), ("my.service.token", some(32)), ("credential", some(32)), ("credentials", some(40, URLSAFE)),
    ("heroku_api_key", "0c3f4a8e-4d3b-4a3e-9f0c-2f1c0b7e9d11"),
]  # fmt: skip


def raw_of(document: Mapping[str, Any]) -> bytes:
    """The way MLflow writes it: maps are lists of pairs."""
    return json.dumps({k: [{"key": a, "value": b} for a, b in v.items()] for k, v in document.items()}).encode()


@pytest.mark.parametrize(("what", "secret", "value"), SHAPED, ids=[f"{n}-{s[0]}" for n, s in enumerate(SHAPED)])
def test_what_is_shaped_like_a_secret_is_replaced_wherever_it_stands(what: str, secret: str, value: str) -> None:
    for document in (
        {"tags": {"note": value}},
        {"tags": {"note": f"before {value}"}},
        {"tags": {"note": json.dumps({"deep": [{"x": value}]})}},
        {"tags": {"note": json.dumps({"deeper": json.dumps([value])})}},
        {"tags": {"a": "plain", "b": ["plain", value]}},
    ):
        clean, found = REDACTOR.redact(
            document, raw_of(document) if isinstance(document["tags"].get("b", ""), str) else None
        )
        assert secret not in json.dumps(clean, ensure_ascii=False), what
        assert secret not in json.dumps(json.dumps(clean, ensure_ascii=False)), what
        assert found
        assert all(secret not in f"{one.path} {one.rule}" for one in found)
    assert secret not in REDACTOR.text(value)


@pytest.mark.parametrize(("name", "value"), NAMED)
def test_what_is_named_like_a_secret_is_replaced(name: str, value: str) -> None:
    for document in (
        {"params": {name: value}},
        {"params": {"config": json.dumps({name: value})}},
        {"params": {"config": json.dumps([{"key": name, "value": value}])}},
        {"params": {"config": json.dumps({"inner": json.dumps({name: [value]})})}},
    ):
        clean, found = REDACTOR.redact(document, raw_of(document))
        assert value not in json.dumps(clean)
        assert found[0].path in (f"params.{name}", f"params['{name}']", "params.config")


def ml_names() -> list[tuple[str, str]]:
    file = Path(__file__).parent.parent / "data" / "ml_names.txt"
    pairs = [line.partition("=") for line in file.read_text("utf-8").splitlines() if not line.startswith("#")]
    return [(name, value) for name, _, value in pairs]


def test_names_and_values_of_machine_learning_pass_untouched() -> None:
    names = ml_names()
    assert len({name for name, _ in names}) > 200
    for name, value in names:
        document = {"params": {name: value}, "tags": {"config": json.dumps({name: value}), "repr": str({name: value})}}
        clean, found = REDACTOR.redact(document, None)
        assert clean is document, found
        assert not found


@pytest.mark.parametrize(
    "value",
    ["0.001", "12345678901234", "1e-05", "-3.5", "nan", "0123456789abcdef0123456789abcdef01234567",
     "m-0123456789abcdef0123456789abcdef", "0c3f4a8e-4d3b-4a3e-9f0c-2f1c0b7e9d11", "sha256:" + "ab" * 32],
)  # fmt: skip
def test_numbers_digests_and_ids_are_never_replaced_under_a_name_that_may_mean_anything(value: str) -> None:
    for name in ("seed", "commit", "token", "eos_token", "credential", "data_version"):
        document = {"params": {name: value}}
        assert REDACTOR.redact(document, None) == (document, ())


def test_numbers_are_not_replaced_under_any_name() -> None:
    document = {"metrics": {"password": 0.7, "secret": float("nan")}, "params": {"api_key": "3", "secret": "0.000123"}}
    assert REDACTOR.redact(document, None)[0] is document


def test_an_address_stays_useful() -> None:
    clean = REDACTOR.text("postgresql://ann:" + "hunter22" + "@db.example.org:5432/mlflow?sslmode=require")
    assert re.fullmatch(
        r"postgresql://ann:\[redacted:url-password:[0-9a-f]{12}\]@db\.example\.org:5432/mlflow\?sslmode=require", clean
    )


def test_what_stands_around_a_secret_stays() -> None:
    value = json.dumps(
        {"lr": 0.1, "n": None, "user": "ann", "password": "hunter" + "22", "äö": "ü"}, ensure_ascii=False
    )
    clean, _ = REDACTOR.redact({"tags": {"config": value}}, None)
    inner = json.loads(clean["tags"]["config"])
    assert inner | {"password": ""} == json.loads(value) | {"password": ""}
    assert _MARK.fullmatch(inner["password"])


def test_everything_below_a_name_of_secrets_is_one() -> None:
    clean, found = REDACTOR.redact({"tags": {"x": json.dumps({"secrets": {"db": "hunter" + "22", "n": 3}})}}, None)
    assert "hunter" not in str(clean)
    assert len(found) == 1


@pytest.mark.parametrize("below", ["environmentVariables", "environment_variables"])
@pytest.mark.parametrize(
    "name",
    ["HF_TOKEN", "MY_TOKEN", "HFTOKEN", "STORAGE_KEY", "BLOB_SAS", "DB_PWD", "DB_PW", "mySecret", "APPPASSWORD", "KEY"],
)
def test_a_variable_of_an_environment_that_is_named_like_a_credential_is_replaced(below: str, name: str) -> None:
    value = "correct-horse-battery"
    for place in ({name: value}, [{"name": name, "value": value}], json.dumps({name: value}, indent=1)):
        document = {"properties": {"trial": {below: place}}}
        clean, _ = REDACTOR.redact(document, raw_of(document))
        assert value not in str(clean)
    document = {"properties": {"arguments": {"MY_TOKEN": value}}}
    assert REDACTOR.redact(document, raw_of(document))[0] is document, "elsewhere a token is many things"


@pytest.mark.parametrize(
    ("name", "value"),
    [("MAX_TOKEN", "4096"), ("HF_TOKEN", "${HF_TOKEN}"), ("SSH_KEY", "/mnt/keys/id.pem"), ("PAD_TOKEN", "<pad-token>"),
     ("MONKEY", "chimpanzee"), ("HF_TOKEN_PATH", "/root/token"), ("KANSAS", "wichita"), ("MODE", "training")],
)  # fmt: skip
def test_the_other_variables_of_an_environment_stay(name: str, value: str) -> None:
    document = {"properties": {"environmentVariables": {name: value}}}
    assert REDACTOR.redact(document, raw_of(document)) == (document, ())


def test_a_job_without_variables_is_not_looked_at_closely() -> None:
    nothings: list[dict[str, str] | None] = [{}, None]
    for nothing in nothings:
        assert not suspicious(json.dumps({"properties": {"environmentVariables": nothing}}).encode())


def test_a_secret_used_as_a_name_is_replaced_too() -> None:
    secret = "h" + "f_" + some(34)
    clean, found = REDACTOR.redact({"tags": {secret: "yes"}}, None)
    assert secret not in str(clean) + str(found)


def test_equal_secrets_have_equal_fingerprints_and_another_installation_has_others() -> None:
    one, two = REDACTOR.text("password=" + "hunter22"), REDACTOR.text("--password " + "hunter22")
    assert _MARK.findall(one) == _MARK.findall(two)
    assert _MARK.findall(one) != _MARK.findall(Redactor(b"x" * 32).text("password=" + "hunter22"))
    assert REDACTOR.fingerprint("hunter22") in one


def test_the_configuration_adds_names_and_values_and_lets_names_pass() -> None:
    own = Redactor(KEY, keys=[r"^badge"], values=[r"EMP-\d{4}"], allow=["demo_*"])
    clean, found = own.redact(
        {"params": {"badge_no": "77", "note": "seen EMP-1234 here", "demo_password": "hunter22", "lr": "0.1"}}, b"{}"
    )
    assert {one.path for one in found} == {"params.badge_no", "params.note"}
    assert clean["params"]["demo_password"] == "hunter22"
    assert "EMP-1234" not in clean["params"]["note"]
    assert clean["params"]["note"].startswith("seen [redacted:configured:")


def test_the_policy_names_what_decides() -> None:
    assert Redactor(b"x" * 32).policy == REDACTOR.policy  # a key decides nothing about what is replaced
    others = [Redactor(KEY, keys=["badge"]), Redactor(KEY, values=["badge"]), Redactor(KEY, allow=["badge"])]
    assert len({one.policy for one in (REDACTOR, *others)}) == 4


def test_the_policy_is_the_same_in_another_process() -> None:
    script = "from stocktake.core.redact import Redactor; print(Redactor(b'k' * 32).policy)"
    for seed in ("1", "2"):
        environ = {"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)}
        done = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == REDACTOR.policy


# What a document may be made of: pieces of secrets, names, separators, and anything at all.
_PIECES = sorted(
    {piece for _, secret, value in SHAPED for piece in (value, value[: len(value) // 2], secret[-8:])}
    | {"environmentVariables", "environment_variables", "HF_TOKEN", "MY_KEY"}
    | {name for name, _ in NAMED} | {value for _, value in NAMED}
    | {"=", ": ", "@", "://", "'", '"', "\\", "\n", "\t", " ", "&", ";", "ſ", "K", "é",
       "\u00a0", "\u2028", "\x00", "/", "[redacted:", "]"}
)  # fmt: skip
_text = st.lists(st.sampled_from(_PIECES) | st.text(max_size=6), max_size=5).map("".join)
_json = st.recursive(
    _text | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=6,
)
_value = _text | _json.map(json.dumps) | _json.map(lambda x: json.dumps(x, ensure_ascii=False)) | _json.map(repr)
_variables = st.dictionaries(st.sampled_from(["HF_TOKEN", "MY_KEY", "LR"]) | _text, _value, max_size=2)
_environment = st.fixed_dictionaries(
    {},
    optional={
        name: _variables | _variables.map(json.dumps) | _variables.map(lambda x: json.dumps(x, indent=1)) | _json
        for name in ("environmentVariables", "environment_variables", "EnvironmentVariables")
    },
)
_document = st.fixed_dictionaries(
    {
        "params": st.dictionaries(_text, _value, max_size=3) | _environment,
        "tags": st.dictionaries(_text, _json, max_size=2) | _environment | _environment.map(lambda x: {"j": [x]}),
    }
)


def _slashes(text: str) -> str:
    return text.replace("/", "\\/")


def _html(text: str) -> str:
    return re.sub(r"[<>&='+]", lambda hit: f"\\u{ord(hit[0]):04x}", text)


ENCODERS: list[Callable[[Any], bytes]] = [
    lambda x: json.dumps(x).encode(),
    lambda x: json.dumps(x, ensure_ascii=False).encode("utf-8", "surrogatepass"),
    lambda x: _slashes(json.dumps(x)).encode(),
    lambda x: _html(json.dumps(x)).encode(),
]


@settings(max_examples=300, deadline=None)
@given(document=_document, encoder=st.sampled_from(ENCODERS))
def test_the_cheap_filter_overlooks_nothing_that_the_close_look_finds(
    document: dict[str, Any], encoder: Callable[[Any], bytes]
) -> None:
    clean, found = REDACTOR.redact(document, None)
    if found:
        pairs = {k: [{"key": a, "value": b} for a, b in v.items()] for k, v in document.items()}
        assert suspicious(encoder(pairs)), found
    else:
        assert clean is document


@settings(max_examples=200, deadline=None)
@given(document=_document)
@example(document={"tags": {"env": {"HF_TOKEN": "D6NCF10Egldt-8m1CiAhzCueQpBenQtYh://"}}})
@example(document={"env": {"GOCSPX-qIO2zVZxqyDB_PASSWORD": {"my.service.token": "--api_key=o"}}})
def test_what_was_replaced_stays_as_it_is(document: dict[str, Any]) -> None:
    clean, _ = REDACTOR.redact(document, None)
    again, found = REDACTOR.redact(clean, None)
    assert not found
    assert again is clean


@settings(max_examples=200, deadline=None)
@given(value=_text)
def test_a_text_is_replaced_once(value: str) -> None:
    clean = REDACTOR.text(value)
    assert REDACTOR.text(clean) == clean


def test_hostile_values_cost_little() -> None:
    for value in (
        "[" * 5000, '{"a":' * 3000, "password" * 1000, "://a:" * 2000, "BEGIN PRIVATE KEY " * 400, "eyJ" * 2000,
        "api_key='" * 800, "a" * 8000, "-" * 8000, "1" * 8000, "." * 8000, "secret=" + "\\" * 8000, "@" * 8000,
    ):  # fmt: skip
        REDACTOR.redact({"tags": {"x": value, "password": value}}, None)  # a slow expression runs into the time limit
