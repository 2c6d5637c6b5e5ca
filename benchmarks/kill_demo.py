"""Kill the demo at random moments and compare its scores with an undisturbed run; prints wall time and peak memory.

    python benchmarks/kill_demo.py --work /tmp/kill --kills 10 --out benchmarks/results/kill_demo.json

The demo runs twice: once undisturbed, once killed (SIGKILL to its whole process group) at moments drawn uniformly over
its running time and started again each time. Linux only: memory is the sum over the group of each process's share.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from braindino.record import sha256, versions, write_json

COMPARED = ("stage1/encoder.safetensors", "stage2/encoder.safetensors", "scores/metrics.tsv", "scores/comparisons.tsv")


def main() -> None:
    """Run both, compare, write the outcome; exit code 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the two demos")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, help="JSON file for the outcome")
    options = parser.parse_args()
    whole, killed = options.work / "undisturbed", options.work / "killed"
    seconds, peak = run(whole)
    moments = np.sort(np.random.default_rng(options.seed).uniform(0, seconds, options.kills))
    tried = [kill_at(killed, after) for after in np.diff(moments, prepend=0.0)]
    rest, _ = run(killed)
    outcome: dict[str, Any] = {
        "undisturbed_seconds": round(seconds),
        "peak_memory_mib": round(peak / 2**20),
        "kills": dict(zip([f"{at:.0f} s" for at in moments], tried, strict=True)),
        "last_run_seconds": round(rest),
        "identical": {name: sha256(whole / name) == sha256(killed / name) for name in COMPARED},
        "predictions_identical": same_predictions(whole, killed),
        "versions": versions(),
        "cpus": os.cpu_count(),
    }
    print(outcome)
    if options.out:
        write_json(options.out, outcome)
    if not all(outcome["identical"].values()) or not outcome["predictions_identical"]:
        raise SystemExit("the killed demo ended with other results than the undisturbed one")


def start(out: Path) -> subprocess.Popen[bytes]:
    """The demo in a process group of its own, what it prints in `OUT.log`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with open(log_of(out), "w") as log:
        command = [sys.executable, "-m", "braindino", "demo", "--out", str(out)]
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def log_of(out: Path) -> Path:
    """Where the newest start of this demo tells its progress."""
    return out.with_name(f"{out.name}.log")


def run(out: Path) -> tuple[float, int]:
    """Seconds and peak bytes of a demo that is left alone."""
    began, peak = time.monotonic(), 0
    process = start(out)
    while process.poll() is None:
        peak = max(peak, group_bytes(process.pid))
        time.sleep(0.5)
    if process.returncode:
        raise SystemExit(f"the demo failed; see {log_of(out)}")
    return time.monotonic() - began, peak


def kill_at(out: Path, seconds: float) -> str:
    """Start the demo, kill it after `seconds`, and tell what its last line of progress was."""
    process = start(out)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        lines = log_of(out).read_text().splitlines()
        return lines[-1] if lines else "nothing told yet"
    if process.returncode:
        raise SystemExit(f"the demo failed; see {log_of(out)}")
    return "it had finished before"


def group_bytes(group: int) -> int:
    """Memory of a process group in bytes: the sum of proportional set sizes."""
    total = 0
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and os.getpgid(int(folder.name)) == group:
                lines = (folder / "smaps_rollup").read_text().splitlines()
                total += 1024 * int(next(line for line in lines if line.startswith("Pss:")).split()[1])
        except (OSError, StopIteration):
            continue
    return total


def same_predictions(one: Path, other: Path) -> bool:
    """Every predictions table, byte by byte."""
    tables = sorted(path.relative_to(one) for path in one.glob("predictions/*/predictions.tsv"))
    return bool(tables) and all(sha256(one / table) == sha256(other / table) for table in tables)


if __name__ == "__main__":
    main()
