import os
import sys
from dataclasses import replace

import numpy as np
import pytest

from braindino.volume.brain import brain_mask
from braindino.volume.preprocess import preprocess
from braindino.volume.recipe import Recipe

SCRIPT = """
import os
import sys
import nibabel as nib
import numpy as np
image = nib.load(sys.argv[1])
mask = (np.asarray(image.dataobj) > 50).astype(np.uint8)
affine = image.affine.copy()
what = sys.argv[3]
if what == "empty":
    mask[:] = 0
if what == "moved":
    affine[0, 3] += 4
if what == "small":
    mask = mask[1:]
if what == "fail":
    sys.exit("out of memory on the card")
if what != "nothing":
    nib.save(nib.Nifti1Image(mask, affine), sys.argv[2])
"""


@pytest.fixture
def extractor(tmp_path):
    """A brain extractor of a few lines, as a stranger would plug one in: python script.py {input} {output}."""
    script = tmp_path / "a folder" / "extract.py"
    script.parent.mkdir()
    script.write_text(SCRIPT)
    return lambda what: f"command: {sys.executable} '{script}' {{input}} {{output}} {what}"


@pytest.fixture
def bare(volume):
    """The test head with a weak background all around, so that it does not count as stripped; no mask."""
    rng = np.random.default_rng(0)
    noise = rng.random(volume.voxels.shape).astype(np.float32)
    return replace(volume, voxels=volume.voxels + noise, brain_mask=None)


def test_a_command_gives_the_mask(bare, volume, extractor):
    mask, told = brain_mask(bare, extractor("good"))
    assert np.array_equal(mask, volume.brain_mask) and told.startswith("brain mask by command: ")
    recipe = Recipe(spacing_mm=4.0, size_px=48, slices=12, brain_extractor=extractor("good"))
    prepared = preprocess(bare, recipe)
    assert prepared.quality.brain_ml == pytest.approx(volume.brain_mask.sum() * 0.064)
    assert recipe.hash() != Recipe(spacing_mm=4.0, size_px=48, slices=12).hash()


def test_a_given_mask_and_a_stripped_image_come_first(bare, volume, extractor):
    given, told = brain_mask(volume, extractor("fail"))
    assert given is volume.brain_mask and told == "brain mask given"
    assert "already skull-stripped" in brain_mask(replace(volume, brain_mask=None), extractor("fail"))[1]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("empty", "mask is empty"),
        ("moved", "no valid mask: .*differs from its scan"),
        ("small", "no valid mask: .*differs from its scan"),
        ("nothing", "without writing a mask"),
        ("fail", "exit code 1: out of memory on the card"),
    ],
)
def test_what_goes_wrong_is_told(bare, extractor, what, message):
    with pytest.raises(ValueError, match=message):
        brain_mask(bare, extractor(what))


@pytest.mark.parametrize("name", ["hd-bet", "synthstrip", "command: no-such-program {input} {output}"])
def test_a_missing_program_is_named(bare, name, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="no program"):
        brain_mask(bare, name)


@pytest.mark.parametrize("name", ["bet", "command: bet {input}", "command: bet '{input} {output}", "command:"])
def test_an_impossible_extractor_is_refused_with_the_recipe(name):
    with pytest.raises(ValueError, match=r"recipe\.brain_extractor"):
        Recipe(brain_extractor=name)


HD_BET = """#!{python}
# The arguments, the checks and the names of files of HD-BET 2.0.1 (HD_BET/entry_point.py, hd_bet_prediction.py);
# instead of its network a threshold.
import argparse, os
import nibabel as nib
import numpy as np
parser = argparse.ArgumentParser()
parser.add_argument("-i", "--input", required=True, type=str)
parser.add_argument("-o", "--output", required=False, type=str)
parser.add_argument("-device", default="cuda", type=str, required=False)
parser.add_argument("--disable_tta", required=False, action="store_true")
parser.add_argument("--save_bet_mask", action="store_true", required=False)
parser.add_argument("--no_bet_image", action="store_true", required=False)
parser.add_argument("--verbose", action="store_true", required=False)
args = parser.parse_args()
assert args.device == "cpu", "no other device here"
assert not os.path.isdir(args.output), "If input is a single file then output must be a filename, not a directory"
assert args.output.endswith(".nii.gz"), "Output file must end with .nii.gz"
mask = os.path.join(os.path.curdir, args.output[:-7] + "_bet.nii.gz")
image = nib.load(args.input)
brain = (np.asarray(image.dataobj) > 50).astype(np.uint8)
nib.save(nib.Nifti1Image(brain, image.affine), mask)
if not args.no_bet_image:
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) * brain, image.affine), args.output)
if not args.save_bet_mask:
    os.remove(mask)
"""
SYNTHSTRIP = """#!{python}
# The arguments of FreeSurfer's mri_synthstrip; instead of its network a threshold.
import argparse, sys
import nibabel as nib
import numpy as np
parser = argparse.ArgumentParser()
parser.add_argument("-i", "--image", metavar="FILE", required=True)
parser.add_argument("-o", "--out", metavar="FILE")
parser.add_argument("-m", "--mask", metavar="FILE")
parser.add_argument("-d", "--sdt", metavar="FILE")
parser.add_argument("-g", "--gpu", action="store_true")
parser.add_argument("-b", "--border", default=1, type=float)
parser.add_argument("-t", "--threads", type=int)
parser.add_argument("--no-csf", action="store_true")
parser.add_argument("--model", metavar="FILE")
args = parser.parse_args()
if not args.out and not args.mask and not args.sdt:
    sys.exit("Must provide at least one -o, -m, or -d output flag.")
image = nib.load(args.image)
nib.save(nib.Nifti1Image((np.asarray(image.dataobj) > 50).astype(np.uint8), image.affine), args.mask)
"""


@pytest.mark.parametrize(("name", "program", "script"), [("hd-bet", "hd-bet", HD_BET),
                                                         ("synthstrip", "mri_synthstrip", SYNTHSTRIP)])  # fmt: skip
def test_the_commands_fit_the_arguments_of_the_programs(tmp_path, bare, volume, monkeypatch, name, program, script):
    """Stand-ins with the argument parsers of the real ones, as the programs themselves need their weights."""
    path = tmp_path / "bin" / program
    path.parent.mkdir()
    path.write_text(script.format(python=sys.executable))
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
    mask, told = brain_mask(bare, name)
    assert np.array_equal(mask, volume.brain_mask) and told == f"brain mask by {name}"
