"""From a file and the environment to Settings, or to one ConfigError that says what, where and what to do.

No message repeats a value that may be the secret that should not be there.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin
from urllib.parse import unquote, urlsplit

import platformdirs
import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from stocktake.core.errors import ConfigError
from stocktake.settings.fields import password_in_url
from stocktake.settings.models import Settings

Path_ = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)
_SECRET_KEY = re.compile(
    r"(^|_)(password|passwd|pwd|token|secret|api_?key|access_?key|account_?key|connection_?string|credentials?)s?$"
)
_MLFLOW = "the environment variable MLFLOW_TRACKING_URI"


def load_settings(config: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the configuration: of `config`, else of STOCKTAKE_CONFIG, else of MLFLOW_TRACKING_URI, else the defaults."""
    environ = os.environ if environ is None else environ
    if config is None and environ.get("STOCKTAKE_CONFIG"):
        config = Path(environ["STOCKTAKE_CONFIG"])
    if config is not None:
        settings = _from_file(config.expanduser())
    elif environ.get("MLFLOW_TRACKING_URI"):
        settings = validated(Settings, _from_mlflow(environ), _MLFLOW, {})
    else:
        settings = Settings()
    settings._data_dir = data_dir(environ)
    settings._file = config
    return settings


def data_dir(environ: Mapping[str, str]) -> Path:
    """Return the data folder: STOCKTAKE_DATA_DIR, else the user's data folder."""
    if chosen := environ.get("STOCKTAKE_DATA_DIR"):
        return Path(chosen).expanduser().absolute()
    return Path(platformdirs.user_data_dir("stocktake", appauthor=False))


def _from_file(file: Path) -> Settings:
    data, lines = read_yaml(file, missing="Check --config or STOCKTAKE_CONFIG.")
    return validated(Settings, data, str(file), lines)


def read_yaml(file: Path, *, missing: str) -> tuple[Mapping[str, Any], Mapping[Path_, int]]:
    """Read a map of keys without secrets, and the line of each of its parts. Raises ConfigError."""
    try:
        text = file.read_text("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{file}: there is no such file. {missing}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: is not text in UTF-8. Save it as UTF-8.") from None
    except OSError as exc:
        raise ConfigError(f"{file}: cannot be read ({exc.strerror}). Check its permissions.") from exc
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        lines: dict[Path_, int] = {}
        problems = list(_nodes(node, (), lines)) if node is not None else []
        data = yaml.safe_load(text)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = (exc.problem or exc.context or "cannot be understood").removeprefix("while ")
        hint = " Indent with spaces, not tabs." if "'\\t'" in what or "\\t" in what else ""
        words = f"is not valid YAML: {what}.{hint} Check that line and the one above."
        raise ConfigError(f"{file}{where}: {words}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise ConfigError(f"{file}: is not valid YAML ({type(exc).__name__}). Check it in an editor.") from None
    if data is None:
        data = {}
    if not isinstance(data, Mapping):
        raise ConfigError(f"{file}: must be a map of keys, such as `workspaces:`. See `stocktake config schema`.")
    problems += [(path, message) for path, message in _secrets(data, ())]
    if problems:
        raise _error(str(file), problems, lines, data)
    return data, lines


def _nodes(node: yaml.Node, path: Path_, lines: dict[Path_, int]) -> Iterable[tuple[Path_, str]]:
    """Note the line of every path, and find keys given twice, of which YAML would silently take the last."""
    lines.setdefault(path, node.start_mark.line + 1)
    if len(path) > 20:
        raise RecursionError
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
            if name in seen:
                yield (*path, name), f"is given twice (again in line {key.start_mark.line + 1}). Remove one"
            seen.add(name)
            lines.setdefault((*path, name), key.start_mark.line + 1)
            yield from _nodes(value, (*path, name), lines)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield from _nodes(value, (*path, number), lines)


def _secrets(data: object, path: Path_) -> Iterable[tuple[Path_, str]]:
    """Find secrets that were written into the file, wherever they stand and whether or not the key is known."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            name = str(key).lower().replace("-", "_")
            here = (*path, str(key))
            plain = isinstance(value, str | int) and not isinstance(value, bool) and value
            if plain and _SECRET_KEY.search(name) and not _chosen(path, str(key)):
                hint = _variable_key(path, name)
                yield here, f"holds a secret. Put it into an environment variable{hint}, and change it if it was shared"
            else:
                yield from _secrets(value, here)
    elif isinstance(data, Sequence) and not isinstance(data, str | bytes):
        for number, value in enumerate(data):
            yield from _secrets(value, (*path, number))
    elif isinstance(data, str) and "://" in data and password_in_url(data):
        yield (
            path,
            "carries a password. Take it out of the address and give it in an environment variable"
            + _variable_key(path[:-1], "password"),
        )


def _chosen(parent: Path_, key: str) -> bool:
    """Say whether a key names one of a few words (`credential: entra`), whatever its name sounds like."""
    model = _model_at(parent)
    field = model.model_fields.get(key) if model is not None else None
    return field is not None and get_origin(field.annotation) is Literal


def _variable_key(parent: Path_, name: str) -> str:
    if not parent:
        return " (of the database: STOCKTAKE_DATABASE_PASSWORD or PGPASSWORD)" if name == "password" else ""
    model = _model_at(parent)
    if model is not None and f"{name}_env" in model.model_fields:
        return f" and name that variable under `{name}_env`"
    return ""


def _from_mlflow(environ: Mapping[str, str]) -> dict[str, Any]:
    """Read MLflow's own variables. They are taken for this one server alone, never for the workspaces of a file."""
    uri = environ["MLFLOW_TRACKING_URI"].strip()
    if password_in_url(uri):
        raise ConfigError(
            f"{_MLFLOW} carries a password. Take it out, and give it in MLFLOW_TRACKING_USERNAME and"
            " MLFLOW_TRACKING_PASSWORD (for a database: write a configuration file with `password_env`)."
        )
    scheme = uri.partition(":")[0].lower()
    if re.match(r"(sqlite|postgres(ql)?)\b", scheme):
        inside = {"workspace": environ["MLFLOW_WORKSPACE"]} if environ.get("MLFLOW_WORKSPACE") else {}
        return {"workspaces": [{"name": "mlflow", "mlflow": {"database": uri} | inside}]}
    # MLflow takes a path as it stands for a folder, but for the names of Databricks
    if scheme == "file" or ("://" not in uri and not re.match(r"(databricks|uc)\b", scheme)):
        folder = Path(_path(uri)).expanduser().absolute()
        return {"workspaces": [{"name": _name(folder.parent.name), "mlflow": {"folder": folder}}]}
    if scheme not in ("http", "https"):
        raise ConfigError(
            f"{_MLFLOW} is neither the address of a server nor a folder. Give an http or https address, a database"
            " (sqlite:///... or postgresql://...) or an mlruns folder, or write a configuration file."
        )
    if environ.get("MLFLOW_TRACKING_AWS_SIGV4", "").lower() in ("true", "1"):
        raise ConfigError("MLFLOW_TRACKING_AWS_SIGV4 is set, but signing for AWS is not supported. Unset it.")
    mlflow: dict[str, Any] = {"uri": uri}
    if environ.get("MLFLOW_TRACKING_USERNAME") and environ.get("MLFLOW_TRACKING_PASSWORD"):
        mlflow |= {"username": environ["MLFLOW_TRACKING_USERNAME"], "password_env": "MLFLOW_TRACKING_PASSWORD"}
    elif environ.get("MLFLOW_TRACKING_TOKEN"):
        mlflow |= {"token_env": "MLFLOW_TRACKING_TOKEN"}
    if environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH"):
        mlflow["ca_file"] = environ["MLFLOW_TRACKING_SERVER_CERT_PATH"]
    mlflow["insecure_tls"] = environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1")
    if environ.get("MLFLOW_WORKSPACE"):
        mlflow["workspace"] = environ["MLFLOW_WORKSPACE"]
    return {"workspaces": [{"name": _host_name(uri), "mlflow": mlflow}]}


def _path(uri: str) -> str:
    """The path of a file: address, or of what is a path already."""
    return unquote(urlsplit(uri).path) if uri.lower().startswith("file:") else uri


def _host_name(uri: str) -> str:
    """Make a workspace name of an address: host, and port where it is not the scheme's own."""
    try:
        parts = urlsplit(uri)
        text = "-".join(str(part) for part in (parts.hostname, parts.port) if part)
    except ValueError:
        text = ""
    return _name(text)


def _name(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63].strip("-") or "mlflow"


def validated(model: type[M], data: Mapping[str, Any], source: str, lines: Mapping[Path_, int]) -> M:
    """The values of a model. Raises one ConfigError that names what is wrong, where, and in which line."""
    try:
        return model.model_validate(data)
    except ValidationError as exc:
        problems = [(tuple(error["loc"]), _words(error, model)) for error in exc.errors(include_url=False)]
    raise _error(source, problems, lines, data)


def _error(
    source: str, problems: Sequence[tuple[Path_, str]], lines: Mapping[Path_, int], data: Mapping[str, Any]
) -> ConfigError:
    found = []
    for path, words in problems:
        line = next((lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in lines), None)
        where = f"{_dotted(path) or 'the file'}{f' (line {line})' if line and path else ''}"
        found.append(f"{_whose(path, data)}{where} {words}" + ("" if words.endswith("?") else "."))
    if len(found) == 1:
        return ConfigError(f"{source}: {found[0]}")
    return ConfigError(f"{source}: {len(found)} problems:\n" + "\n".join(f"  - {one}" for one in found))


def _whose(path: Path_, data: Mapping[str, Any]) -> str:
    """Name the workspace that a path lies in, where it has a name that can be one."""
    match path:
        case ("workspaces", int(number), *_):
            try:
                name = data["workspaces"][number]["name"]
            except (LookupError, TypeError):
                return ""
            fits = isinstance(name, str) and re.fullmatch(r"[a-z0-9-]{1,63}", name)
            return f"workspace {name!r}: " if fits else ""
    return ""


def _dotted(path: Path_) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _words(error: ErrorDetails, root: type[BaseModel]) -> str:
    """Say in plain words what pydantic found, and what to do."""
    kind, path, context = error["type"], tuple(error["loc"]), error.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "extra_forbidden":
        model = _model_at(path[:-1], root)
        known = [field.alias or name for name, field in model.model_fields.items()] if model else []
        near = difflib.get_close_matches(str(path[-1]), known, n=1, cutoff=0.6)
        return "is not a known key. " + (f"Did you mean `{near[0]}`?" if near else f"Known: {_list(known)}")
    if kind == "missing":
        return "is missing. Add it"
    if kind == "literal_error":
        return f"must be one of {context.get('expected')}"
    if kind == "string_type":
        return "must be text. Put it in quotes"
    if kind == "string_pattern_mismatch":
        return "must be the name of an environment variable (capital letters, digits and _), not a value"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return "must be a map of keys. Write `key: value` lines below it, indented"
    if kind in ("tuple_type", "list_type"):
        return "must be a list. Write `- ` lines below it"
    return re.sub("^Input should (?:be|have)", lambda hit: "must " + hit[0].rpartition(" ")[2], error["msg"])


def _list(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _model_at(path: Path_, root: type[BaseModel] = Settings) -> type[BaseModel] | None:
    """Find the model that stands at a path of the file."""
    model: type[BaseModel] | None = root
    for part in path:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part) if model else None
        model = next((kind for kind in _types(field and field.annotation) if issubclass(kind, BaseModel)), None)
    return model


def _types(annotation: Any) -> Iterable[type]:
    if isinstance(annotation, type) and not get_args(annotation):
        yield annotation
    for part in get_args(annotation):
        yield from _types(part)
