import sys
from dataclasses import replace

import numpy as np
import pytest

from braindino.volume.brain import brain_mask
from braindino.volume.preprocess import preprocess
from braindino.volume.recipe import Recipe

SCRIPT = """
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
