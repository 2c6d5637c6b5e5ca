"""Nothing is sent and nothing listens: the whole line in a network of its own that leads nowhere."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import braindino
from faults import Count

ALONE = shutil.which("unshare") and not subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode
RUN = """
import json, sys, threading, time
from pathlib import Path

asked, heard, done = [], set(), threading.Event()

def hook(event, arguments):
    # as it is imported (by nilearn), urllib3 binds to port 0 of ::1 to see whether there is IPv6, and closes it
    probe = event == "socket.bind" and arguments[1] == ("::1", 0)
    if event.startswith("socket.") and event not in ("socket.__new__", "socket.gethostname") and not probe:
        asked.append(f"{event} {arguments[1:]}")

def listen():
    while not done.is_set():
        for name in ("tcp", "tcp6", "udp", "udp6"):
            for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
                heard.add(f"{name} {line}")
        time.sleep(0.02)

if __name__ == "__main__":
    sys.addaudithook(hook)
    threading.Thread(target=listen, daemon=True).start()
    from braindino.cli import main
    for line in json.loads(Path(sys.argv[1]).read_text()):
        try:
            main(line)
        except SystemExit as stopped:
            assert stopped.code in (None, 0), stopped.code
    done.set()
    assert not asked and not heard, (asked, heard)
    print("nothing asked, nothing heard")
"""


@pytest.mark.skipif(not ALONE, reason="this process may not make a network namespace (unshare -rn)")
def test_the_whole_line_without_a_network(tmp_path, verbs):
    inside = subprocess.run(["unshare", "-rn", "cat", "/proc/net/route"], capture_output=True, text=True, check=True)
    assert len(inside.stdout.splitlines()) <= 1, inside.stdout
    lines = [[*verb.line, "--out", str(tmp_path / name)] for name, verb in verbs.items()]
    lines[0][lines[0].index("--workers") + 1] = "2"
    made = "synthesize --healthy 1 --dementia 1 --glioma 0 --spacing-mm 4 --workers 2"
    lines += [[*made.split(), "--out", str(tmp_path / "made")], ["check", str(tmp_path / "prepare")], ["list"]]
    (tmp_path / "lines.json").write_text(json.dumps(lines))
    (tmp_path / "run.py").write_text(RUN)
    place = str(Path(braindino.__file__).parents[1])
    done = subprocess.run(
        ["unshare", "-rn", sys.executable, tmp_path / "run.py", tmp_path / "lines.json"],
        env=os.environ | {"PYTHONPATH": place, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0 and "nothing asked, nothing heard" in done.stdout, done.stdout + done.stderr
    listens = Count(30, "verbs that might listen: no socket of the run is seen")
    sends = Count(31, "verbs that might send: a network without a route, no name or address is asked for")
    for count in (listens, sends):
        count.harmless = len(lines)
        count.done(least_refused=0)
