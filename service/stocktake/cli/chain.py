"""`stocktake evidence head` and `verify`: the head of the chain, and the check of a bundle or of the database."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stocktake.cli.exits import ExitCode, Stop
from stocktake.cli.render import clean, say
from stocktake.cli.session import AskedOption, Session, known, session
from stocktake.cli.times import exact

if TYPE_CHECKING:
    from stocktake.reports.evidence_check import Verdict
    from stocktake.store.chain_check import Checked


def head(
    context: typer.Context,
    publish: Annotated[
        bool, typer.Option("--publish", help="Also publish it now to where the configuration says (`evidence`).")
    ] = False,
) -> int:
    """Print the head of the chain: one digest that binds all that was ever published, and those of each workspace.

    One line of JSON. Kept where nobody can rewrite it, it shows later that nothing before it was altered or cut out:
    `evidence verify --heads FILE`. The worker publishes one a day where `evidence` in the configuration says so.
    """
    from stocktake.core.chain import salt_key
    from stocktake.making import head_container
    from stocktake.reports import heads
    from stocktake.wiring import key_of

    current = session(context)
    settings = current.settings()
    if publish and not settings.evidence.published:
        raise Stop(ExitCode.USAGE, "There is no place to publish to. Name one under `evidence:` in the configuration.")
    with current.engine(settings) as engine:
        made = heads.head(engine, salt_key(key_of(engine, settings, os.environ)))
    sys.stdout.write(made.line.decode())
    if publish:
        wanted = settings.evidence
        container = head_container(wanted.container, os.environ) if wanted.container is not None else None
        try:
            heads.publish(made, wanted.file, container)
        except OSError as exc:
            raise Stop(ExitCode.REFUSED, f"{clean(str(wanted.file))} cannot be written: {exc.strerror}.") from exc
        current.tell("Published.")
    return ExitCode.COMPLETE


HeadsOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--heads",
        metavar="FILE",
        help="Heads that were published, or a folder of such files; may be repeated. [default: `evidence.file` of the"
        " configuration, when the database is checked]",
    ),
]


def verify(
    context: typer.Context,
    bundle: Annotated[
        Path | None, typer.Argument(metavar="[BUNDLE]", help="A bundle. Without one, the database is checked.")
    ] = None,
    published: HeadsOption = None,
    workspace: AskedOption = None,
) -> int:
    """Check a bundle, or the chain in the database against all that stands there.

    A bundle is checked with nothing but the bundle: that no file of it was altered, and that every state, change and
    row of the ledger in it belongs to its chain. With --heads it is also seen that this is the chain that was
    published. Without a bundle every link, state, change and row of the ledger is checked. Exits with 10 when
    something was altered, added or cut out; with 3 when nothing was, but there is something that nothing vouches for:
    what is older than the chain, or newer than the last head of a bundle that was published.
    """
    current = session(context)
    wrong = list[str]()
    if bundle is not None:
        given = _heads(published or (), wrong)
        return _bundle(bundle, given, wrong, asked=bool(published))
    return _database(current, published, workspace, wrong)


def _heads(files: Sequence[Path], wrong: list[str]) -> Mapping[str, Mapping[int, str]]:
    from stocktake.reports.evidence_check import heads_of

    def lines() -> Iterator[str]:
        for one in files:
            for path in sorted(one.rglob("*.jsonl")) if one.is_dir() else [one]:
                with path.open(errors="replace") as file:
                    yield from file

    try:
        found = heads_of(lines(), lambda what: wrong.append(f"published heads, {what}"))
    except OSError as exc:
        raise Stop(ExitCode.REFUSED, f"{clean(str(exc.filename))} cannot be read: {exc.strerror}.") from exc
    if files and not found and not wrong:
        raise Stop(ExitCode.REFUSED, "There is no published head in what --heads names.")
    return found


def _bundle(path: Path, given: Mapping[str, Mapping[int, str]], wrong: list[str], *, asked: bool) -> int:
    from stocktake.reports.evidence_check import check

    if not path.is_file():
        raise Stop(ExitCode.REFUSED, f"There is no file {clean(str(path))}.")
    done = check(path, given)
    wrong += done.wrong
    if wrong:
        return _wrong(wrong, "This bundle is not as it was made")
    about = done.about
    asset = about["asset"]
    sys.stdout.write(
        f"{asset['kind']} {clean(str(asset['key']))} in {clean(str(about['workspace']))}, as of {about['as_of']}:"
        f" nothing was altered. {done.members:,} rows are in its chain of {done.links:,} links.\n"
    )
    if done.head is not None:
        sys.stdout.write(f"Head of the chain: {done.head[0]} {done.head[1]}\n")
    return _unsure(done, given.get(about["workspace"], {}) if asked else None)


def _unsure(done: Verdict, heads: Mapping[int, str] | None) -> int:
    """What is not certain of a bundle in which nothing is wrong. `heads`: those of its workspace that were published,
    by their links; None: nobody asked."""
    code, asked = ExitCode.COMPLETE, heads is not None
    if done.before:
        say(f"{done.before:,} rows are older than the chain: nothing vouches for those.")
        code = ExitCode.PARTIAL
    if done.waiting:
        say(f"What later passes added to {done.waiting:,} rows of the ledger is not in the chain yet.")
        code = ExitCode.PARTIAL
    if asked and done.anchored is None:
        if not heads:
            say("No head of this workspace was published in what --heads names: nothing shows that it is this chain.")
        else:
            say(
                f"The heads that were published are of later links (from {min(heads)} on) than the {done.links} of this"
                " bundle: nothing shows yet that it is the chain of then. Name an older head, or a younger bundle."
            )
        code = ExitCode.PARTIAL
    elif asked and done.unanchored:
        say(
            f"The newest published head is link {done.anchored}; {done.unanchored:,} rows are in later links. A head"
            " that is published later will cover them."
        )
        code = ExitCode.PARTIAL
    elif asked:
        sys.stdout.write(f"Covered by the published head at link {done.anchored}.\n")
    else:
        say("Whether this is the chain that was published is not checked: --heads FILE does.")
    return code


def _database(
    current: Session, published: Sequence[Path] | None, workspace: Sequence[str] | None, wrong: list[str]
) -> int:
    from stocktake.core.chain import salt_key
    from stocktake.store import chain_check
    from stocktake.store.history import workspace_names
    from stocktake.wiring import key_of

    settings = current.settings()
    ours = settings.evidence.file
    files = published or ([ours] if ours is not None and ours.exists() else ())
    given = _heads(files, wrong)
    done: list[Checked] = []
    with current.engine(settings) as engine:
        key = salt_key(key_of(engine, settings, os.environ))
        with engine.connect() as connection:
            known(workspace, workspace_names(connection))
            every = chain_check.workspaces(connection)
        gone = sorted(set(given) - {name for _, name in every}) if not workspace else []
        wrong += [f"{clean(name)}: was published, and is gone from the database" for name in gone]
        for wid, name in every:
            if workspace and name not in workspace:
                continue
            with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
                with connection.begin():
                    one = chain_check.check(connection, wid, name, key, given.get(name, {}))
                connection.invalidate()  # its temporary table goes with the session
            done.append(one)
            _tell(one)
            wrong += [f"{clean(name)}: {clean(problem.where)} {clean(problem.what)}" for problem in one.problems]
            if one.wrong > len(one.problems):
                wrong.append(f"{clean(name)}: and {one.wrong - len(one.problems):,} more")
    if wrong:
        return _wrong(wrong, "What stands in the database is not what was published")
    if not given:
        say("No published head was given: rows cut off at the end, or a chain made anew, would not be seen (--heads).")
    return ExitCode.PARTIAL if any(one.before or not one.links for one in done) else ExitCode.COMPLETE


def _tell(one: Checked) -> None:
    if not one.links:
        sys.stdout.write(f"{clean(one.workspace)}: no chain yet.\n")
        return
    parts = [f"{one.states:,} states", f"{one.changes:,} changes", f"{one.scans:,} scans"]
    parts += [f"{one.dropped:,} dropped by retention"] if one.dropped else []
    parts += [f"{one.redacted:,} redacted"] if one.redacted else []
    since = f" since {exact(one.since)}" if one.since else ""
    sys.stdout.write(f"{clean(one.workspace)}: {one.links:,} links{since}; {', '.join(parts)}. Head {one.head}\n")
    if one.before:
        say(f"{clean(one.workspace)}: {one.before:,} rows are older than the chain: nothing vouches for those.")
    if one.waiting:
        say(f"{clean(one.workspace)}: what the last equal passes added is taken in with the next event, or head.")


def _wrong(wrong: Sequence[str], what: str) -> int:
    for one in wrong[:50]:
        sys.stdout.write(f"{clean(one)}\n")
    say(f"{what}: {len(wrong):,} things are wrong." if len(wrong) > 1 else f"{what}.")
    return ExitCode.ALTERED
