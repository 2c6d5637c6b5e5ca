"""Verbs as processes that start at once, so that hundreds can be killed, raced or starved of disk.

A server process imports everything; for each command line it forks a process that runs the command line's `main`.
"""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import braindino

WARM = ("pandas", "torch", "scipy.stats", "scipy.ndimage", "sklearn.linear_model", "lifelines", "matplotlib.pyplot",
        "jinja2", "cv2", "nibabel", "safetensors.torch", "braindino.cli", "braindino.pipeline.demo")  # fmt: skip


class Zygote:
    """Start, kill and await verbs."""

    def __init__(self):
        place = str(Path(braindino.__file__).parents[1])
        settings = {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "PYTHONPATH": place}
        self.server = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | settings,
            text=True,
        )
        assert self._ask("ready") == "yes"

    def start(self, line, log, limit=None):
        """Process id of a command line (words); what it prints goes to the file `log`; `limit` bytes per file."""
        return int(self._ask({"line": [str(word) for word in line], "log": str(log), "limit": limit}))

    def wait(self, pid):
        """Exit code; negative for a signal."""
        return int(self._ask({"wait": pid}))

    def run(self, line, log, limit=None):
        """Exit code, seconds, and what was printed."""
        began = time.monotonic()
        code = self.wait(self.start(line, log, limit))
        return code, time.monotonic() - began, Path(log).read_text()

    def close(self):
        self.server.stdin.close()
        self.server.wait(60)
        self.server.stdout.close()

    def _ask(self, what):
        print(json.dumps(what), file=self.server.stdin, flush=True)
        return self.server.stdout.readline().strip()


def _serve():
    for name in WARM:
        __import__(name)
    for text in sys.stdin:
        what = json.loads(text)
        if what == "ready":
            print("yes", flush=True)
        elif "wait" in what:
            print(os.waitstatus_to_exitcode(os.waitpid(what["wait"], 0)[1]), flush=True)
        else:
            if not (pid := os.fork()):
                os._exit(_run(**what))
            print(pid, flush=True)


def _run(line, log, limit):
    from braindino.cli import main

    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout = sys.stderr = os.fdopen(descriptor, "w", buffering=1)
    os.close(0)
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        main(line)
    except SystemExit as stopped:
        if isinstance(stopped.code, str):
            print(stopped.code)
        return stopped.code if isinstance(stopped.code, int) else int(stopped.code is not None)
    return 0


if __name__ == "__main__":
    _serve()
