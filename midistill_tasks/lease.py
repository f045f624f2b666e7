"""Who works on a folder, as other machines see it: a file in which its holder counts on every few seconds.

Not every file system carries the operating system's lock (`locks`) from one machine to another, and where it does, a
machine that dies may keep it. A lease needs no clock that machines agree on: who finds another machine's watches it,
and takes it if it stands still. A holder that stood still itself, and so was taken for dead, ends at its next count.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

BEAT, DEAD = 5.0, 30.0
"""Seconds between two counts, and without one after which a holder on another machine is dead."""
_LOOK = 0.2


class HeldElsewhereError(Exception):
    """Another machine's process holds the lease, and counts on."""


class Lease:
    """On what the lock beside it is for; that lock is held by this process already, as far as this machine goes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.said: dict[str, Any] = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": datetime.now().isoformat(" ", "seconds"),
            "machine": machine(),
            "lease": uuid.uuid4().hex,
            "count": 0,
        }
        self.released = threading.Event()
        self.counting = threading.Thread(target=self._count_on, daemon=True, name="lease")

    def take(self, wait: bool) -> None:
        """Returns once it is ours.

        Args:
            wait: for a holder that counts on.

        Raises:
            HeldElsewhereError: unless `wait`.
        """
        while not self._create():
            found = _read(self.path)
            if found is None:  # it was given up meanwhile
                continue
            # Of this machine: whoever wrote it had the lock that we have, and is dead.
            if found.get("machine", found.get("host")) in (machine(), socket.gethostname()) or self._stands(found):
                self._set_aside(found)
            elif not wait:
                raise HeldElsewhereError
        self.counting.start()

    def release(self) -> None:
        """Gives it up, where it was taken."""
        if self.counting.is_alive():
            self.released.set()
            self.counting.join()
            if self._is_ours():
                with suppress(OSError):
                    self.path.unlink()

    def _create(self) -> bool:
        try:
            with self.path.open("x", encoding="utf-8") as file:
                json.dump(self.said, file)
        except FileExistsError:
            return False
        return True

    def _stands(self, found: dict[str, Any]) -> bool:
        """Whether what was found there says the same for so long that its writer must be dead."""
        until = time.monotonic() + DEAD
        while time.monotonic() < until:
            time.sleep(_LOOK)
            if _read(self.path) != found:
                return False
        return True

    def _set_aside(self, found: dict[str, Any]) -> None:
        """Removes a dead one's, if this process is the one to do so: two at it could remove what a third has begun.

        That is who first makes a file of the dead one's name. Whoever comes later finds another lease in its place, or
        waits for that file to go.
        """
        turn = self.path.with_name(f"{self.path.name}.{found.get('lease', 'damaged')}")
        try:
            turn.touch(exist_ok=False)
        except FileExistsError:
            until = time.monotonic() + DEAD
            while turn.exists():
                if time.monotonic() > until:  # whose turn it was has died, too
                    turn.unlink(missing_ok=True)
                time.sleep(_LOOK)
            return
        try:
            if _read(self.path) == found:
                self.path.unlink(missing_ok=True)
        finally:
            turn.unlink(missing_ok=True)

    def _count_on(self) -> None:
        while not self.released.wait(BEAT):
            with suppress(OSError):  # a file system that is away for a while: the next count finds out what happened
                if not self._is_ours():
                    os.write(2, f"\n{self.path}: taken by another machine, for which this process was dead\n".encode())
                    os._exit(1)  # at once: a checkpoint on the way out would be in the other's folder
                self.said["count"] += 1
                with self.path.open("r+", encoding="utf-8") as file:  # a new file might take the other's place
                    json.dump(self.said, file)

    def _is_ours(self) -> bool:
        return bool((_read(self.path) or {}).get("lease") == self.said["lease"])


@cache
def machine() -> str:
    """What no other machine that runs is called; locks of the operating system hold within it."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    return socket.gethostname()


def _read(path: Path) -> dict[str, Any] | None:
    """What the file says; None = there is none, {} = it is not (or only about to be) a lease."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
