"""The configuration's JSON schema, and its reference page, both made from the models so that they cannot drift."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from stocktake.settings.baseline import BaselineFile
from stocktake.settings.models import Settings

_HEAD = """\
# Configuration

<!-- Made by `python -m stocktake.settings --markdown`; a test compares. Change the models, not this page. -->

One YAML file, named by `--config FILE` or `STOCKTAKE_CONFIG`, validated once when a command starts.
`stocktake config check` says what is wrong and in which line; `stocktake config schema` prints its JSON schema, which
editors use to complete it. It begins so, and everything else has a default:

```yaml
database: embedded            # or postgresql://user@host/db; passwords come from the environment, or Entra
workspaces:
  - name: research
    mlflow: {uri: "http://127.0.0.1:5000"}
  - name: archive
    mlflow: {database: "sqlite:////data/mlflow.db"}
  - name: first-tries
    mlflow: {folder: /data/mlruns}
  - name: fraud
    azureml: {subscription: 0a1b2c3d-0000-4000-8000-000000000001, resource_group: ml, workspace: fraud-prod}
discovery:                    # Azure ML workspaces that are found, in place of being named one by one
  - name: platform
    management_group: ml-platform
    tags: [stocktake=yes]
```

Durations are whole numbers with a unit: `90s`, `10m`, `24h`, `7d`, `2w`, `1h30m`. Schedules are durations, or cron in
five fields with the meaning of crontab(5) (0 and 7 are Sunday), in UTC. Unknown keys are refused.

## Environment variables

Secrets come from the environment, never from the file: it is refused when it holds one. Keys that end in `_env` name
a variable. What surrounds a secret there (spaces, the line's end of the file it was mounted from) is no part of it; a
token that HTTP cannot carry is refused. `stocktake` itself reads:

| variable | meaning |
|---|---|
| `STOCKTAKE_CONFIG` | the configuration file, when `--config` is not given |
| `STOCKTAKE_DATA_DIR` | folder of the embedded database and the installation key; else the user's data folder |
| `STOCKTAKE_DATABASE_PASSWORD`, `PGPASSWORD` | password of `database`; the first that is set |
| `STOCKTAKE_REDACTION_KEY` | the installation key (32 bytes, hex or base64); else `installation.key` in the data \
folder, made at first use. Every worker of one database needs the same one |
| `MLFLOW_TRACKING_URI` | without a configuration file: the one server to watch, named after its host; or an \
`mlruns` folder, named after the one it lies in. The server's \
`MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`, or `MLFLOW_TRACKING_TOKEN`, \
`MLFLOW_TRACKING_SERVER_CERT_PATH`, `MLFLOW_TRACKING_INSECURE_TLS` and `MLFLOW_WORKSPACE` are taken too. They are \
never used for the workspaces of a file, so that a token cannot leak to another host |
"""


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of the file."""
    schema = Settings.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "stocktake configuration"}


def markdown() -> str:
    """Return the reference page: every key with its type, default and meaning."""
    return _HEAD + "".join(_section(schema, path) for schema, path in _sections(json_schema()))


_BASELINE_HEAD = """\
# Baseline files

<!-- Made by `python -m stocktake.settings --baseline`; a test compares. Change the models, not this page. -->

A file that `governance.files` names, one or several for a workspace, or for none (waivers and windows alone).
`stocktake baseline check FILE` says what is wrong and in which line. [How to](../how-to/baselines.md).
"""


def baseline_markdown() -> str:
    """Return the reference page of files with baselines."""
    schema = BaselineFile.model_json_schema()
    parts = [_section(part, path) for part, path in _sections(schema) if not path.startswith(("waivers", "windows"))]
    text = _BASELINE_HEAD + "".join(parts)
    for name in ("waivers", "windows"):
        text = text.replace(
            f"list of `{name}[]`", f"list, as [governance.{name}\\[\\]](configuration.md#governance{name})"
        )
    return text


def _sections(schema: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    definitions = schema["$defs"]

    def walk(part: dict[str, Any], path: str) -> Iterator[tuple[dict[str, Any], str]]:
        yield part, path
        for name, field in part["properties"].items():
            target, many = _target(field)
            within = definitions[target]["description"] == part["description"] if target else False  # a tree
            if target and not within and not (path and name == "schedule"):
                yield from walk(definitions[target], f"{path}.{name}".lstrip(".") + ("[]" if many else ""))

    return walk(schema, "")


def _target(field: dict[str, Any]) -> tuple[str | None, bool]:
    """Say which definition a field refers to, and whether there may be many of it."""
    if "$ref" in field:
        return field["$ref"].rpartition("/")[2], False
    if "items" in field and "$ref" in field["items"]:
        return field["items"]["$ref"].rpartition("/")[2], True
    found = (_target(option) for option in field.get("anyOf", ()))
    return next((one for one in found if one[0]), (None, False))


def _section(schema: dict[str, Any], path: str) -> str:
    title = f"`{path}`" if path else "Top level"
    rows = [f"\n## {title}\n\n{schema['description']}\n\n| key | type | default | meaning |\n|---|---|---|---|\n"]
    required = schema.get("required", ())
    for name, field in schema["properties"].items():
        default = "required" if name in required else _default(field)
        words = field.get("description", "").replace("|", "\\|")
        rows.append(f"| `{name}` | {_type(field, path, name)} | {default} | {words} |\n")
    return "".join(rows)


def _default(field: dict[str, Any]) -> str:
    value = field.get("default")
    if value is None:
        return ""
    if _target(field)[0]:
        return "see below" if value != [] else "`[]`"
    return f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value)}`"


def _type(field: dict[str, Any], path: str, name: str) -> str:
    target, many = _target(field)
    if target:
        where = "schedule" if name == "schedule" and path else f"{path}.{name}".lstrip(".") + ("[]" if many else "")
        return f"{'list of ' if many else ''}`{where}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    options = [option for option in field.get("anyOf", ()) if option.get("type") != "null"]
    if options:
        return _type(options[0], path, name)
    if field.get("type") == "array":
        return "list of texts"
    if field.get("type") == "object":
        return "map of texts"
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
    title = field.get("title", "")
    word = title if title.startswith("duration") else words.get(field.get("type", ""), "text")
    low, high = field.get("minimum", field.get("exclusiveMinimum")), field.get("maximum")
    if low is not None and high is not None:
        word += f", {low} to {high}"
    return word


def undocumented() -> list[str]:
    """Return the paths of fields that say nothing about themselves; the tests want none."""
    found = []
    for part, where in _sections(json_schema()):
        found += [f"{where}.{name}" for name, field in part["properties"].items() if not field.get("description")]
    return found
