"""`prepare --cluster`: two real Dask workers over TCP on loopback; one of them dies, the run does not."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

import braindino
from braindino import catalog
from braindino.corpus import build, jobs
from braindino.pipeline.encode import EncoderChoice, How, encode_folder
from braindino.pipeline.prepare import prepare
from braindino.record import read_record
from braindino.volume.io import write_nifti
from braindino.volume.recipe import Recipe
from phantom import head

distributed = pytest.importorskip("distributed", reason="needs braindino[cluster]")
RECIPE = Recipe(spacing_mm=4.0, size_px=48, slices=8)


@pytest.fixture
def cluster(tmp_path):
    """A scheduler and two workers, each a process of `dask`; gives the address and the workers' processes."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
    quiet["env"] = os.environ | {"PYTHONPATH": str(Path(braindino.__file__).parents[1])}
    told = tmp_path / "scheduler.json"
    flags = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(told)]
    run = [subprocess.Popen([sys.executable, "-m", "distributed.cli.dask_scheduler", *flags], **quiet)]
    flags = ["--scheduler-file", str(told), "--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1"]
    for _ in range(2):
        run.append(subprocess.Popen([sys.executable, "-m", "distributed.cli.dask_worker", *flags], **quiet))
    until = time.monotonic() + 60
    while not told.is_file() and time.monotonic() < until:
        time.sleep(0.05)
    with distributed.Client(scheduler_file=str(told), set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
        address = client.scheduler.address
    yield address, run[1:]
    for process in reversed(run):
        process.kill()
        process.wait()


def hashes(folder):
    names = [path for pattern in ("*.npy", "*.tsv") for path in folder.glob(pattern)]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in names}


def test_a_cluster_makes_the_same_bytes_and_survives_a_lost_worker(tmp_path, cluster, monkeypatch):
    address, workers = cluster
    for number in range(12):
        volume = head(seed=number)
        write_nifti(tmp_path / "scans" / f"s{number:02d}_T1w.nii", volume.voxels[0], volume.affine)
    monkeypatch.setattr(build, "SCANS_PER_SHARD", 1)
    prepare([str(tmp_path / "scans")], tmp_path / "here", RECIPE, workers=1)

    def lose_one():
        while len(list((tmp_path / "there" / "parts").glob("*.npz"))) < 2:
            time.sleep(0.005)
        workers[0].send_signal(signal.SIGKILL)

    threading.Thread(target=lose_one, daemon=True).start()
    prepare([str(tmp_path / "scans")], tmp_path / "there", RECIPE, cluster=address)
    assert workers[0].wait(30) == -signal.SIGKILL and workers[1].poll() is None
    assert hashes(tmp_path / "there") == hashes(tmp_path / "here")


def test_encode_on_a_cluster_gives_the_same_bytes(tmp_path, cluster, cohort, weights):
    cases = catalog.load("cohorts", "synthetic").cases(cohort)[:6]
    choice, how, before = EncoderChoice("braindino", weights), How(("T1w",), level="patch"), torch.get_num_threads()
    torch.set_num_threads(1)
    encode_folder(cases, choice, tmp_path / "here", how)
    torch.set_num_threads(before)
    found = encode_folder(cases, choice, tmp_path / "there", how, cluster=cluster[0])
    files = [read_record(tmp_path / name)["files"] for name in ("here", "there")]
    assert files[0] == files[1] and len(files[0]) == 3 + 6 and (found.cases["status"] == "ok").all()


def test_no_scheduler_is_one_clear_error(tmp_path, monkeypatch):
    write_nifti(tmp_path / "scans" / "a_T1w.nii", head().voxels[0], head().affine)
    monkeypatch.setattr(jobs, "PATIENCE_S", 1)
    with pytest.raises(ValueError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        prepare([str(tmp_path / "scans")], tmp_path / "c", RECIPE, cluster="tcp://127.0.0.1:9")


def test_workers_of_another_version_are_refused():
    with pytest.raises(ValueError, match=r"tcp://w of the cluster at tcp://a has numpy 0\.1, this process"):
        jobs._same_versions({"tcp://w": jobs.versions() | {"numpy": "0.1"}}, "tcp://a")
