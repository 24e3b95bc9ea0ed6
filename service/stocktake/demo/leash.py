"""Runs one command in a process group of its own, and ends that group when whoever started us is gone.

`python -m stocktake.demo.leash COMMAND...` holds its standard input: when that pipe closes, for whatever reason
(a clean stop, kill -9, a crash), the whole group is told to stop, and after a grace period made to. Only the standard
library is imported, so that the leash costs a few megabytes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading

GRACE_SECONDS = 5.0


def _hold(child: subprocess.Popen[bytes]) -> None:
    """Wait for the end of our standard input, then end the group."""
    while os.read(0, 4096):
        pass
    os.killpg(0, signal.SIGTERM)  # we ignore it ourselves
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(GRACE_SECONDS)
    os.killpg(0, signal.SIGKILL)


def main(command: list[str]) -> None:
    """Run the command to its end; whatever of its group outlives it ends too, and this process with it."""
    if os.getpgrp() != os.getpid():
        os.setpgrp()  # also keeps Ctrl-C of the terminal away from the command: we end it when we are done with it
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # first, because an ignored signal is inherited
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_hold, args=(child,), daemon=True).start()
    child.wait()
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
