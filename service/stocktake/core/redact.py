"""Secrets never enter: values that look like credentials are replaced before they reach the database, a log or a page.

The patterns are those of detect-secrets, without its entropy detectors (they flag learning rates, commits and run ids)
and without its keyword detector; plus a few that it lacks, and key names. Of a URL the
password alone is replaced. A replaced value reads `[redacted:<rule>:<fingerprint>]`; the fingerprint is keyed (HMAC-SHA256 under the installation's key), so that two
equal secrets can be recognised and none can be guessed.

Never redacted: numbers, booleans, and whatever has neither a secret's shape nor a secret's name: digests, run ids,
commits. A hexadecimal string whose key says `password` or `api_key` does have a secret's name.
"""

from __future__ import annotations

import fnmatch
import hashlib
import hmac
import importlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from stocktake.core.words import words

#: Raise it when the rules below change: a new policy is a new epoch.
VERSION = 1

# detect-secrets' detectors by module, class and rule name. Left out: the entropy detectors, KeywordDetector, public
# IP addresses (no secret), and Artifactory's, IBM's and SoftLayer's, whose patterns are short words.
_DETECTORS = (
    ("aws", "AWSKeyDetector", "aws"),
    ("azure_storage_key", "AzureStorageKeyDetector", "azure-storage-key"),
    ("discord", "DiscordBotTokenDetector", "discord"),
    ("github_token", "GitHubTokenDetector", "github"),
    ("gitlab_token", "GitLabTokenDetector", "gitlab"),
    ("jwt", "JwtTokenDetector", "jwt"),
    ("mailchimp", "MailchimpDetector", "mailchimp"),
    ("npm", "NpmDetector", "npm"),
    ("openai", "OpenAIDetector", "openai"),
    ("pypi_token", "PypiTokenDetector", "pypi"),
    ("sendgrid", "SendGridDetector", "sendgrid"),
    ("slack", "SlackDetector", "slack"),
    ("square_oauth", "SquareOAuthDetector", "square"),
    ("stripe", "StripeDetector", "stripe"),
    ("telegram_token", "TelegramBotTokenDetector", "telegram"),
)

# What detect-secrets lacks, or marks only by its first line. A group named `secret` is the part that is replaced.
_OWN = (
    (
        "private-key",
        r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY[^-]*-----(?:[\s\S]*?-----END [A-Z0-9 ]*PRIVATE KEY[^-]*-----|[\s\S]*)",
    ),
    ("private-key", r"PuTTY-User-Key-File-[23][\s\S]*"),
    ("url-userinfo", r"://[^:/?#\[\]@\s\"']*:(?P<secret>[^@/\s\"']+)@"),
    ("azure-sas", r"[?&;](?:sig|Signature)=(?P<secret>[A-Za-z0-9%+/=_-]{16,})"),
    ("azure-shared-key", r"(?:AccountKey|SharedAccessKey|SharedSecret)=(?P<secret>[A-Za-z0-9+/=]{16,})"),
    ("huggingface", r"\bhf_[A-Za-z0-9]{30,}\b"),
    ("databricks", r"\bdapi[0-9a-f]{32}(?:-\d)?\b"),
    ("google", r"\bAIza[0-9A-Za-z_-]{35}"),
    ("github", r"\bgithub_pat_[A-Za-z0-9_]{50,}"),
    ("openai", r"\bsk-(?:proj|ant|svcacct|or)-[A-Za-z0-9_-]{20,}"),
    ("npm", r"\bnpm_[A-Za-z0-9]{36}\b"),
    ("aws", r"\bx-amz-signature=(?P<secret>[0-9a-fA-F]{64})"),
    ("bearer", r"(?i)\bbearer\s+(?P<secret>[A-Za-z0-9._~+/=-]{16,})"),
    (
        "assignment",
        r"(?i)(?:^|[\s;,&?\"'{(-])(?:[a-z0-9_]*(?:password|passwd|passphrase|api[_-]?key|secret[_-]?(?:access[_-]?)?key"
        r"|client[_-]?secret|access[_-]?token|auth[_-]?token|refresh[_-]?token)|pwd)"
        r"(?:\s*[=:]\s*|\s+)[\"']?(?P<secret>[^\s;,&\"'})]{6,})",
    ),
)

# The cheap look: bytes (lower case) that hold none of these hold nothing that the close look would find. Literals,
# because searching for a hundred of them is many times faster than one pattern of alternatives. A raw document with escapes
# that could hide a literal (\u0041, \/) is always looked at closely.
_NAMES = words(
    "passw passphrase pwd secret token credential bearer authorization apikey api_key api-key api.key "
    "accesskey access_key access-key accountkey account_key account-key privatekey private_key "
    "private-key authkey auth_key auth-key signingkey signing_key signing-key sharedkey shared_key "
    "shared-key encryptionkey encryption_key encryption-key subscriptionkey subscription_key "
    "subscription-key storagekey storage_key storage-key masterkey master_key master-key connectionstring "
    "connection_string connection-string connstr conn_str conn-str connstring conn_string conn-string sas "
    "pat"
)
_MARKS = words(
    r"a3t abia acca akia asia aws eyj ghp_ gho_ ghu_ ghs_ ghr_ github_pat_ gr1348941 glpat- gldt- glft- glsoat- glrt- "
    r"glcbt- glimt- glptt- glagent- gloas- sk- rk_live_ sk_live_ sg. xoxa- xoxb- xoxp- xoxo- xoxs- xoxr- hooks.slack "
    r"sq0csp- pypi-ag npm_ _authtoken hf_ dapi aiza putty-user sharedaccess sig= signature= -us \u00 \/ "
    r'"sas" "pat" _sas" _pat"'
)
_LITERALS = tuple(literal.encode() for literal in (*_NAMES, *_MARKS, "private key") if literal not in ("sas", "pat"))
# Shapes without a literal of their own; each begins with a fixed character, which keeps the search fast.
_SHAPES = tuple(
    re.compile(pattern)
    for pattern in (rb"://[^/?#@\s\"']*:[^/@\s\"']*@", rb":[0-9a-z_-]{35}", rb"\.[0-9a-z_-]{6}\.[0-9a-z_-]{27}")
)


def _suspicious(raw: bytes) -> bool:
    """The cheap look. May say yes in vain; never says no where the close look would find something."""
    lowered = raw.lower()
    return any(literal in lowered for literal in _LITERALS) or any(shape.search(lowered) for shape in _SHAPES)


_WORDS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_STRONG = frozenset(["password", "passwd", "pwd", "passphrase", "secret", "apikey", "credential", "credentials"])
_PAIRS = frozenset(
    (first, last)
    for last, firsts in (
        ("key", "api access account private secret auth signing shared encryption subscription storage master"),
        (
            "token",
            "auth access refresh bearer api sas session security id hf hub github gitlab slack bot wandb user deploy"
            " personal",
        ),
        ("string", "connection conn"),
        ("str", "connection conn"),
        ("secret", "shared client"),
    )
    for first in words(firsts)
)
_ALONE = frozenset({"token", "bearer", "sas", "authorization", "pat"})  # only with a value that looks random
# What a key is about, if it ends so: `password_length`, `secret_name`, `token_type`, `access_key_id` is caught by AKIA.
_HARMLESS_END = frozenset(
    words(
        "length len policy count size type name id ids path file dir env var variable field column columns "
        "enabled required url uri endpoint expiry expires ttl scope strength hash algorithm method mode limit "
        "rate index offset version provider source store manager vault ref reference"
    )
)
_VARIABLE = re.compile(
    r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|\$\{?\w+\}?|\{\{.*\}\}|%\w+%|env:\w+|<.*>|\[.*\]|\*+|x+|\.{3,}", re.DOTALL
)
_PATH = re.compile(r"(?:[A-Za-z]:\\|~?/|\.{1,2}/)[^\s]*/[^\s]*|[a-z][a-z0-9+.-]*://\S+")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_PLAIN = frozenset(
    words("true false none null nan inf yes no on off default auto unknown required optional enabled disabled")
)
_MARKED = "[redacted:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Redaction:
    """That a value was replaced: where, and by which rule. Never the value."""

    path: str
    rule: str


class Redactor:
    """Replaces secrets in documents and texts. Pure after construction; one per process is enough."""

    def __init__(
        self, key: bytes, keys: Sequence[str] = (), values: Sequence[str] = (), allow: Sequence[str] = ()
    ) -> None:
        """`keys` and `values` are further patterns (regular expressions), `allow` are globs of keys left alone."""
        self._key = key
        self._allow = tuple(allow)
        self._configured = bool(keys or values)  # patterns of the operator's have no anchors: look closely always
        self._keys = tuple(re.compile(pattern, re.IGNORECASE) for pattern in keys)
        own = [(rule, re.compile(pattern)) for rule, pattern in _OWN]
        mine = [("configured", re.compile(pattern)) for pattern in values]
        self._patterns: tuple[tuple[str, re.Pattern[str]], ...] = (*own, *_detectors(), *mine)
        described = [VERSION, *keys, *values, *allow, *(p.pattern for _, p in self._patterns)]
        self.policy = hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]

    def fingerprint(self, value: str) -> str:
        """Return 12 hex digits of HMAC-SHA256 under the installation's key."""
        return hmac.new(self._key, value.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:12]

    def redact(self, document: Mapping[str, Any], raw: bytes | None) -> tuple[Mapping[str, Any], tuple[Redaction, ...]]:
        """Return the document without its secrets, and what was replaced; the same object where nothing was.

        `raw` are the bytes that the document came from: the cheap look happens there. None asks for the close look.
        """
        if raw is not None and not self._configured and not _suspicious(raw):
            return document, ()
        found: list[Redaction] = []
        cleaned = self._clean(document, "", "", found)
        return (cleaned, tuple(found)) if found else (document, ())

    def text(self, value: str) -> str:
        """Return a text (a URL, a message, a line of log) without the secrets in it."""
        return self._by_shape(value, "", [])

    def _clean(self, value: Any, name: str, path: str, found: list[Redaction]) -> Any:
        if isinstance(value, str):
            return self._string(value, name, path, found)
        if isinstance(value, Mapping):
            # Lists of {key, value} pairs are named by their key; everything else by its own name.
            pair = value.get("key") if "value" in value and isinstance(value.get("key"), str) else None
            return {
                inner: self._clean(
                    item, pair if pair and inner == "value" else inner, f"{path}.{inner}" if path else inner, found
                )
                for inner, item in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self._clean(item, name, f"{path}[{index}]", found) for index, item in enumerate(value)]
        return value

    def _string(self, value: str, name: str, path: str, found: list[Redaction]) -> str:
        if len(value) < 6 or value.startswith(_MARKED) or any(fnmatch.fnmatchcase(name, glob) for glob in self._allow):
            return value
        if value[0] in "{[" and value[-1] in "}]":
            try:
                inner = json.loads(value)
            except (ValueError, RecursionError):
                pass
            else:
                if isinstance(inner, (dict, list)):
                    below: list[Redaction] = []
                    cleaned = self._clean(inner, name, path, below)
                    found += below
                    return json.dumps(cleaned, ensure_ascii=False) if below else value
        if self._secret_name(name, value):
            found.append(Redaction(path=path, rule="key-name"))
            return self._mark("key-name", value)
        return self._by_shape(value, path, found)

    def _by_shape(self, value: str, path: str, found: list[Redaction]) -> str:
        if not self._configured and not _suspicious(value.encode("utf-8", "surrogatepass")):
            return value
        for rule, pattern in self._patterns:
            group: int | str = "secret" if "secret" in pattern.groupindex else 0
            pieces, end = [], 0
            for hit in pattern.finditer(value):
                secret = hit.group(group)
                if secret.startswith(_MARKED) or (rule == "assignment" and not _credential(secret)):
                    continue
                pieces += [value[end : hit.start(group)], self._mark(rule, secret)]
                end = hit.end(group)
            if pieces:
                found.append(Redaction(path=path, rule=rule))
                value = "".join([*pieces, value[end:]])
        return value

    def _mark(self, rule: str, value: str) -> str:
        return f"{_MARKED}{rule}:{self.fingerprint(value)}]"

    def _secret_name(self, name: str, value: str) -> bool:
        if any(pattern.search(name) for pattern in self._keys):
            return True
        lowered = name.lower()
        if not any(word in lowered for word in _NAMES):
            return False
        parts = [word.lower() for word in _WORDS.findall(name)]
        if not parts or parts[-1] in _HARMLESS_END:
            return False
        strong = any(part in _STRONG for part in parts) or any(pair in _PAIRS for pair in pairwise(parts))
        if strong:
            return _credential(value)
        return parts[-1] in _ALONE and _random(value)


def _credential(value: str) -> bool:
    """Whether a value could be a credential at all, given that its key says so."""
    value = value.strip()
    return not (
        len(value) < 6
        or value.lower() in _PLAIN
        or _NUMBER.fullmatch(value)
        or _VARIABLE.fullmatch(value)
        or _PATH.fullmatch(value)
        or value.startswith(_MARKED)
    )


def _random(value: str) -> bool:
    """Whether a value looks made by a machine: long, in one piece, letters and digits mixed."""
    piece = value.strip().removeprefix("Bearer ")
    return (
        len(piece) >= 16
        and not re.search(r"[\s<>|\[\]{}]", piece)
        and bool(re.search(r"\d", piece))
        and bool(re.search(r"[A-Za-z]", piece))
        and _credential(piece)
    )


def _detectors() -> list[tuple[str, re.Pattern[str]]]:
    """Take the compiled patterns out of detect-secrets. Imported here: it brings an HTTP client that we do not use."""
    found = []
    for module, name, rule in _DETECTORS:
        detector = getattr(importlib.import_module(f"detect_secrets.plugins.{module}"), name)
        found += [(rule, pattern) for pattern in detector.denylist]
    return found
