"""What the parts of the configuration are made of: addresses without secrets, names of variables, patterns."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.json_schema import GenerateJsonSchema

from stocktake.settings.timing import format_duration

_VARIABLE = r"^[A-Z_][A-Z0-9_]{0,79}$"  # capital letters only: a pasted token is not taken for a name, nor repeated
Variable = Annotated[str, Field(pattern=_VARIABLE, examples=["MLFLOW_TRACKING_TOKEN"])]


def password_in_url(value: str) -> bool:
    """Say whether an address carries a secret of its own (user:password@, or ?password=)."""
    try:
        parts = urlsplit(value)
        if parts.password:
            return True
    except ValueError:
        return bool(re.search(r"://[^/@\s]*:[^/@\s]+@", value))
    return any(key.lower() in {"password", "sslpassword", "sig"} and text for key, text in parse_qsl(parts.query))


def address(value: str, schemes: tuple[str, ...], example: str) -> str:
    if password_in_url(value):
        raise ValueError(
            "carries a password. Take it out of the address and give it in an environment variable"
            " (the configuration names the variable, never the value)"
        )
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError as exc:
        raise ValueError(f"is not an address ({exc}). Write for example {example}") from None
    if parts.scheme not in schemes:
        raise ValueError(f"must begin with {' or '.join(f'{s}://' for s in schemes)}. Write for example {example}")
    return value


def _http(value: str) -> str:
    address(value, ("http", "https"), "https://mlflow.example.org")
    parts = urlsplit(value)
    if not parts.hostname:
        raise ValueError("names no host. Write for example https://mlflow.example.org")
    if parts.username:
        raise ValueError("carries a user name. Give it under `username`, and the password in an environment variable")
    if parts.query or parts.fragment:
        raise ValueError("carries a query or a fragment (? or #). Give the address of the server alone")
    return value.rstrip("/")


def _pattern(value: str) -> str:
    try:
        compiled = re.compile(value, re.IGNORECASE)
    except re.error as exc:
        raise ValueError(f"is not a regular expression ({exc}). Python's syntax is used") from None
    if compiled.search(""):
        raise ValueError("matches the empty text, so it would match everything. Make it say what it looks for")
    return value


def _like_dns(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", value):
        raise ValueError("must be small letters, digits and hyphens, and begin and end with a letter or digit")
    return value


Http = Annotated[str, AfterValidator(_http)]
WorkspaceName = Annotated[str, AfterValidator(_like_dns)]
Pattern = Annotated[str, AfterValidator(_pattern)]


class Model(BaseModel):
    """What all parts share: unknown keys are refused, and nothing changes after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the JSON schema, its defaults written the way a person writes them."""
        return super().model_json_schema(*args, **{"schema_generator": _Schema, **kwargs})


class _Schema(GenerateJsonSchema):
    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, timedelta):
            return format_duration(dft)
        return dft.model_dump(mode="json") if isinstance(dft, BaseModel) else super().encode_default(dft)
