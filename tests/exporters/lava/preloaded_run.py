"""Runs bundles in forks of one process that has imported lava-dl: executed by Lava's Python, without the package.

Each line of standard input is a JSON list: the file that gets what the run says, and the command line of a `run_bundle.py`. The
answer is a line with its exit code.
"""

import gc
import json
import os
import runpy
import sys


def main():
    from lava.lib.dl import netx  # noqa: F401, takes seconds, once for all runs

    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        log, *command = json.loads(line)
        sys.stdout.flush()
        child = os.fork()
        if not child:
            said = os.open(log, os.O_WRONLY | os.O_CREAT)
            os.dup2(said, 1)
            os.dup2(said, 2)
            sys.argv = command
            runpy.run_path(command[0], run_name="__main__")
            sys.exit()
        status = os.waitpid(child, 0)[1]
        print("code", os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
