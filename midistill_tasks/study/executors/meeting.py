"""What a node is asked before it is given any part; it loads neither torch nor the harness for that."""

from __future__ import annotations

from pathlib import Path

from midistill_tasks import __version__
from midistill_tasks.errors import InputError
from midistill_tasks.files import write_atomically
from midistill_tasks.study.executors import child


def meet(cwd: str, folder: str, name: str, token: str, version: str) -> str:
    """On a node: whether it sees what the driver wrote, with a file beside it; what is wrong, or "".

    Args:
        cwd: where relative paths start.
        folder: below the study's.
        name: of the file to write.
        token: what stands in the driver's.
        version: the driver's of midistill.
    """
    if version != __version__:
        return f"midistill {__version__} is installed there, and {version} here: install one version"
    if not Path(cwd).is_dir():
        return f"there is no folder {cwd} there, where relative paths start: start the study in a shared folder"
    place = Path(cwd) / folder
    if child.read_soon(place / "driver") != token:
        return f"it does not see what is written in {place.parent}: give an output on a folder that all nodes share"
    try:
        write_atomically(place / name, token)
    except InputError as error:
        return str(error)
    return ""
