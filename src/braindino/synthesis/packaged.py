"""The real volumes that come with ordinary packages, under the names that they get when they are copied out."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_MNI152 = "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"


def packaged_volumes() -> dict[str, Path]:
    """File name to path of the real T1-weighted volumes at hand.

    - `itk-head_T1w.nii.gz`: one person, with skull, 2 x 2 x 3 mm (see `data/NOTICE`);
    - `mni152_T1w.nii.gz`: the MNI152 2009a template, average of 152 people, brain only, 1 mm (from nilearn).

    Raises:
        ValueError: nilearn is not installed.
    """
    found = importlib.util.find_spec("nilearn")
    if found is None or found.origin is None:
        raise ValueError("the MNI152 template comes with nilearn; pip install 'braindino[synthesis]'")
    return {
        "itk-head_T1w.nii.gz": Path(__file__).parent / "data" / "head_T1w.nii.gz",
        "mni152_T1w.nii.gz": Path(found.origin).parent / _MNI152,
    }
