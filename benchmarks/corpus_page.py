"""The page of a large corpus: seconds, memory and size of `braindino report --corpus`.

    OMP_NUM_THREADS=1 python benchmarks/corpus_page.py --out /tmp/corpus_page

The corpus is simulated: 52000 scans of 25000 subjects in 20 cohorts and 300 sites, 127 slices each (6.6 million), 4000
scans left out and 3000 overlaps, index and tables as `prepare` writes them; its one shard holds a single box of noise.
The report is made in a fresh process; memory is the peak of the whole process with Python, numpy, pandas and matplotlib
in it, beside that of the process before it begins.
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
from index_scale import write_index

from braindino.corpus.audit import OVERLAP_COLUMNS
from braindino.corpus.shards import QUARANTINE_COLUMNS
from braindino.pipeline.report import report
from braindino.record import write_record, write_table

SUBJECTS, COHORTS, SITES, SCANS, PER_SCAN = 25_000, 20, 300, 52_000, 127
LEFT_OUT, OVERLAPS = 4_000, 3_000
REASONS = (
    "poor scan: brain mask of {n} ml (expected 250 to 2200): mask or header is wrong",
    "/data/site{n}/scan{n}.nii.gz is truncated (the gzip stream does not end); copy or download it again",
    "poor scan: voxels of {n}.5 mm (at most 6.5); signal-to-noise ratio 0.{n} (at least 1)",
    "scan{n}.nii.gz: voxel sizes [0.9, {n}.1, 0.0] are not positive lengths",
)


def simulate(out: Path) -> None:
    """A corpus folder with an index of 6.6 million slices."""
    rng = np.random.default_rng(0)
    picture = rng.standard_normal((1, 1, 160, 130)).astype(np.float32)
    write_index(out, picture, SCANS, PER_SCAN)
    write_table(out / "scans.tsv", scans(rng))
    number = rng.integers(1, 999, LEFT_OUT)
    rows = [
        (f"cohort{n % COHORTS:02d}", f"x{row}", "", "T1w", f"scan{n}.nii.gz", REASONS[row % len(REASONS)].format(n=n))
        for row, n in enumerate(number)
    ]
    write_table(out / "quarantine.tsv", pd.DataFrame(rows, columns=list(QUARANTINE_COLUMNS)))
    pairs = [(f"cohort00/s{n}", f"cohort01/s{n}", "corpus", ("near", "voxels")[n % 2], 0.9) for n in range(OVERLAPS)]
    write_table(out / "overlaps.tsv", pd.DataFrame(pairs, columns=list(OVERLAP_COLUMNS)))
    write_record(out, "prepare", {"recipe": {}})


def scans(rng: np.random.Generator) -> pd.DataFrame:
    """The table of scans: cohorts of very different sizes, some without ages or sexes, thick slices in some."""
    cohort = np.sort((COHORTS * rng.random(SUBJECTS) ** 2).astype(int))
    age = np.clip(rng.normal(20 + 3 * cohort, 8), 0.1, 97).round(1)
    sex = rng.choice(["F", "M"], SUBJECTS)
    age[cohort == 7], sex[cohort == 11] = np.nan, ""
    subject = np.sort(np.r_[np.arange(SUBJECTS), rng.integers(0, SUBJECTS, SCANS - SUBJECTS)])
    visit = np.arange(SCANS) - np.searchsorted(subject, subject)
    thick = rng.random(SCANS) < 0.3
    table = pd.DataFrame(
        {
            "cohort": [f"cohort{n:02d}" for n in cohort[subject]],
            "subject": [f"s{n:05d}" for n in subject],
            "session": [f"{n}" for n in visit // 2],
            "contrast": np.array(["T1w", "T2w", "FLAIR", "T1ce"])[visit % 2 + 2 * (rng.random(SCANS) < 0.1)],
            "site": [f"site{n:03d}" for n in (cohort[subject] * 15 + subject % 15) % SITES],
            "first": np.arange(SCANS) * PER_SCAN,
            "age": age[subject] + visit // 2,
            "sex": sex[subject],
            "spacing_r_mm": rng.choice([0.8, 1.0, 1.2], SCANS),
            "spacing_a_mm": rng.choice([0.8, 1.0], SCANS),
            "spacing_s_mm": np.where(thick, rng.choice([4.0, 5.0, 6.0], SCANS), 1.0),
            "brain_ml": rng.normal(1450, 140, SCANS).round(1),
            "snr": rng.lognormal(2.5, 0.5, SCANS).round(3),
            "cjv": rng.normal(0.5, 0.07, SCANS).round(3),
            "axes": rng.choice(["RAS", "LAS", "PSR", "LPS", "ASR", "RSA", "AIL", "LIP", "PIR", "SAR"], SCANS),
        }
    )
    return table.assign(voxel_hash=[f"{n:016x}" for n in range(SCANS)], slices=PER_SCAN)


def peak_mib() -> int:
    """Peak memory of this process."""
    return int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0]) // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if not given.measure:
        simulate(given.out / "corpus")
        subprocess.run([sys.executable, __file__, "--out", str(given.out), "--measure"], check=True)
        return
    before, start = peak_mib(), (time.perf_counter(), time.process_time())
    page = report(given.out / "page", title="A simulated corpus", corpus=given.out / "corpus")
    told = {"seconds": time.perf_counter() - start[0], "cpu_seconds": time.process_time() - start[1]}
    told |= {"peak_mib_before": before, "peak_mib": peak_mib(), "page_kib": page.stat().st_size // 1024}
    print(json.dumps({name: round(value, 2) for name, value in told.items()}))


if __name__ == "__main__":
    main()
