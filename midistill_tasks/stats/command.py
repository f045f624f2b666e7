"""The command that made a shard: what others, which are missing, are made by."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from midistill_tasks.secrets import redact
from midistill_tasks.splits.shards import Shard

WORKER = "--worker"
"""Behind what a person typed stands this, with a number, where ``midistill score`` began a process of its own."""
_PROGRAMS = {"lm_eval": "lm_eval", "lm-eval": "lm_eval", "midistill": "midistill", "cli": "midistill"}


def command_line() -> str:
    """What a person typed, ``lm_eval …`` or ``midistill …``, without secrets; "" where it was another program."""
    program, *arguments = sys.argv
    name = Path(program).name if Path(program).name != "__main__.py" else Path(program).parent.name
    if name not in _PROGRAMS:
        return ""
    typed = arguments[: arguments.index(WORKER)] if WORKER in arguments else arguments
    return shlex.join(redact([_PROGRAMS[name], *typed]))


def how_to_make(missing: Sequence[Shard], command: str, made: Shard) -> str:
    """What to do about missing shards, where the shard `made` was made by `command`."""
    more = " (and the others likewise)" if missing[1:] else ""
    other, count = re.subn(rf'("shard":\s*"){made}"', rf'\g<1>{missing[0]}"', command)
    if count:
        return f"make shard {missing[0]}{more} by: {other}"
    if command.startswith("midistill score "):
        return f"this makes what is missing: {command}"
    return f'run what made the others with "shard": "{missing[0]}"{more}'
