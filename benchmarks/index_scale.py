"""Index and sampler at 6.6 million slices: time to open, to shuffle an epoch, to read, and memory.

    OMP_NUM_THREADS=1 python benchmarks/index_scale.py --out /tmp/index_scale

The corpus is simulated: 51500 scans of 25750 subjects in 20 cohorts, 128 slices each, index and tables as `prepare`
writes them; its shards hold one value. Each row is measured in a fresh process; memory is the peak of the whole process
with Python, numpy and pandas in it. The table goes to benchmarks/results/index_scale.md too.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from braindino.corpus.sampler import epoch_sampler
from braindino.corpus.shards import SLICE, open_corpus, pack
from braindino.record import write_array, write_record, write_table

RESULT = Path(__file__).parent / "results" / "index_scale.md"
SCANS, PER_SCAN, BATCHES = 51_500, 128, (64, 4096)


def clock() -> np.ndarray:
    """Wall clock and CPU seconds of this process."""
    return np.array([time.perf_counter(), time.process_time()])


def write_index(out: Path, picture: np.ndarray, scans: int, per_scan: int) -> None:
    """A shard that holds one picture, and an index in which every slice of every scan is that one."""
    out.mkdir(parents=True)
    values, box = pack(picture, -3.0)
    write_array(out / "shard-00000.npy", values.view("<f2"))
    index = np.zeros(scans * per_scan, SLICE)
    for name in ("height", "width", "crc32"):
        index[name] = box[name]
    index["scan"] = np.repeat(np.arange(scans), per_scan)
    write_array(out / "index.npy", index)


def simulate(out: Path) -> None:
    """A corpus folder with an index of 6.6 million slices."""
    write_index(out, np.ones((1, 1, 1, 1), np.float32), SCANS, PER_SCAN)
    number = np.arange(SCANS)
    table = pd.DataFrame(
        {"cohort": [f"cohort{n % 20:02d}" for n in number // 2], "subject": [f"s{n // 2}" for n in number]}
    )
    table = table.assign(session="", site="site", contrast=np.where(number % 2, "T2w", "T1w"), first=number * PER_SCAN)
    table = table.assign(spacing_r_mm=1.0, spacing_a_mm=1.0, spacing_s_mm=1.2, axes="LAS", brain_ml=1450.5)
    write_table(out / "scans.tsv", table.assign(voxel_hash=[f"{n:016x}" for n in number], slices=PER_SCAN))
    write_record(out, "prepare", {"recipe": {}})


def measure(out: Path, batch_size: int) -> None:
    """What one process needs."""
    start = clock()
    corpus = open_corpus(out)
    count = len(corpus)
    told = {"slices": count, "open_s": clock() - start}
    start = clock()
    drawn = epoch_sampler(corpus, sorted(set(corpus.names)), batch_size, 0, {})
    told["sampler_s"] = clock() - start
    start = clock()
    first = drawn.slices(0)
    told["epoch_s"] = clock() - start
    start = clock()
    for number in [*drawn.epoch(0)[:: count // 2000]]:
        corpus.read(int(number))
    told["read_us"] = (clock() - start) / 2000 * 1e6
    told["peak_mib"] = int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0]) / 1024
    told["batch"] = len(first)
    print(json.dumps({name: np.asarray(value).tolist() for name, value in told.items()}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.batch:
        measure(options.out, options.batch)
        return
    if not options.out.exists():
        simulate(options.out)
    lines = ["| batch size | open | make the sampler | shuffle an epoch | peak memory, MiB |", "|---|---|---|---|---|"]
    for size in BATCHES:
        command = [sys.executable, __file__, "--out", str(options.out), "--batch", str(size)]
        done = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(options.rounds)]
        runs = [json.loads(run.stdout) for run in done]
        told = [np.median([run[name] for run in runs], axis=0) for name in ("open_s", "sampler_s", "epoch_s")]
        seconds = " | ".join(f"{wall:.2f} s ({cpu:.2f} s CPU)" for wall, cpu in told)
        lines.append(f"| {size} | {seconds} | {np.median([run['peak_mib'] for run in runs]):.0f} |")
    print("\n".join(lines))
    RESULT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
