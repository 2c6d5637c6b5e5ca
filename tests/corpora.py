"""Small corpora, for tests of files and of the engine."""

from braindino.corpus.shards import merge_parts
from braindino.pipeline.prepare import prepare
from braindino.record import write_record
from braindino.volume.io import write_nifti
from braindino.volume.recipe import Recipe
from phantom import head


def heads_corpus(folder, subjects):
    """A corpus of so many heads: 48 px of 4 mm, 10 slices each."""
    for number in range(subjects):
        volume = head(seed=number)
        write_nifti(folder / "scans" / f"sub{number}_T1w.nii.gz", volume.voxels[0], volume.affine)
    recipe = Recipe(spacing_mm=4.0, size_px=48, slices=10)
    return prepare([str(folder / "scans")], folder / "corpus", recipe, workers=1)


def commit_corpus(folder, shards, **recipe):
    """Make a corpus of shards that a test wrote itself."""
    merge_parts(folder, shards)
    files = [path.name for pattern in ("*.npy", "*.tsv") for path in folder.glob(pattern)]
    write_record(folder, "prepare", {"recipe": recipe}, files=files)
