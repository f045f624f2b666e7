"""`midistill score`: the statistics of a large split, in shards, over processes and machines."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midistill_tasks.errors import InputError
from midistill_tasks.stats.command import WORKER

if TYPE_CHECKING:
    from midistill_tasks.shards.job import Job

HELP = "score a large split in shards, over processes and machines; `midistill attack` joins them"
EPILOG = """\
examples:
  midistill score files --model hf --model_args pretrained=MODEL --batch_size 8 --shards 16 --output stats \\
    --metadata '{"mia": {"members": "a.jsonl", "nonmembers": "b.jsonl"}}'
  midistill attack stats --output results && midistill report results
The same command goes on after any interruption: a shard that is there is not made again. It may run on several machines
at once, if they share the folder: each takes shards that nobody else is at. Or let it start the processes:
  … --jobs 2             here, two at a time; each loads the model once and takes one shard after another
  … --executor ray       on a Ray cluster (RAY_ADDRESS), a process for each GPU, or for each CPU where there is no GPU
A document is never divided between shards; shots and token frequencies are those of the whole split. Memory grows with
a shard: take some thousand texts each. By hand, one shard is a run of the harness that says which:
  lm_eval --tasks mia_files … --metadata '{"mia": {…, "shard": "3/16", "save_stats": "stats"}}'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = HELP, EPILOG
    parser.add_argument("task", help="a split, such as bios (its group mia_bios), a MIA task or group, or a YAML file")
    parser.add_argument("--model", default="hf", help="as lm_eval's [hf]")
    parser.add_argument("--model_args", default="", metavar="A=B,…", help="as lm_eval's: pretrained=…")
    parser.add_argument("--batch_size", default="1", metavar="N", help="as lm_eval's [1]")
    parser.add_argument("--device", default="cuda:0", help="as lm_eval's [cuda:0; the CPU where there is none]")
    parser.add_argument("--include_path", metavar="FOLDER", help="as lm_eval's: of your own YAML")
    parser.add_argument("--metadata", default="{}", metavar="JSON", help="as lm_eval's: options under 'mia'")
    parser.add_argument("--shards", type=int, required=True, metavar="N", help="into how many parts the split is cut")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="of the statistics, as save_stats names it")
    parser.add_argument("--executor", choices=["local", "ray"], help="score in processes of their own, there")
    parser.add_argument("--jobs", type=int, metavar="N", help="so many at a time [1; on Ray one a GPU or CPU]")
    parser.add_argument(WORKER, type=int, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Scores, and says what to do with it; 1 where a shard is missing."""
    import sys

    from midistill_tasks.cli.console import logged
    from midistill_tasks.shards.score import score
    from midistill_tasks.shards.worker import Worker

    job = _job(args)
    logs = Path(job.output) / "logs" / f"worker-{args.worker}" if args.worker else Path(job.output)
    with logged(logs):
        if args.worker:
            Worker(job, job.load(job.all[0])).run()
            return 0
        failed = score(job, args.executor, args.jobs, sys.argv[1:])
    for name, reason in failed.items():
        print(f"failed: {name}, {reason}")
    if not failed:
        print(f"All {job.shards} shards are there: midistill attack {args.output}")
    return int(bool(failed))


def _job(args: argparse.Namespace) -> Job:
    from lm_eval.utils import simple_parse_args_string

    from midistill_tasks.shards.job import Job

    return Job(
        task=args.task,
        model=args.model,
        model_args=simple_parse_args_string(args.model_args),
        batch_size=args.batch_size,
        device=args.device,
        include_path=args.include_path,
        metadata=_metadata(args.metadata),
        shards=args.shards,
        output=args.output,
    )


def _metadata(text: str) -> dict[str, Any]:
    import json

    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InputError(f'--metadata {text}: give JSON, such as \'{{"mia": {{"n": 1000}}}}\'')
    return found
