"""What a valid configuration may still get wrong, seen from this machine: unset variables, files, odd schedules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

from stocktake.settings.alerting import variables
from stocktake.settings.azure import AzureIdentitySettings, AzureMlSettings
from stocktake.settings.environment import secret, unfit
from stocktake.settings.governing import read_all
from stocktake.settings.models import MlflowSettings, Settings
from stocktake.settings.scheduling import ScheduleSettings
from stocktake.settings.timing import period


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that will not work (fatal), or that is probably not meant."""

    path: str
    what: str
    next_step: str
    fatal: bool
    workspace: str | None = None

    def __str__(self) -> str:
        name = f"workspace {self.workspace!r}: " if self.workspace else ""
        return f"{name}{self.path} {self.what}. {self.next_step}."


def check(settings: Settings, environ: Mapping[str, str]) -> list[Problem]:
    """Look at the configuration with the environment it will run in. Nothing is asked over the network."""
    found = [*_database(settings, environ), *_schedule("schedule", settings.schedule, settings)]
    places: dict[tuple[str | None, ...], str] = {}
    which, place = "", tuple[str | None, ...]()
    for number, workspace in enumerate(settings.workspaces):
        path, before = f"workspaces[{number}]", len(found)
        mlflow, azureml = workspace.mlflow, workspace.azureml
        if mlflow is not None:
            which, place = "mlflow", (mlflow.uri or mlflow.database or str(mlflow.folder), mlflow.workspace)
            found += _mlflow(f"{path}.mlflow", mlflow, environ)
        if azureml is not None:
            which, place = "azureml", _azure_place(azureml)
            found += _azureml(f"{path}.azureml", azureml, environ)
        if workspace.schedule is not None:
            found += _schedule(f"{path}.schedule", workspace.schedule, settings)
        if place in places:
            found.append(
                Problem(
                    path=f"{path}.{which}",
                    what=f"is the same place as workspace {places[place]!r}",
                    next_step="Remove one, or everything is scanned and counted twice",
                    fatal=False,
                )
            )
        places.setdefault(place, workspace.name)
        found[before:] = [replace(one, workspace=workspace.name) for one in found[before:]]
    for number, entry in enumerate(settings.discovery):
        found += _azureml(f"discovery[{number}].azureml", entry.azureml, environ)
        if entry.schedule is not None:
            found += _schedule(f"discovery[{number}].schedule", entry.schedule, settings)
    if settings.evidence.container is not None:
        found += _azureml("evidence.container", settings.evidence.container, environ)
    return [*found, *_governance(settings), *_telemetry(settings, environ), *_alerts(settings, environ)]


def _governance(settings: Settings) -> Iterator[Problem]:
    read, wrong = read_all(settings)
    for exc in wrong:
        yield _fatal("governance.files", f"has one that cannot be used: {str(exc).rstrip('.')}", "Correct it")
    names = {one.name for one in settings.workspaces}
    for one in read:
        if (name := one.content.workspace) is not None and name not in names and not settings.discovery:
            yield _odd(one.source("workspace"), f"is about workspace {name!r}, which is not configured", "Correct it")


def _database(settings: Settings, environ: Mapping[str, str]) -> Iterator[Problem]:
    if settings.database_auth == "entra" and settings.database == "embedded":
        yield _odd("database_auth", "is `entra`, which the embedded database does not use", "Leave it out")
    given = any(secret(environ, name) for name in ("STOCKTAKE_DATABASE_PASSWORD", "PGPASSWORD", "PGPASSFILE"))
    host = urlsplit(settings.database).hostname
    if settings.database_auth == "password" and host and not given:
        yield _odd(
            "database",
            "names a host, but neither STOCKTAKE_DATABASE_PASSWORD nor PGPASSWORD is set",
            "Set one, unless the server lets this host in without a password or a .pgpass file has it",
        )


def _mlflow(path: str, mlflow: MlflowSettings, environ: Mapping[str, str]) -> Iterator[Problem]:
    for key in ("password_env", "token_env"):
        name = getattr(mlflow, key)
        if name is not None and (why := unfit(environ, name, token=key == "token_env")):
            yield _fatal(f"{path}.{key}", why, f"Set {name} to the secret alone")
    if mlflow.ca_file is not None and not mlflow.ca_file.is_file():
        yield _fatal(f"{path}.ca_file", "names a file that is not there", "Check the path; it is the authorities' PEM")
    if mlflow.folder is not None and not mlflow.folder.is_dir():
        yield _fatal(f"{path}.folder", "names a folder that is not there", "Check the path, and that it is mounted")
    if mlflow.insecure_tls:
        yield _odd(f"{path}.insecure_tls", "trusts any certificate", "Name the authority under `ca_file` instead")
    if mlflow.database is not None:
        yield from _backend(f"{path}.database", mlflow.database, mlflow.password_env, environ)
    uri = mlflow.uri or ""
    if uri.startswith("http://") and mlflow.auth != "none" and urlsplit(uri).hostname not in _LOOPBACK:
        yield _odd(f"{path}.uri", "sends a secret without encryption", "Use https")


def _azure_place(azureml: AzureMlSettings) -> tuple[str | None, ...]:
    """What two entries must not have in common: Azure tells upper and lower case apart nowhere."""
    cloud = azureml.custom_cloud.resource_manager if azureml.custom_cloud else azureml.cloud
    return cloud, azureml.subscription, azureml.resource_group.casefold(), azureml.workspace.casefold()


def _azureml(path: str, azureml: AzureIdentitySettings, environ: Mapping[str, str]) -> Iterator[Problem]:
    for key in ("client_secret_env", "token_env"):
        name = getattr(azureml, key)
        if name is not None and (why := unfit(environ, name, token=key == "token_env")):
            yield _fatal(f"{path}.{key}", why, f"Set {name} to the secret alone")
    if azureml.ca_file is not None and not azureml.ca_file.is_file():
        yield _fatal(f"{path}.ca_file", "names a file that is not there", "Check the path; it is the authorities' PEM")
    if azureml.client_certificate is not None and not azureml.client_certificate.is_file():
        yield _fatal(
            f"{path}.client_certificate", "names a file that is not there", "Check the path, and that it is mounted"
        )
    if azureml.credential == "workload-identity" and not environ.get("AZURE_FEDERATED_TOKEN_FILE"):
        yield _fatal(
            f"{path}.credential",
            "is `workload-identity`, but AZURE_FEDERATED_TOKEN_FILE is not set",
            "Give the pod the label azure.workload.identity/use and its service account, or name another credential",
        )
    if azureml.credential == "token":
        yield _odd(
            f"{path}.credential",
            "is `token`, which ends within hours unless somebody renews it",
            "Use another credential for a service that runs on its own",
        )
    custom = azureml.custom_cloud
    if custom is not None and custom.authority is None and azureml.credential != "token":
        yield _fatal(f"{path}.custom_cloud.authority", "is not given", "Say where this cloud gives tokens")


def _backend(path: str, url: str, password_env: str | None, environ: Mapping[str, str]) -> Iterator[Problem]:
    if url.startswith("sqlite:"):
        file = Path(unquote(url.removeprefix("sqlite:///").partition("?")[0]))
        if not file.is_file():
            yield _odd(
                path, f"names a file that is not on this machine ({file})", "Four slashes begin an absolute path"
            )
    elif urlsplit(url).hostname and password_env is None and not environ.get("PGPASSFILE"):
        yield _odd(
            path,
            "names a host, but no `password_env` names the variable that holds the password",
            "Add it, unless the server lets this host in without a password or a .pgpass file has it",
        )


_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def _schedule(path: str, schedule: ScheduleSettings, settings: Settings) -> Iterator[Problem]:
    hot, sweep = period(schedule.hot), period(schedule.sweep)
    if sweep < hot:
        yield _odd(f"{path}.sweep", "comes more often than `hot`", "A sweep reads everything: make it the rarer one")
    if hot < timedelta(seconds=30):
        yield _odd(f"{path}.hot", "is shorter than 30 seconds", "The watched server pays for every pass")
    history = settings.retention.history
    if history is not None and history < 2 * sweep:
        yield _fatal(
            "retention.history", f"is shorter than two sweeps of {path}", "Keep more history, or sweep more often"
        )


def _telemetry(settings: Settings, environ: Mapping[str, str]) -> Iterator[Problem]:
    otlp, azure = settings.telemetry.otlp, settings.telemetry.azure_monitor
    if otlp and otlp.headers_env and not secret(environ, otlp.headers_env):
        yield _fatal(
            "telemetry.otlp.headers_env",
            f"names the environment variable {otlp.headers_env}, which is not set",
            f"Set {otlp.headers_env}",
        )
    if azure and not secret(environ, azure.connection_string_env):
        yield _fatal(
            "telemetry.azure_monitor.connection_string_env",
            f"names the environment variable {azure.connection_string_env}, which is not set",
            f"Set {azure.connection_string_env} to the connection string of Application Insights",
        )


def _alerts(settings: Settings, environ: Mapping[str, str]) -> Iterator[Problem]:
    if settings.alerts is None:
        return
    if settings.azure_alerts:
        yield _odd(
            "alerts",
            "tells nobody: with `telemetry.azure_monitor.findings: alert` the alert rules of Azure do",
            "Take one of the two out",
        )
    for path, name in variables(settings.alerts):
        if why := unfit(environ, name, token=not path.endswith((".password_env", ".connection_string_env"))):
            yield _fatal(path, why, f"Set {name} to the secret alone")
    for number, one in enumerate(settings.alerts.receivers):
        given = getattr(one, one.type)
        if (file := getattr(given, "ca_file", None)) is not None and not file.is_file():
            path = f"alerts.receivers[{number}].{one.type}.ca_file"
            yield _fatal(path, "names a file that is not there", "Check the path; it is the authorities' PEM")
        if one.apprise is not None and find_spec("apprise") is None:
            path = f"alerts.receivers[{number}].apprise"
            yield _fatal(path, "needs the package apprise, which is not installed", "pip install apprise")


def _fatal(path: str, what: str, next_step: str) -> Problem:
    return Problem(path=path, what=what, next_step=next_step, fatal=True)


def _odd(path: str, what: str, next_step: str) -> Problem:
    return Problem(path=path, what=what, next_step=next_step, fatal=False)
