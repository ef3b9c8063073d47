"""The `lightsweep` command as a process, also `python -m lightsweep`."""

import os
import sys
from contextlib import suppress

from lightsweep.cli import main as cli
from lightsweep.system import supervise


def main() -> None:
    """Run the command line and end the process at once, since torch's clean-up would take a second."""
    try:
        cli.main()
    except SystemExit as end:
        with suppress(OSError):
            sys.stdout.flush()
        with suppress(OSError):
            sys.stderr.flush()
        status = end.code if isinstance(end.code, int) else 1
        supervise.mean(status)
        os._exit(status)


if __name__ == "__main__":
    main()
