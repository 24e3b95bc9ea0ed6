"""Where things lie in an `mlruns` folder: experiments, live or in .trash; what lies in them; what lies there besides.

    <id>/meta.yaml  <id>/<run>/meta.yaml  <id>/models/m-*/meta.yaml  <id>/traces/<trace>/trace_info.yaml
    .trash/<id>/...                       models/<registered model>/{meta.yaml,aliases/,version-N/meta.yaml}

Knows names and ids; it must never read params, metrics, tags or artifacts.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stocktake.core.assets import Kind
from stocktake.core.errors import SourceError, Trouble
from stocktake.sources.mlflow_files_items import IN_EXPERIMENT, home_id, meta_id
from stocktake.sources.mlflow_files_reading import META, Folder, Malformed, Remarks, read_map, unreadable

TRASH = ".trash"
REGISTRY = "models"
#: What an experiment's folder holds that is no run.
RESERVED = frozenset({"tags", "datasets", "traces", "models"})
_HEX = re.compile(r"[0-9a-f]{32}")
_NUMBER = re.compile(r"[0-9]{1,20}")  # an experiment's id
_OF_A_RUN = frozenset({"params", "metrics", "tags"})


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of an experiment."""

    id: str
    trash: bool

    @property
    def where(self) -> str:
        """Its path from the root."""
        return f"{TRASH}/{self.id}" if self.trash else self.id


class Layout:
    """One folder, held open from the first question on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._root: Folder | None = None
        self._homes: list[Home] | None = None
        self._by_id = dict[str, list[Home]]()
        #: Runs that lie in no experiment, as `survey` met them.
        self.astray = set[str]()

    @property
    def root(self) -> Folder:
        """The open folder. Raises SourceError when it cannot be opened."""
        if self._root is None:
            try:
                self._root = Folder.open(self.path)
            except OSError as exc:
                raise self._trouble(exc) from exc
        return self._root

    def close(self) -> None:
        """Release it."""
        if self._root is not None:
            self._root.close()

    def _trouble(self, exc: OSError) -> SourceError:
        if exc.errno in (errno.EACCES, errno.EPERM):
            step = "Let the user that runs stocktake read the folder (it never writes)."
            return SourceError(Trouble.PERMISSION, f"{self.path} may not be read", next_step=step)
        if exc.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            what = "is no folder" if exc.errno == errno.ENOTDIR else "is not there"
            step = "Check the path, and that the volume is mounted."
            return SourceError(Trouble.NOT_FOUND, f"{self.path} {what}", next_step=step)
        step = "Check that the volume is mounted and answers; the next scan tries again."
        return SourceError(Trouble.UNREACHABLE, f"{self.path} cannot be read ({exc.strerror})", next_step=step)

    def check(self) -> None:
        """Refuse what is no store: an empty mount point must not look like a store whose runs are all gone."""
        try:
            names = self.root.names()
            if any(self._has_meta(name) for name in names if name != TRASH):
                return
            for parent in (TRASH, REGISTRY):
                if parent in names:
                    with self.root.enter(parent) as folder:
                        if any(_has(folder, name, META) for name in folder.names()):
                            return
        except OSError as exc:
            raise self._trouble(exc) from exc
        raise SourceError(
            Trouble.NOT_FOUND,
            f"{self.path} holds no experiment of MLflow: it is not an mlruns folder, or nothing is mounted there",
            next_step="Name the folder that holds the experiments (with a folder 0 and a .trash), and check the mount.",
        )

    def still_there(self) -> bool:
        """Whether the path still leads to the folder that is open, and that still holds a store."""
        try:
            facts, mine = self.path.stat(), self.root.stat()
            self.check()
        except (OSError, SourceError):
            return False
        return (facts.st_dev, facts.st_ino) == (mine.st_dev, mine.st_ino)

    def homes(self) -> Sequence[Home]:
        """The folders that experiments lie in, live ones first; what `survey` found last."""
        return self.survey(Remarks()) if self._homes is None else self._homes

    def homes_of(self, experiment: str) -> Sequence[Home]:
        """The folders of one id: two where it lies in .trash too."""
        self.homes()
        return self._by_id.get(experiment, ())

    def survey(self, remarks: Remarks) -> Sequence[Home]:
        """Look which experiments there are. Raises SourceError when the folder cannot be listed."""
        found: list[Home] = []
        self.astray = set()
        for trash in (False, True):
            try:
                with self.parent(trash) as folder:
                    found += self._survey(folder, remarks, trash=trash)
            except FileNotFoundError:
                if not trash:
                    raise
            except OSError as exc:
                if not trash:
                    raise self._trouble(exc) from exc
                remarks.problem(TRASH, unreadable(exc))
        self._homes = sorted(found, key=lambda home: (home.trash, len(home.id), home.id))
        self._by_id = {}
        for home in self._homes:
            self._by_id.setdefault(home.id, []).append(home)
        return self._homes

    def _survey(self, folder: Folder, remarks: Remarks, *, trash: bool) -> Iterator[Home]:
        entries = folder.entries()
        for link in entries.links:
            remarks.problem(folder.path(link), "is a link, which is not followed")
        for file in entries.files:
            remarks.note("file that belongs to nothing", folder.path(file))
        for name in entries.folders:
            if not trash and name in (TRASH, REGISTRY):
                continue
            where = folder.path(name)
            try:
                with folder.enter(name) as one:
                    if _HEX.fullmatch(name) and one.has(META):
                        self.astray.add(name)
                        remarks.note("run outside any experiment", where)
                    elif (
                        one.has(META)
                        or _NUMBER.fullmatch(name)
                        or any(self.like_a_run(one, below) for below in one.names())
                    ):
                        yield Home(name, trash)
                    elif self.like_a_run(folder, name):
                        remarks.note("folder of a run outside any experiment", where)
                    else:
                        remarks.note("folder that belongs to nothing", where)
            except FileNotFoundError:
                continue
            except OSError as exc:
                remarks.problem(where, unreadable(exc))

    @contextmanager
    def parent(self, trash: bool) -> Iterator[Folder]:
        """Where live or deleted experiments lie. Raises OSError."""
        if not trash:
            yield self.root
            return
        with self.root.enter(TRASH) as folder:
            yield folder

    @contextmanager
    def home(self, home: Home, below: str = "") -> Iterator[Folder]:
        """Open an experiment's folder, or one of its own folders. Raises OSError."""
        with self.parent(home.trash) as parent, parent.enter(home.id) as folder:
            if not below:
                yield folder
                return
            with folder.enter(below) as inner:
                yield inner

    def exists(self, home: Home) -> bool:
        """Whether an experiment's folder is there. Raises OSError when that cannot be told."""
        try:
            with self.home(home):
                return True
        except FileNotFoundError:
            return False

    def like_a_run(self, folder: Folder, name: str) -> bool:
        """Whether a folder is named like a run, or holds what a run holds."""
        if _HEX.fullmatch(name):
            return True
        try:
            with folder.enter(name) as one:
                return one.has(META) or (name not in RESERVED and bool(_OF_A_RUN & set(one.names())))
        except OSError:
            return False

    def names(self, kind: Kind, home: Home, *, links: bool = False) -> Sequence[str]:
        """The folders of an experiment that may be items of a kind. Raises OSError; one that is not there is empty."""
        below, _, _ = IN_EXPERIMENT[kind]
        try:
            with self.home(home, below) as folder:
                return [name for name in folder.names(links=links) if below or name not in RESERVED]
        except FileNotFoundError:
            return ()

    def twice(self, kind: Kind) -> Mapping[str, Home]:
        """Which home counts for each name that stands in several: the first whose meta.yaml fits its place.

        Names are hashed, so that a million of them take some 60 MB while this runs, and nothing afterwards.
        """
        seen, again = set[int](), set[str]()
        for home in self.homes():
            for name in self._names_or_none(kind, home):
                number = hash(name)
                if number in seen:
                    again.add(name)
                seen.add(number)
        del seen
        if not again:
            return {}
        holders: dict[str, list[Home]] = {}
        for home in self.homes():
            for name in self._names_or_none(kind, home):
                if name in again:
                    holders.setdefault(name, []).append(home)
        return {name: self.right(kind, name, homes) for name, homes in holders.items() if len(homes) > 1}

    def right(self, kind: Kind, name: str, homes: Sequence[Home]) -> Home:
        """Of several folders of one name, the first whose meta.yaml says that it belongs there."""
        return next((home for home in homes if self._fits(kind, name, home)), homes[0])

    def _fits(self, kind: Kind, name: str, home: Home) -> bool:
        below, file, _ = IN_EXPERIMENT[kind]
        try:
            with self.home(home, below) as folder, folder.enter(name) as one:
                meta = read_map(one, file)
                return meta_id(kind, meta) == name and home_id(kind, meta) == home.id
        except (OSError, Malformed):
            return False

    def _names_or_none(self, kind: Kind, home: Home) -> Sequence[str]:
        try:
            return self.names(kind, home)
        except OSError:
            return ()  # its own listing will say so

    def _has_meta(self, name: str) -> bool:
        return _has(self.root, name, META)


def _has(folder: Folder, name: str, file: str) -> bool:
    """Whether a folder in a folder holds a file; one that may not be entered holds something, whatever it is."""
    try:
        with folder.enter(name) as one:
            return one.has(file)
    except FileNotFoundError:
        return False
    except PermissionError:
        return True
