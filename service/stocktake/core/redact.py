"""Secrets never enter: what looks like a credential is replaced before it reaches the database, a log or a page.

A secret becomes `[redacted:RULE:FINGERPRINT]`. The fingerprint is keyed (HMAC), so that two equal secrets can be
recognised but not guessed. Numbers are never replaced. Digests and ids are not either, unless their name says that
they are a password or key (`wandb_api_key`: some services' keys are 40 hex digits, and nothing but the name tells).
"""

from __future__ import annotations

import copy
import fnmatch
import hashlib
import hmac
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from importlib.metadata import version
from typing import Any, NamedTuple

from stocktake.core import remembered, secret_patterns

_NUMBER = re.compile(r"[+-]?(?:\d[\d_,]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?%?|[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_PLACEHOLDER = re.compile(
    r"\[redacted:.*|<.*>|\$\{?\w+\}?|\$\(.*|%\w+%|\{\{.*\}\}|\{\w*\}|[*x.•\-_#]+|none|null|true|false|yes|no|on|off|n/?a"
    r"|undefined|unset|not[ _-]?set|empty|default|redacted|hidden|masked|required|optional|disabled|enabled|removed"
    r"|secretstr.*|os\.(?:environ|getenv).*|env[:.].*|getenv.*|vault:.*|dbutils\..*|@microsoft\.keyvault.*",
    re.IGNORECASE | re.DOTALL,
)
_PATH = re.compile(
    r"(?:~|\.{0,2}|[A-Za-z]:)[/\\][\w.\-/\\ ]*|[\w.\-]+(?:/[\w.\-]+)*\.(?:json|ya?ml|pem|key|txt|cfg|ini|env|crt|p12)"
)
_BLOB = re.compile(r"[A-Za-z0-9/+=]{40,}")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.\-]*://", re.IGNORECASE)
_KNOWN_ID = re.compile(
    r"(?:m-|tr-|sha(?:1|224|256|384|512)?[:-]|md5[:-]|run[-:]|[a-z]+-)?(?:[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9a-f]{7,128})",
    re.IGNORECASE,
)
_RANDOM = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z])[A-Za-z0-9+/=_\-.~]{16,}")
_MARKER = remembered.MARKER
_SHORTEST = 6
_PASSES = 5  # a secret may only be seen once the one that it is glued to is gone
_LONG_NAME = 16  # a name may be a secret itself, but none of ours is shorter
_DEEPEST = 6  # JSON inside JSON inside JSON...; deeper is searched as text


class _Name(IntEnum):
    """What a name says of its value."""

    PLAIN = 0
    WEAK = 1  # a secret if it looks random
    STRONG = 2  # a secret unless it is a number, a path, a placeholder
    ALWAYS = 3  # the configuration says so
    ALLOWED = 4  # the configuration says it is none
    ENVIRONMENT = 5  # it holds variables of an environment, of which the names say more than elsewhere


class _Judged(NamedTuple):
    """A name without the secrets in it, what it says of its value, and the rules that found secrets in it."""

    clean: str
    says: _Name
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Redaction:
    """One replaced value: where it stood and which rule found it; never what it was."""

    path: str
    rule: str


class Redactor:
    """Replaces secrets in documents and texts. `keys` and `values` are regular expressions, `allow` globs of names."""

    def __init__(
        self, key: bytes, keys: Sequence[str] = (), values: Sequence[str] = (), allow: Sequence[str] = ()
    ) -> None:
        own = [secret_patterns.Rule(name="configured", pattern=re.compile(value, re.IGNORECASE)) for value in values]
        self._key = key
        self._rules = (*own, *secret_patterns.rules())
        self._keys = tuple(re.compile(pattern, re.IGNORECASE) for pattern in keys)
        self._allow = tuple(re.compile(fnmatch.translate(glob), re.IGNORECASE) for glob in allow)
        # What an operator's expression matches cannot be seen in raw bytes: then every document is looked at.
        self._always = bool(keys or values)
        self._names: dict[str, _Judged] = {}
        self.remembered = remembered.Remembered(key)  # what a person had removed; part of no policy
        self.policy = _policy(self._rules, keys, allow)

    def remembering(self, texts: Iterable[remembered.Text]) -> Redactor:
        """The same, but for what a person had removed: `stocktake redact` adds to it while we run."""
        other = copy.copy(self)
        other.remembered = remembered.Remembered(self._key, texts)
        return other

    def redact(self, document: Mapping[str, Any], raw: bytes | None) -> tuple[Mapping[str, Any], tuple[Redaction, ...]]:
        """Replace the secrets of a document; the same object comes back when there are none.

        `raw` are the bytes that the document was parsed from: a cheap look at them spares most documents the close one.
        """
        found: list[Redaction] = []
        if raw is None or self._suspicious(raw):
            clean = self._walk(document, _Name.PLAIN, "", found, 0)
            document = clean if found else document
        if self.remembered and (clean := self.remembered.document(document)) is not document:
            document = clean
            found.append(Redaction(path="", rule="manual"))
        return document, tuple(found)

    def text(self, value: str) -> str:
        """Replace the secrets inside a text of any kind: an address, an error message, a line of log."""
        if self._suspicious(value.encode("utf-8", "surrogatepass")):
            found: list[str] = []
            value = self._text(value, found.append)
        return self.remembered.text(value)

    def fingerprint(self, value: str) -> str:
        """Return the keyed fingerprint of a secret: twelve hex digits."""
        return hmac.new(self._key, value.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:12]

    def _suspicious(self, raw: bytes) -> bool:
        return self._always or secret_patterns.suspicious(raw)

    def _replacement(self, rule: str, secret: str) -> str:
        return f"[redacted:{rule}:{self.fingerprint(secret)}]"

    def _name(self, name: str) -> _Judged:
        known = self._names.get(name)
        if known is None:
            if len(self._names) > 10_000:
                self._names.clear()
            known = self._names[name] = self._judge(name)
        return known

    def _judge(self, name: str) -> _Judged:
        if any(glob.match(name) for glob in self._allow):
            return _Judged(name, _Name.ALLOWED, ())
        rules: list[str] = []
        clean = self._text(name, rules.append) if len(name) >= _LONG_NAME else name
        words = _MARKER.sub("", clean)
        split = secret_patterns.CAMEL.sub("_", words)
        says = _Name.PLAIN
        if any(pattern.search(words) for pattern in self._keys):
            says = _Name.ALWAYS
        elif secret_patterns.ABOUT.search(split):
            pass
        elif secret_patterns.STRONG_NAME.search(split) or secret_patterns.STRONG_NAME.search(words):
            says = _Name.STRONG
        elif secret_patterns.ENVIRONMENT.fullmatch(name):
            says = _Name.ENVIRONMENT
        elif secret_patterns.WEAK_NAME.search(split):
            says = _Name.WEAK
        return _Judged(name if clean == name else clean, says, tuple(rules))

    def _walk(self, value: Any, name: _Name, path: str, found: list[Redaction], depth: int) -> Any:
        if isinstance(value, str):
            return self._value(value, name, path, found, depth)
        if isinstance(value, Mapping):
            return self._map(value, name, path, found, depth)
        if isinstance(value, list | tuple):
            items = [self._walk(item, name, f"{path}[{n}]", found, depth) for n, item in enumerate(value)]
            return value if all(a is b for a, b in zip(items, value, strict=True)) else items
        return value

    def _map(self, value: Mapping[str, Any], name: _Name, path: str, found: list[Redaction], depth: int) -> Any:
        changed = False
        result: dict[str, Any] = {}
        label = _label(value)
        for key, item in value.items():
            judged = self._name(key)
            named = label if label is not None and key == "value" else key
            says = self._name(named).says
            if name == _Name.ENVIRONMENT and says in (_Name.PLAIN, _Name.WEAK):
                if secret_patterns.ENVIRONMENT_NAME.search(secret_patterns.CAMEL.sub("_", named)):
                    says = _Name.STRONG
            elif says == _Name.ENVIRONMENT and name != _Name.PLAIN:
                says = name
            weaker = says == _Name.PLAIN or (says == _Name.WEAK and name in (_Name.STRONG, _Name.ALWAYS))
            if weaker and name != _Name.ALLOWED and not secret_patterns.ABOUT.search(f"_{key}"):
                says = name  # below `credentials:` everything is one
            key_path = _step(path, judged.clean)
            found.extend(Redaction(path=key_path, rule=rule) for rule in judged.rules)
            clean = self._walk(item, says, key_path, found, depth)
            changed = changed or clean is not item or judged.clean is not key
            result[judged.clean] = clean
        return result if changed else value

    def _value(self, value: str, name: _Name, path: str, found: list[Redaction], depth: int) -> str:
        if name == _Name.ALLOWED or (len(value) < _SHORTEST and name != _Name.ALWAYS):
            return value
        if _is_secret(value, name):
            found.append(Redaction(path=path, rule=self._rule_of(value, name)))
            return self._replacement(found[-1].rule, value)
        if name == _Name.PLAIN and not self._suspicious(value.encode("utf-8", "surrogatepass")):
            return value
        if depth < _DEEPEST and value.lstrip()[:1] in ("{", "["):
            clean = self._json(value, name, path, found, depth)
            if clean is not None:
                return clean
        rules: list[str] = []
        clean = self._text(value, rules.append)
        if rules and _is_secret(clean, name):  # an address, it was thought: without the secret it is none
            rules, clean = ["name"], self._replacement("name", value)
        found.extend(Redaction(path=path, rule=rule) for rule in rules)
        return clean

    def _rule_of(self, value: str, name: _Name) -> str:
        """Name a secret that its name gave away by what it looks like, where that is known: it helps who cleans up."""
        if name == _Name.ALWAYS:
            return "configured"
        return next((rule.name for rule in self._rules if rule.pattern.fullmatch(value) and not rule.group), "name")

    def _json(self, value: str, name: _Name, path: str, found: list[Redaction], depth: int) -> str | None:
        """Search a value that is JSON itself; None where it is not."""
        try:
            inner = json.loads(value)
            hits: list[Redaction] = []
            clean = self._walk(inner, name, "", hits, depth + 1)
        except (ValueError, RecursionError):
            return None
        if not hits:
            return value
        found.extend(Redaction(path=path, rule=hit.rule) for hit in hits)
        return json.dumps(clean, ensure_ascii=False, separators=(",", ":"))

    def _text(self, value: str, tell: Callable[[str], None]) -> str:
        for _ in range(_PASSES):
            clean = self._patterns(value, tell)
            # What was replaced before is not looked into again.
            parts = _MARKER.split(clean)
            clean = "".join(part if n % 2 else self._assignments(part, tell) for n, part in enumerate(parts))
            if clean == value:
                break
            value = clean
        return value

    def _patterns(self, value: str, tell: Callable[[str], None]) -> str:
        for rule in self._rules:
            if rule.pattern.search(value) is not None:
                value = _substitute(rule.pattern, value, rule.group, self._swap(rule.name, tell))
        return value

    def _swap(self, rule: str, tell: Callable[[str], None]) -> Callable[[str], str]:
        def swap(secret: str) -> str:
            if _PLACEHOLDER.fullmatch(secret) or "[redacted:" in secret:
                return secret
            tell(rule)
            return self._replacement(rule, secret)

        return swap

    def _assignments(self, value: str, tell: Callable[[str], None]) -> str:
        def swap(hit: re.Match[str]) -> str:
            group = "quoted" if hit["quoted"] is not None else "bare"
            secret, mark = hit[group], hit["mark"].strip()
            if not mark and not value[: hit.start()].rpartition(" ")[2].startswith("-"):
                return hit[0]  # prose: "password reset"; only an option takes its value after a space
            if group == "bare" and mark == ":" and not (re.search(r"\d", secret) and re.search(r"[A-Za-z]", secret)):
                return hit[0]  # prose: "password: ask the owner"
            if not _is_secret(secret, _Name.STRONG):
                return hit[0]
            tell("name")
            start, end = hit.start(group) - hit.start(), hit.end(group) - hit.start()
            return hit[0][:start] + self._replacement("name", secret) + hit[0][end:]

        return secret_patterns.ASSIGNMENT.sub(swap, value)


def _is_secret(value: str, name: _Name) -> bool:
    """Say whether a whole value is a secret, by what its name says and by what it looks like."""
    if name == _Name.ALWAYS:
        return bool(value) and not value.startswith("[redacted:")
    if name not in (_Name.WEAK, _Name.STRONG) or len(value) < _SHORTEST:
        return False
    text = value.strip()
    if _NUMBER.fullmatch(text) or _PLACEHOLDER.fullmatch(text) or _ADDRESS.match(text) or text[:1] in ("{", "["):
        return False
    if _PATH.fullmatch(text) and not _BLOB.fullmatch(text):
        return False
    if name == _Name.WEAK:
        return bool(_RANDOM.fullmatch(text)) and not _KNOWN_ID.fullmatch(text) and _mixed(text)
    return len(text) >= _SHORTEST


def _mixed(text: str) -> bool:
    """Say whether a text is put together like a random one: both cases, or many digits between letters."""
    both = any(c.islower() for c in text) and any(c.isupper() for c in text)
    turns = sum(a.isdigit() != b.isdigit() for a, b in itertools.pairwise(text))
    return turns >= (3 if both else 6)


def _label(value: Mapping[str, Any]) -> str | None:
    """Return the name in {"key": NAME, "value": ...}, the way that lists of pairs are written."""
    if "value" in value:
        for key in ("key", "name"):
            if isinstance(value.get(key), str):
                return str(value[key])
    return None


def _substitute(pattern: re.Pattern[str], text: str, group: int, swap: Callable[[str], str]) -> str:
    def replace(hit: re.Match[str]) -> str:
        start, end = hit.start(group) - hit.start(), hit.end(group) - hit.start()
        return hit[0][:start] + swap(hit[group]) + hit[0][end:]

    return pattern.sub(replace, text)


def _step(path: str, name: str) -> str:
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        return f"{path}.{name}" if path else name
    quoted = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"{path}['{quoted}']"


def _policy(rules: Sequence[secret_patterns.Rule], keys: Sequence[str], allow: Sequence[str]) -> str:
    """Digest everything that decides what is replaced: another policy is another normalisation epoch."""

    def parts() -> Iterator[str]:
        yield f"{secret_patterns.VERSION} detect-secrets {version('detect-secrets')}"
        for rule in rules:
            yield f"{rule.name} {rule.group} {rule.pattern.flags} {rule.pattern.pattern}"
        yield from (
            secret_patterns.STRONG_NAME.pattern,
            secret_patterns.WEAK_NAME.pattern,
            secret_patterns.ABOUT.pattern,
            secret_patterns.ENVIRONMENT.pattern,
            secret_patterns.ENVIRONMENT_NAME.pattern,
        )
        yield from (secret_patterns.ASSIGNMENT.pattern, _PLACEHOLDER.pattern, _RANDOM.pattern, _KNOWN_ID.pattern)
        yield from ("keys", *keys, "allow", *allow)

    return hashlib.sha256("\0".join(parts()).encode()).hexdigest()[:16]
