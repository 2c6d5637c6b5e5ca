"""Which way is left: the affine to believe, and flips and axis swaps to RAS. No voxel is interpolated."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped
from nibabel import orientations

from braindino.volume.files import Stored

SHEAR_TOLERANCE = 1e-2
UNITS_MM = {1: 1e3, 3: 1e-3}
"""Millimetres per unit of length, by NIfTI's code: metre, micrometre; everything else is taken for millimetres."""
EDGES_MM = (0.01, 100.0)
"""Voxels with shorter or longer edges are no MR image: the header is wrong, or has another unit."""
FORM_TOLERANCE_MM = 1.0
"""sform and qform that move a corner of the image further apart than this are told of in the history."""


@np.errstate(all="ignore")  # a damaged header overflows; what comes of it is not finite, and refused
def affine_of(image: Stored, path: Path, assume: str | None) -> tuple[Float[np.ndarray, "4 4"], tuple[str, ...]]:
    """The affine of a file in mm, and what was decided: the sform where its code is not 0, else the qform.

    Where both codes are 0, and in an Analyze file (it has none), left and right are unknown: the axis codes `assume`
    stand in, with the voxel sizes of the header.

    Raises:
        ValueError: orientation unknown and not assumed, voxel sizes that are no lengths, or a degenerate affine.
    """
    zooms = image.zooms_mm
    if not (np.isfinite(zooms).all() and (zooms > 0).all()):
        raise ValueError(f"{path}: voxel sizes {zooms.tolist()} are not positive lengths")
    codes = (0, 0)
    if image.kind != "Analyze":
        codes = int(image.header["sform_code"]), int(image.header["qform_code"])
    unit = UNITS_MM.get(int(image.header["xyzt_units"]) % 8, 1.0) if image.kind != "Analyze" else 1.0
    if codes == (0, 0):
        _check_edges(path, zooms * unit)
        return _assumed(image, path, assume, zooms * unit)
    try:
        affine = _form(image, codes[0] != 0)
    except Exception as error:  # nibabel raises many kinds, for instance for a quaternion longer than 1
        raise ValueError(f"{path}: its orientation is not valid ({error}); repair the header") from None
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all():
        raise ValueError(f"{path}: its affine is not finite; repair the header")
    _check_edges(path, lengths * unit)
    directions = affine[:3, :3] / lengths
    if abs(np.linalg.det(directions)) < 0.1:
        raise ValueError(f"{path}: its affine is degenerate (axes nearly in one plane); repair the header")
    told = [f"affine from {'sform' if codes[0] else 'qform'} (codes {codes[0]}, {codes[1]})"]
    if np.abs(directions.T @ directions - np.eye(3)).max() > SHEAR_TOLERANCE:
        told[0] += ", sheared"
    if all(codes) and (moved := _disagreement_mm(image, unit)) > FORM_TOLERANCE_MM:
        told.append(f"warning: sform and qform differ by {moved:.1f} mm at a corner; the sform is believed")
    affine[:3] *= unit
    return affine, tuple(told)


def to_ras(
    array: Shaped[np.ndarray, "a b c"], affine: Float[np.ndarray, "4 4"]
) -> tuple[Shaped[np.ndarray, "i j k"], Float[np.ndarray, "4 4"], str]:
    """Flip and swap axes so that they point nearest to Right, Anterior, Superior; also the old axis codes.

    An oblique affine stays oblique: each axis goes to the world axis that it is nearest to, voxels keep their values.
    """
    old = orientations.io_orientation(affine)
    change = orientations.ornt_transform(old, orientations.axcodes2ornt(("R", "A", "S")))
    moved = np.ascontiguousarray(orientations.apply_orientation(array, change))
    new_affine = affine @ orientations.inv_ornt_aff(change, array.shape)
    return moved, new_affine, "".join(orientations.ornt2axcodes(old))


def from_ras(array: Shaped[np.ndarray, "i j k"], affine: Float[np.ndarray, "4 4"]) -> Shaped[np.ndarray, "a b c"]:
    """Undo `to_ras`: an array whose axes point nearest to Right, Anterior, Superior, in the voxel order of `affine`."""
    change = orientations.ornt_transform(
        orientations.axcodes2ornt(("R", "A", "S")), orientations.io_orientation(affine)
    )
    return np.ascontiguousarray(orientations.apply_orientation(array, change))


def _assumed(
    image: Stored, path: Path, assume: str | None, zooms_mm: Float[np.ndarray, " 3"]
) -> tuple[Float[np.ndarray, "4 4"], tuple[str, ...]]:
    why = "an Analyze file has no orientation" if image.kind == "Analyze" else "both orientation codes are 0"
    if assume is None:
        raise ValueError(
            f"{path}: {why}, so left and right are unknown; "
            "if you know the axes say so, for example --assume-orientation RAS"
        )
    try:
        turn = orientations.inv_ornt_aff(orientations.axcodes2ornt(tuple(assume.upper())), image.shape[:3])
        affine = np.asarray(np.linalg.inv(turn), float)
    except (ValueError, KeyError, np.linalg.LinAlgError):
        raise ValueError(f"--assume-orientation {assume!r}: expected three axis codes such as RAS or LPI") from None
    affine[:3, :3] = affine[:3, :3] @ np.diag(zooms_mm)
    return affine, (f"orientation {assume.upper()} assumed ({why}), world origin unknown",)


def _check_edges(path: Path, lengths_mm: Float[np.ndarray, " 3"]) -> None:
    low, high = EDGES_MM
    if not ((lengths_mm >= low) & (lengths_mm <= high)).all():
        found = ", ".join(f"{length:g}" for length in lengths_mm)
        raise ValueError(f"{path}: voxels of {found} mm (each {low:g} to {high:g} allowed); repair the header")


def _form(image: Stored, use_sform: bool) -> Float[np.ndarray, "4 4"]:
    """The sform or the qform of a NIfTI header."""
    header = image.header
    return np.array(header.get_sform() if use_sform else header.get_qform(), float)


def _disagreement_mm(image: Stored, unit: float) -> float:
    """Largest distance, over the corners of the image, between where sform and qform put them."""
    try:
        difference = (_form(image, True) - _form(image, False)) * unit
    except Exception:  # a qform that is no rotation: nothing to compare with
        return 0.0
    corners = np.array([(*corner, 1) for corner in product(*[(0, side - 1) for side in image.shape[:3]])], float)
    return float(np.linalg.norm((corners @ difference.T)[:, :3], axis=1).max())
