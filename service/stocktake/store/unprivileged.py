"""Running Postgres where we are root: it refuses to be, and nobody's folders shall be opened up for that.

First choice: a user namespace in which we, root outside, are an ordinary user inside. Files stay root's, nothing is
created, chowned or chmodded. Where the kernel or the container forbids that, the programs run as an existing
unprivileged user (postgres, else nobody): the database's own folder is given to that user, and a folder above that it
may not cross is reported, never changed.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stocktake.core.errors import ConfigError

# Enters the namespace as user argv[1], group argv[2], then becomes argv[3:]. A process of its own, because unshare
# wants a single thread. Mapping one's own id needs no privilege; setgroups must be given up before mapping the group.
_ENTER = """
import ctypes, os, sys
uid, gid, outer, group = int(sys.argv[1]), int(sys.argv[2]), os.geteuid(), os.getegid()
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x10000000):
    raise OSError(ctypes.get_errno(), "unshare")
for name, words in (("setgroups", "deny"), ("uid_map", f"{uid} {outer} 1"), ("gid_map", f"{gid} {group} 1")):
    with open(f"/proc/self/{name}", "w") as file:
        file.write(words)
os.execv(sys.argv[3], sys.argv[3:])
"""
_USERS = ("postgres", "nobody", "daemon")


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """How to call a program so that it does not run as root."""

    binaries: Path
    prefix: tuple[str, ...] = ()
    user: pwd.struct_passwd | None = None  # set where programs run as another user: what they write to is theirs

    def command(self, program: str, *arguments: str) -> list[str]:
        """Return the whole command line of one of Postgres' programs."""
        return [*self.prefix, str(self.binaries / program), *arguments]

    def own(self, folder: Path) -> None:
        """Give a folder of ours to the user that the programs run as."""
        if self.user is not None:
            os.chown(folder, self.user.pw_uid, self.user.pw_gid)


def runner(binaries: Path, home: Path) -> Runner:
    """Say how to run the programs in `binaries` on data below `home`, which exists. Raises ConfigError."""
    if os.geteuid() != 0:
        return Runner(binaries=binaries)
    user = _user()
    prefix = (sys.executable, "-I", "-S", "-c", _ENTER, str(user.pw_uid), str(user.pw_gid))
    if _works([*prefix, str(binaries / "postgres"), "--version"]):
        return Runner(binaries=binaries, prefix=prefix)
    return as_user(user, binaries, home)


def as_user(user: pwd.struct_passwd, binaries: Path, home: Path) -> Runner:
    """Say how to run as an existing user. Raises ConfigError when that user cannot reach the data."""
    for folder in home.parents:
        if not folder.stat().st_mode & stat.S_IXOTH:
            raise ConfigError(
                f"We run as root, which Postgres refuses to, and the user {user.pw_name} may not enter {folder}. Run"
                " stocktake as an ordinary user, or let STOCKTAKE_DATA_DIR name a folder that all users may cross"
                " (such as /var/lib/stocktake), or name a database server under `database`."
            )
    if any(not folder.stat().st_mode & stat.S_IXOTH for folder in binaries.parents):
        binaries = _reachable(binaries, home)
    code = "import os,sys;g,u=int(sys.argv[1]),int(sys.argv[2]);os.setgroups([]);os.setgid(g);os.setuid(u);"
    code += "os.chdir('/');os.execv(sys.argv[3],sys.argv[3:])"
    prefix = (sys.executable, "-I", "-S", "-c", code, str(user.pw_gid), str(user.pw_uid))
    found = Runner(binaries=binaries, prefix=prefix, user=user)
    found.own(home)
    return found


def _user() -> pwd.struct_passwd:
    known = {entry.pw_name: entry for entry in pwd.getpwall() if entry.pw_uid != 0}
    if not known:
        raise ConfigError(
            "We run as root, which Postgres refuses to, and this system has no other user. Run stocktake as an"
            " ordinary user, or name a database server under `database`."
        )
    return next((known[name] for name in _USERS if name in known), next(iter(known.values())))


def run_apart(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[Any]:
    """Run a program in a session of its own: a terminal's Ctrl-C is for us, and a program that it ended would look as
    if it had failed. Between the fork and the new session it can still be hit: it never began, and is run again."""
    done = subprocess.run(command, check=False, start_new_session=True, **options)
    if done.returncode == -signal.SIGINT:
        done = subprocess.run(command, check=False, start_new_session=True, **options)
    return done


def _works(command: Sequence[str]) -> bool:
    try:
        return run_apart(command, capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _reachable(binaries: Path, home: Path) -> Path:
    """Put the programs where another user can reach them: links where possible, else copies (40 MB)."""
    install, package = binaries.parent, binaries.parents[1]
    # A wheel keeps its shared libraries in a folder beside the package, and the programs look for them from where they
    # are themselves: both keep their places.
    libraries = package.with_name(package.name + ".libs")
    target = home / f"programs-{binaries.stat().st_mtime_ns:x}"
    if not target.exists():
        draft = home / f".programs.{os.getpid()}"
        shutil.rmtree(draft, ignore_errors=True)
        for source, place in ((install, draft / package.name / install.name), (libraries, draft / libraries.name)):
            if source.is_dir():
                left = shutil.ignore_patterns("include")
                shutil.copytree(source, place, symlinks=True, ignore=left, copy_function=_link)
        draft.rename(target)
    return target / package.name / install.name / binaries.name


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
