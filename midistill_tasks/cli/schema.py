"""`midistill schema`: the JSON schemas of what programs may read."""

from __future__ import annotations

import argparse

HELP = "the JSON schemas of what we add to results and samples, and of report.json"
EPILOG = """\
  metadata   configs.<task>.metadata.midistill of a results_<date>.json
  sample     doc of a line of samples_mia_<attack>_<split>_<date>.jsonl
  report     report.json of `midistill report --json`
All carry a schema_version. Under one number a key is never taken away or given another meaning; new ones may come.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = HELP, EPILOG
    parser.add_argument("what", nargs="?", choices=["metadata", "sample", "report"], help="one alone; all by default")


def run(args: argparse.Namespace) -> int:
    """Prints one schema, or an object of all."""
    import json

    from pydantic import BaseModel

    from midistill_tasks.report.machine import Report
    from midistill_tasks.results.schema import SCHEMA_VERSION, Sample, TaskMetadata

    models: dict[str, type[BaseModel]] = {"metadata": TaskMetadata, "sample": Sample, "report": Report}
    schemas = {name: model.model_json_schema() for name, model in models.items()}
    print(json.dumps(schemas[args.what] if args.what else {"schema_version": SCHEMA_VERSION, **schemas}, indent=2))
    return 0
