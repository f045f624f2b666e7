"""``python -m midistill_tasks.cli``: for launchers of several processes, which start a module."""

import sys

from midistill_tasks.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
