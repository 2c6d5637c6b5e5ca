"""The whole line of verbs, run once undisturbed: what a disturbed run must end with."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from braindino.record import fingerprint, read_record
from braindino.volume.io import write_nifti
from phantom import head
from zygote import Zygote

CONFIG = """
corpus = "{0}/prepare"
steps = 6
batch_size = 4
[compute]
checkpoint_every = 1
[model]
dim = 32
depth = 2
heads = 2
patch_size = 8
[crops]
global_px = 32
local_px = 16
local_count = 2
[dino_head]
hidden = 32
bottleneck = 16
prototypes = 64
[ibot_head]
hidden = 32
bottleneck = 16
prototypes = 64
"""


@dataclass(frozen=True)
class Verb:
    """A command line without its --out, what it gave undisturbed, and how long that took."""

    line: tuple[str, ...]
    folder: Path
    seconds: float

    @property
    def print(self):
        return fingerprint(read_record(self.folder))

    def into(self, out):
        return [*self.line, "--out", out]


@pytest.fixture(scope="session")
def zygote():
    made = Zygote()
    yield made
    made.close()


@pytest.fixture(scope="session")
def verbs(zygote, cohort, weights, tmp_path_factory):
    """Name to verb: each stands on those before it."""
    root = tmp_path_factory.mktemp("undisturbed")
    for number in range(5):
        volume = head(seed=number)
        write_nifti(root / "scans" / f"s{number}_T1w.nii", volume.voxels[0], volume.affine)
    (root / "run.toml").write_text(CONFIG.format(root))
    task = f"--task diagnosis --root {cohort} --cohort synthetic --features {root}/encode"
    lines = {
        "prepare": f"prepare {root}/scans --recipe.spacing-mm 4 --recipe.size-px 48 --recipe.slices 8 --workers 1",
        "pretrain": f"pretrain {root}/run.toml",
        "encode": f"encode synthetic={cohort} --weights {weights} --contrasts T1w",
        "fit": f"fit {task}",
        "predict": f"predict {task} --head {root}/fit",
        "score": f"score {root}/predict --draws 200",
        "analyze": f"analyze {root}/encode --task diagnosis --root {cohort} --cohort synthetic",
        "report": f"report --corpus {root}/prepare --runs {root}/pretrain --predictions {root}/predict "
        f"--scores {root}/score --analysis {root}/analyze",
    }
    found = {}
    for name, line in lines.items():
        code, seconds, said = zygote.run([*line.split(), "--out", root / name], root / f"{name}.log")
        assert code == 0, said
        found[name] = Verb(tuple(line.split()), root / name, seconds)
    return found
