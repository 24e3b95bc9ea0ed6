"""What a secret looks like: patterns of values, and names of which the values are secrets.

Most patterns are those of detect-secrets, without its entropy detectors and its keyword detector: they flag learning
rates, commits and run ids. A cheap filter over the bytes of a document decides which are looked at closely; whatever it
lets pass holds nothing that a rule or a name would find (a property test tries to break that).
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

import re2

#: Raise it when a rule, a name or the way of replacing changes: it starts a new normalisation epoch.
VERSION = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A pattern of secrets inside a text. `group` is what is replaced (0: the whole match)."""

    name: str
    pattern: re.Pattern[str]
    group: int = 0


_WORDISH = r"[A-Za-z0-9_\-]*"  # a library pattern of fixed length leaves the rest of a longer token standing: take it

# Patterns taken from detect-secrets: module, class, rule name, and what must stand to the left.
_LIBRARY = (
    ("aws", "AWSKeyDetector", "aws-access-key", r"(?<![A-Za-z0-9+/])"),
    ("discord", "DiscordBotTokenDetector", "discord-token", r"(?<![A-Za-z0-9_\-])"),
    ("github_token", "GitHubTokenDetector", "github-token", ""),
    ("gitlab_token", "GitLabTokenDetector", "gitlab-token", ""),
    ("mailchimp", "MailchimpDetector", "mailchimp-key", r"(?<![A-Za-z0-9])"),
    ("openai", "OpenAIDetector", "ai-key", ""),
    ("pypi_token", "PypiTokenDetector", "pypi-token", ""),
    ("sendgrid", "SendGridDetector", "sendgrid-key", ""),
    ("slack", "SlackDetector", "slack-token", ""),
    ("square_oauth", "SquareOAuthDetector", "square-secret", ""),
    ("stripe", "StripeDetector", "stripe-key", ""),
)
# These two are so plain that they must stand alone, or digests would match.
_ALONE = (
    ("telegram_token", "TelegramBotTokenDetector", "telegram-token"),
    ("twilio", "TwilioKeyDetector", "twilio-key"),
)

# Names whose values are secrets whatever they look like. One separator at most, so that the cheap filter finds them.
_SEPARATOR = r"[ _.\-]?"
_STRONG = (
    r"passwords?|passwd|passphrase|pwd|secrets?|api{s}keys?|access{s}keys?|account{s}keys?|private{s}keys?"
    r"|storage{s}keys?|encryption{s}keys?|signing{s}keys?|subscription{s}keys?|shared{s}keys?|connection{s}strings?"
    r"|conn{s}str|auth{s}token|access{s}token|refresh{s}token|bearer{s}token|api{s}token|session{s}token"
    r"|security{s}token|sas{s}token|id{s}token|private{s}token"
).replace("{s}", _SEPARATOR)
# Names whose values are secrets only where they look random: eos_token, token and credential name other things too.
_WEAK = r"credentials?|bearer|authorization"

# Applied to names in which camelCase is already split.
STRONG_NAME = re.compile(rf"(?:^|[^a-z0-9])(?:{_STRONG})(?![a-z0-9])", re.IGNORECASE | re.ASCII)
WEAK_NAME = re.compile(rf"(?:^|[^a-z0-9])(?:(?:{_WEAK})(?![a-z0-9])|(?:token|sas)\Z)", re.IGNORECASE | re.ASCII)
# Below `environmentVariables` a name is meant for a process, and one that ends so is a credential: HF_TOKEN, MY_KEY.
ENVIRONMENT = re.compile(r"environment_?variables", re.IGNORECASE | re.ASCII)
ENVIRONMENT_NAME = re.compile(
    r"(?:tokens?|secrets?|passwords?|(?:^|[^a-z0-9])(?:keys?|sas|pwd|pw))\Z", re.IGNORECASE | re.ASCII
)
# The name ends in a word that says it is about a secret, not the secret: secret_name, password_length, token_type.
ABOUT = re.compile(
    r"[^a-z0-9](?:names?|scopes?|types?|kind|providers?|paths?|file|files|filename|dir|folder|env|var|variable|id|ids"
    r"|len|length|size|count|num|limit|expiry|expires|expiration|ttl|policy|versions?|rotation|enabled|required|mode"
    r"|method|source|ref|reference|field|column|strategy|budget|usage|ratio|prob|probability|loss|accuracy|score)\Z",
    re.IGNORECASE | re.ASCII,
)
CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

#: An assignment inside a text: `--password ...`, `Pwd=...;`, `{'api_key': '...'}`.
ASSIGNMENT = re.compile(
    rf"""(?:{_STRONG})[\\"']*(?P<mark>\s*[=:]\s*|\s+)"""
    r"""(?:(?P<open>\\*["'])(?P<quoted>(?:(?!(?P=open)).){{6,1000}}?)(?P=open)|(?P<bare>[^\s"'\\,;&<>{{}}()]{{6,}}))""".format(),
    re.IGNORECASE | re.ASCII,
)

_OWN = (
    ("jwt", 0, r"eyJ[A-Za-z0-9_\-]{6,}={0,2}\.[A-Za-z0-9_\-=]{6,}(?:\.[A-Za-z0-9_\-.+/=]*)?"),
    (
        "private-key",
        0,
        r"(?:-----)?BEGIN [A-Z0-9 ]*PRIVATE KEY(?s:.*?)(?:END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?(?:-----)?|\Z)",
    ),
    ("private-key", 0, r"PuTTY-User-Key-File-[0-9](?s:.*)"),
    ("url-password", 1, r"""://[^\s:/?#@"'<>\\\[]*:([^\s/?#"'<>\\]+)@(?!sha[0-9]+:)"""),
    ("url-user", 1, r"(?i)https?://((?=[^\s:/?#@]*[0-9])(?=[^\s:/?#@]*[a-z])[A-Za-z0-9_\-~%]{20,})@"),
    ("azure-key", 1, r"(?i)(?:Account|SharedAccess)Key\s*=\s*([A-Za-z0-9+/=%]{16,})"),
    ("sas-signature", 1, r"(?i)(?:(?<![a-z0-9])|(?<=u0026))sig=([A-Za-z0-9%+/=_\-]{16,})"),
    ("signed-url", 1, r"(?i)x-(?:amz|goog)-(?:signature|security-token)=([A-Za-z0-9%+/=_\-.]{16,})"),
    (
        "entra-secret",
        0,
        r"(?<![A-Za-z0-9_~.\-])[A-Za-z0-9_~.\-]{3}[0-9]Q~[A-Za-z0-9_~.\-]{31,34}(?![A-Za-z0-9_~.\-])",
    ),
    ("huggingface-token", 0, r"(?<![A-Za-z0-9])(?:hf_|api_org_)[A-Za-z0-9]{30,}"),
    ("databricks-token", 0, r"dapi[0-9a-f]{32}(?:-[0-9]+)?"),
    ("google-key", 0, r"AIza[0-9A-Za-z_\-]{35}|ya29\.[0-9A-Za-z_\-]{20,}|GOCSPX-[0-9A-Za-z_\-]{20,}"),
    ("github-token", 0, r"github_pat_[A-Za-z0-9_]{22,}"),
    ("npm-token", 0, r"npm_[A-Za-z0-9]{36}"),
    ("slack-token", 0, r"(?:xapp|xoxe|xoxc|xoxd)[.\-][A-Za-z0-9.\-%/+=]{20,}"),
    ("ai-key", 0, r"(?<![A-Za-z0-9])sk-(?:(?:proj|ant|svcacct|admin|or|lf)-[A-Za-z0-9_\-]{20,}|[A-Za-z0-9]{40,})"),
    ("ai-key", 0, r"(?<![A-Za-z0-9])(?:gsk_[A-Za-z0-9]{40,}|r8_[A-Za-z0-9]{37}|nvapi-[A-Za-z0-9_\-]{40,})"),
    ("ai-key", 0, r"(?<![A-Za-z0-9])(?:lsv2_(?:pt|sk)_[0-9a-f]{32}_[0-9a-f]{8,}|wandb_v1_[A-Za-z0-9_]{20,})"),
    ("docker-token", 0, r"dckr_(?:pat|oat)_[A-Za-z0-9_\-]{20,}"),
    ("digitalocean-token", 0, r"do[opr]_v1_[a-f0-9]{64}"),
    ("authorization", 1, r"(?i)\b(?:bearer|basic)[ \t]+((?=[^\s]*[0-9=])[A-Za-z0-9._~+/\-]{16,}={0,2})"),
)

# The cheap filter, one pass over the bytes of a document: RE2 tries all of these at once, at a few nanoseconds a byte,
# where the standard library's expressions took ten times as long one after the other. Every match of a rule or name
# contains one of these, in any case and however the document is written as JSON (an escaped ASCII character, such as
# \u003d for =, may hide anything).
_PROBES = (
    "secret", "credential", "passphrase", "bearer", "authorization", "dapi", "pypi-ag", r"hooks\.slack\.com",
    "passw", "pwd", r"[a-z _.\-]key", r"token(?:[^si]|i[^zs]|i?\z)", "sk-", "sk[0-9a-z]{32}", "[rs]k_live_",
    "eyj", "bkfj", "gh[pousr]_", "npm_", "gsk_", "pat_", "org_", "sv2_", "ckr_", "do[opr]_", "ndb_", "r8_",
    "hf_[a-z0-9]{30}", "gl[df]t-", "gl(?:rt|pat|cbt|imt|ptt|oas|soat|agent)-", "xox[a-z]-", "xapp-", "sq0csp-",
    "-us[0-9]", "gocspx-", "nvapi-", "x-(?:amz|goog)-s", "putty-user", "gr1348941", r"conn(?:ection)?[ _.\-]?str",
    r"basic[ \t\\]", r"sas[\"\\]", "sig=", "[0-9]q~", r"\.[\w\-]{6}\.[\w\-]{27}", r"ya29\.",
    r"sg\.[\w\-]{22}\.", r"xapp\.", r"xox[ecd]\.", r"[0-9]:[\w\-]{35}", r""":\\?/\\?/[^ \t\r\n\f/?#"'<>]*@""",
    r"\\u00[2-7]",
    r"""environment_?variables\\*"(?:[^:]|:\s*(?:[^{n\s]|\{\s*[^}\s]))""",  # one that is not empty
)  # fmt: skip
# Rules that know upper and lower case.
_CASED = r"A(?:[KS]IA|BIA|CCA|3T|Iza|C[a-z0-9]{32})"


def rules() -> tuple[Rule, ...]:
    """Return every rule. The library is imported here: half a second that not every command needs."""
    return (*(Rule(name=n, pattern=re.compile(p, re.ASCII), group=g) for n, g, p in _OWN), *_of_library())


def _of_library() -> Iterator[Rule]:
    for module, detector, name, left in _LIBRARY:
        for found in _denylist(module, detector):
            if "aws." not in found.pattern:  # its second pattern reads names; STRONG_NAME does
                flags = (found.flags & re.IGNORECASE) | re.ASCII
                yield Rule(name=name, pattern=re.compile(f"{left}(?:{found.pattern}){_WORDISH}", flags))
    for module, detector, name in _ALONE:
        for found in _denylist(module, detector):
            flags = (found.flags & re.IGNORECASE) | re.ASCII
            pattern = rf"(?<![A-Za-z0-9_\-])(?:{found.pattern})(?![A-Za-z0-9_\-])"
            yield Rule(name=name, pattern=re.compile(pattern, flags))


def _denylist(module: str, detector: str) -> list[re.Pattern[str]]:
    return list(getattr(importlib.import_module(f"detect_secrets.plugins.{module}"), detector).denylist)


# As a set, which says whether there is a match and not where.
_PROBED = re2.Set.SearchSet()
_PROBED.Add(f"(?i:{'|'.join(_PROBES)})|{_CASED}".encode())
_PROBED.Compile()


def suspicious(raw: bytes) -> bool:
    """Say whether a document could hold anything that a rule or a name finds; never False where one would."""
    return bool(_PROBED.Match(raw))
