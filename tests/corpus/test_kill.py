"""`prepare` killed by SIGKILL at random moments and resumed: the same bytes, nothing left running, nothing left over.

A few kills here; BRAINDINO_STRESS=1 makes it 50.
"""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from braindino.volume.io import write_nifti
from faults import Count, attempts
from phantom import head

KILLS = len(attempts(3, 50))
RUN = """
import sys
from pathlib import Path
from braindino.corpus import build
from braindino.pipeline.prepare import prepare
from braindino.volume.recipe import Recipe
build.SCANS_PER_SHARD = 2
if __name__ == "__main__":
    prepare([sys.argv[1]], Path(sys.argv[2]), Recipe(spacing_mm=2.0, size_px=96, slices=60), workers=int(sys.argv[3]))
"""


def start(tmp_path, out, workers):
    """The verb in a process of its own, marked by an environment variable."""
    script = tmp_path / "run.py"
    script.write_text(RUN)
    command = [sys.executable, str(script), str(tmp_path / "scans"), str(out), str(workers)]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | {"KILL_TEST": str(tmp_path)}
    )


def hashes(folder):
    names = [path for pattern in ("*.npy", "*.tsv") for path in folder.glob(pattern)]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in names}


def left_running(marker):
    """Processes with `marker` in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if marker.encode() in (folder / "environ").read_bytes():
                found.append(folder.name)
        except OSError:
            continue
    return found


def test_killed_at_random_and_resumed_gives_the_same_bytes(tmp_path):
    for number in range(8):
        volume = head(shape=(80, 96, 72), spacing=(2.0, 2.0, 2.0), seed=number)
        write_nifti(tmp_path / "scans" / f"s{number:02d}_T1w.nii", volume.voxels[0], volume.affine)
    began = time.monotonic()
    assert start(tmp_path, tmp_path / "whole", 1).wait(300) == 0
    whole, chance = time.monotonic() - began, random.Random(0)
    killed, round_number = 0, 0
    while killed < KILLS:
        out = tmp_path / f"out{round_number}"
        while killed < KILLS:
            run = start(tmp_path, out, 1 + killed % 2)
            try:
                run.wait(chance.uniform(0.3, 1.0) * whole)
            except subprocess.TimeoutExpired:
                run.send_signal(signal.SIGKILL)
                killed += 1
            code = run.wait(300)
            until = time.monotonic() + 30
            while (left := left_running(f"KILL_TEST={tmp_path}")) and time.monotonic() < until:
                time.sleep(0.05)
            assert not left, "workers outlive their killed parent"
            if code == 0:
                break
        assert start(tmp_path, out, 1).wait(300) == 0
        assert hashes(out) == hashes(tmp_path / "whole")
        hidden = {path.name for path in out.iterdir() if path.name.startswith(".")}
        assert hidden <= {".plan.json", ".lock"} and not (out / "parts").exists()
        round_number += 1
    count = Count(14, "SIGKILL during prepare with one or two workers, then run again")
    count.refused = killed
    count.done(least_refused=KILLS)
