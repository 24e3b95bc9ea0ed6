"""By which rules each workspace is judged: those that are shipped and the operator's own, as the configuration says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path

from sqlalchemy import Engine

from stocktake.core.errors import ConfigError
from stocktake.core.findings import Policy
from stocktake.core.rules import Group, Rule, Severity, StateRule, bound
from stocktake.pipeline import RuleSet
from stocktake.rules import RULES
from stocktake.settings import Settings, WorkspaceSettings
from stocktake.settings.own_rules import Own, Problem, read, rule_files, rule_id
from stocktake.settings.parameters import parameters
from stocktake.store import rule_check

_SHIPPED = {rule.id: rule for rule in RULES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Every rule that there is, with the severity that the configuration gives it."""

    rules: Sequence[Rule]
    lines: Mapping[str, int]  # where the statement of an operator's rule begins in its file
    problems: Sequence[Problem]
    unread: str | None = None  # why the folder of operators' rules could not be looked into

    @property
    def broken(self) -> dict[str, str]:
        """Rules that are there and cannot be asked, and why."""
        whole = {rule.id for rule in self.rules}
        return {one.rule: str(one) for one in reversed(self.problems) if one.rule is not None and one.rule not in whole}


def load(settings: Settings, check: Callable[[StateRule], rule_check.Flaw | None] | None = None) -> Loaded:
    """Read the operator's rules beside those that are shipped; `check` asks the database about each."""
    own: dict[str, Own] = {}
    problems: list[Problem] = []
    unread = None
    files: Sequence[Path] = ()
    if (folder := settings.rules.folder) is not None:
        try:
            files = rule_files(folder)
        except OSError as exc:
            unread = (
                f"rules.folder: {folder} cannot be looked into ({exc.strerror}). Check the path and its permissions;"
                " the findings of your own rules stay as they are until it can."
            )
    for file in files:
        one = examine(file, check)
        if isinstance(one, Problem):
            problems.append(one)
        elif one.rule.id in own or one.rule.id in _SHIPPED:
            other = own[one.rule.id].rule.origin if one.rule.id in own else "stocktake's own"
            problems.append(Problem(file, None, f"there is a rule {one.rule.id} already ({other}). Rename the file"))
        else:
            own[one.rule.id] = one
    rules = [*RULES, *(one.rule for one in own.values())]
    given = settings.rules.severity
    severe = (replace(rule, severity=Severity(given[rule.id])) if rule.id in given else rule for rule in rules)
    return Loaded(
        rules=bound(severe, parameters(settings, None)),
        lines={name: one.line for name, one in own.items()},
        problems=problems,
        unread=unread,
    )


def examine(file: Path, check: Callable[[StateRule], rule_check.Flaw | None] | None = None) -> Own | Problem:
    """Read one file; `check` asks the database whether its statement can be asked."""
    one = read(file)
    if isinstance(one, Problem) or check is None or not isinstance(one.rule, StateRule):
        return one
    flaw = check(one.rule)
    if flaw is None:
        return one
    line = flaw.line + one.line - 1 if flaw.line is not None and file.suffix == ".sql" else None
    return Problem(file, line, flaw.what, rule_id(file))


def refuse_unknown(settings: Settings, loaded: Loaded) -> None:
    """Raise ConfigError where the configuration names a rule that there is not: what it wants would not happen."""
    known = [*(rule.id for rule in loaded.rules), *loaded.broken]
    groups = [str(group) for group in Group]
    wanted = settings.rules
    for key, names, may in (
        ("enable", wanted.enable, [*known, *groups]),
        ("disable", wanted.disable, [*known, *groups]),
        ("severity", wanted.severity, known),
    ):
        for name in names:
            if name not in may and loaded.unread is None:
                close = get_close_matches(name, may, n=1)
                hint = f"Did you mean {close[0]}?" if close else "`stocktake rules list` names them all."
                raise ConfigError(f"rules.{key}: there is no rule {name!r}. {hint}")


def personal(settings: Settings, workspace: WorkspaceSettings | None) -> bool:
    """Whether a workspace is one person's: as the configuration says, else when it is read from a folder or a file."""
    if settings.rules.profile != "auto":
        return settings.rules.profile == "personal"
    mlflow = workspace.mlflow if workspace is not None else None
    return mlflow is not None and (mlflow.folder is not None or (mlflow.database or "").startswith("sqlite"))


def why_off(rule: Rule, settings: Settings, workspace: WorkspaceSettings | None) -> str | None:
    """What switches a rule off for a workspace; None where it is on."""
    wanted = settings.rules
    if rule.id in wanted.disable:
        return "rules.disable"
    if rule.id in wanted.enable:
        return None
    if rule.group in wanted.disable:
        return f"rules.disable: {rule.group}"
    if rule.group in wanted.enable:
        return None
    return "profile personal" if rule.for_teams and personal(settings, workspace) else None


def judged_by(loaded: Loaded, settings: Settings, workspace: WorkspaceSettings | None) -> RuleSet:
    """What a workspace is judged by."""
    off = {rule.id: why for rule in loaded.rules if (why := why_off(rule, settings, workspace)) is not None}
    off |= dict.fromkeys((name for name in loaded.broken if name in settings.rules.disable), "rules.disable")
    return RuleSet(
        rules=bound((rule for rule in loaded.rules if rule.id not in off), parameters(settings, workspace)),
        policy=Policy(stale_after=settings.rules.stale_after, reopen_within=settings.rules.reopen_within),
        timeout=settings.rules.timeout,
        broken={name: why for name, why in loaded.broken.items() if name not in off},
        off=off,
        unread=loaded.unread,
    )


@dataclass(slots=True)
class Ruling:
    """The rules of a running service: read again before each scan, asked of the database once for each text."""

    settings: Settings
    engine: Engine
    _sound: set[str] = field(default_factory=set)
    _told: set[str] = field(default_factory=set)

    def of(self, workspace: WorkspaceSettings) -> tuple[RuleSet, list[str]]:
        """What a workspace is judged by now, and what is wrong with the operator's rules that was not told yet."""
        loaded = load(self.settings, self._check)
        words = [*(str(one) for one in loaded.problems), *([loaded.unread] if loaded.unread else [])]
        news = [one for one in words if one not in self._told]
        self._told = set(words)
        return judged_by(loaded, self.settings, workspace), news

    def _check(self, rule: StateRule) -> rule_check.Flaw | None:
        if rule.statement in self._sound:
            return None
        if (flaw := rule_check.flaw(self.engine, rule)) is None:
            self._sound.add(rule.statement)
        return flaw
