"""The installation key: what fingerprints of secrets are made with. Lost, equal secrets are no longer recognised."""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from stocktake.core.errors import ConfigError

VARIABLE = "STOCKTAKE_REDACTION_KEY"
_SIZE = 32


def installation_key(data_dir: Path, environ: Mapping[str, str]) -> bytes:
    """Return the key: of the environment, else of the data folder, made there at first use."""
    if text := environ.get(VARIABLE, "").strip():
        return _decode(text, f"The environment variable {VARIABLE}")
    path = data_dir / "installation.key"
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            return _decode(path.read_text("ascii").strip(), str(path))
        except FileNotFoundError:
            return _make(path)
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(
            f"The installation key {path} cannot be read or made: {exc}. Let this user write to the data folder"
            f" (STOCKTAKE_DATA_DIR names another), or set {VARIABLE}."
        ) from exc


def present_key(data_dir: Path, environ: Mapping[str, str]) -> bytes | None:
    """Return the key if there is one here; none is made."""
    if environ.get(VARIABLE, "").strip() or (data_dir / "installation.key").exists():
        return installation_key(data_dir, environ)
    return None


def _make(path: Path) -> bytes:
    """Write a new key beside its place and link it there: whoever comes second takes the first one's."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(_SIZE) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return _decode(path.read_text("ascii").strip(), str(path))


def _decode(text: str, where: str) -> bytes:
    try:
        key = bytes.fromhex(text) if len(text) == 2 * _SIZE else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != _SIZE:
        raise ConfigError(
            f"{where} holds no installation key: {_SIZE} bytes in hex ({2 * _SIZE} characters) or base64 are expected."
            " Put the right one back from a backup; a new one is made with `openssl rand -hex 32`."
        )
    return key
