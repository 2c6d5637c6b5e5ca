"""Damaged and hostile scans by the hundred: each is refused by a ValueError or harmless, never silent."""

import gzip
import time
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import braindino
from braindino.types import Scan, Volume
from braindino.volume.brain import stripped_mask
from braindino.volume.io import read_case, read_labels, read_volume, write_nifti
from braindino.volume.preprocess import preprocess
from braindino.volume.recipe import Limits, Recipe
from faults import STRANGE_NAMES, Count, attempts
from phantom import head

RECIPE = Recipe(spacing_mm=4.0, size_px=48, slices=12)
MEBIBYTE = 1 << 20


def read_into(count, truth, path, **options):
    """Harmless: read, and all voxels and the affine are the true ones."""
    count.of(
        lambda: read_volume(path, **options),
        lambda found: np.array_equal(found.voxels, truth.voxels) and np.allclose(found.affine, truth.affine),
    )


def refused(row, fault, number):
    """Counts faults each of which a test required to be refused."""
    count = Count(row, fault)
    count.refused = number
    count.done(least_refused=number)


@pytest.fixture
def truth(tmp_path):
    """A head on disk (.nii.gz), its bytes, and what a verified read gives."""
    volume = head()
    path = tmp_path / "sub-01_T1w.nii.gz"
    write_nifti(path, volume.voxels[0], volume.affine)
    return path, path.read_bytes(), read_volume(path)


def test_truncated(truth):
    path, data, expected = truth
    cuts = {*np.random.default_rng(0).integers(0, len(data), len(attempts(60, 300))), *range(0, len(data), 1 << 16)}
    count = Count(1, "`.nii.gz` cut at random and at 64 KiB bounds")
    for size in cuts:
        path.write_bytes(data[:size])
        read_into(count, expected, path)
    count.done(least_refused=len(cuts))
    plain, count = path.with_name("x.nii"), Count(1, "`.nii` cut at random")
    whole = gzip.decompress(data)
    for size in np.random.default_rng(1).integers(0, len(whole), len(attempts(30, 300))):
        plain.write_bytes(whole[:size])
        read_into(count, expected, plain)
    count.done(least_refused=len(attempts(30, 300)))


def test_flipped_bits(truth):
    path, data, expected = truth
    rng, count = np.random.default_rng(2), Count(2, "one bit of a `.nii.gz` flipped")
    for _ in attempts(100, 3000):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
        path.write_bytes(bytes(damaged))
        read_into(count, expected, path)
    count.done(least_refused=int(0.98 * len(attempts(100, 3000))))


def test_flipped_bits_in_a_packed_pair(tmp_path, truth):
    _, _, expected = truth
    nib.save(nib.Nifti1Pair(expected.voxels[0], expected.affine), tmp_path / "x.img")
    packed = [tmp_path / "y.hdr.gz", tmp_path / "y.img.gz"]
    files = [gzip.compress((tmp_path / name).read_bytes(), 1, mtime=0) for name in ("x.hdr", "x.img")]
    rng, count = np.random.default_rng(3), Count(2, "one bit of a `.hdr.gz`/`.img.gz` pair flipped")
    for number in attempts(60, 1000):
        for half, (path, data) in enumerate(zip(packed, files, strict=True)):
            damaged = bytearray(data)
            damaged[rng.integers(len(data))] ^= (number % 2 == half) << rng.integers(8)
            path.write_bytes(bytes(damaged))
        read_into(count, expected, packed[0])
    count.done(least_refused=int(0.85 * len(attempts(60, 1000))))


@pytest.mark.parametrize("kind", ["NIfTI-1", "NIfTI-2", "Analyze"])
def test_every_byte_of_a_header(tmp_path, kind):
    """Only our own error comes out, and memory stays bounded; whatever is read is finite and has positive spacing."""
    array = np.random.default_rng(4).normal(100, 10, (12, 14, 10)).astype(np.float32)
    make, options = {
        "NIfTI-1": (nib.Nifti1Image, {}),
        "NIfTI-2": (nib.Nifti2Image, {}),
        "Analyze": (nib.Spm99AnalyzeImage, {"assume_orientation": "RAS"}),
    }[kind]
    path = tmp_path / ("x.hdr" if kind == "Analyze" else "x.nii")
    nib.save(make(array, np.diag([2.0, 2.0, 2.0, 1.0])), tmp_path / ("x.img" if kind == "Analyze" else "x.nii"))
    data = path.read_bytes()
    size, rng = {"NIfTI-2": 540}.get(kind, 348), np.random.default_rng(5)
    count = Count(3, f"bytes of a {kind} header changed")
    for number in attempts(size // 3, 3000):
        mutant, place = bytearray(data), number * 7 % size
        mutant[place] = (mutant[place] + 1 + int(rng.integers(255))) % 256
        if number >= size:  # and a second byte
            mutant[int(rng.integers(size))] = int(rng.integers(256))
        path.write_bytes(bytes(mutant))
        tracemalloc.start()
        try:
            volume = read_volume(path, **options)
            assert np.isfinite(volume.voxels).all() and min(volume.spacing_mm) > 0
            assert np.isfinite(volume.affine).all()
            count.harmless += 1
        except ValueError:
            count.refused += 1
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 64 * MEBIBYTE
    count.done(least_refused=size // 100, note=" valid")


def _announcing(shape, dtype=np.int16, body=b"\0" * 64):
    """A packed file whose header announces any shape, over a body that need not hold it."""
    header = nib.Nifti1Header()
    header.set_data_dtype(dtype)
    header["dim"] = [len(shape), *shape, *[1] * (7 - len(shape))]
    header["sform_code"], header["vox_offset"], header["pixdim"][1:4] = 1, 352, 1
    header.set_sform(np.eye(4), 1)
    header["magic"] = b"n+1"
    return bytes(header.binaryblock) + bytes(4) + body


def _bomb(start, zeros):
    """`start` and then many zeros, packed without holding them in memory."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = bytes(MEBIBYTE)
    return b"".join([packer.compress(start), *(packer.compress(block) for _ in range(zeros)), packer.flush()])


def test_hostile_sizes_cost_neither_memory_nor_time(tmp_path):
    rng, files = np.random.default_rng(6), []
    sides = [(32767,) * 3, (2048, 2048, 2048), (2048, 2048, 200), (2000, 1000, 1000), (-4, 5, 6), (0, 5, 6), (4, 5)]
    sides += [(4, 5, 6, 32767, 32767), (1, 1, 32767), (4, 5, 6, 7, -1), (2048, 2048, 1, 100, 100, 100, 7)]
    sides += [tuple(int(side) for side in rng.integers(1200, 32767, 3)) for _ in attempts(2, 30)]
    for shape in sides:
        files += [gzip.compress(_announcing(shape)), gzip.compress(_announcing(shape, np.float64))]
    files += [_bomb(_announcing((10, 10, 10), body=bytes(2000)), zeros) for zeros in attempts(80, 1200)[40::40]]
    files += [_bomb(_announcing((1024, 1024, 400), body=b""), 40), _bomb(b"", 40)]
    path = tmp_path / "x.nii.gz"
    for data in files:
        path.write_bytes(data)
        start = time.perf_counter()
        tracemalloc.start()
        with pytest.raises(ValueError, match=str(path)):
            read_volume(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 64 * MEBIBYTE and time.perf_counter() - start < 1
    refused(4, "hostile sizes and bombs (< 64 MiB, < 1 s each)", len(files))


def test_nan_inf_and_constant_images(tmp_path):
    volume, rng = head(), np.random.default_rng(7)
    count = Count(6, "NaN, infinite, constant, all-zero images")
    for number in attempts(12, 100):
        array, kind = volume.voxels[0].copy(), number % 4
        share = (0.002, 0.02)[number % 8 // 4]
        places = rng.random(array.shape) < share
        if kind < 2:
            array[places] = (np.nan, np.inf)[kind]
        else:
            array[:] = (rng.normal(), 0.0)[kind - 2]
        write_nifti(tmp_path / "x.nii.gz", array, volume.affine)
        if kind < 2 and share < 0.01:
            found = read_volume(tmp_path / "x.nii.gz")
            assert np.array_equal(found.voxels[0], np.where(places, 0, volume.voxels[0]))
            assert any(f"{places.sum()} NaN or infinite" in line for line in found.history)
            count.harmless += 1
        else:
            read_into(count, volume, tmp_path / "x.nii.gz")
    count.done()


def test_empty_and_tiny_masks_give_no_nan():
    volume, rng = head(), np.random.default_rng(8)
    anything = replace(
        RECIPE,
        brain_ml=(0.0, 1e6),
        limits=Limits(least_extent_mm=0.0, most_edge_share=1.0, least_snr=0.0, most_cjv=1e9),
    )
    total = attempts(12, 50)
    for number in total:
        mask = np.zeros(volume.voxels.shape[1:], bool)
        places = rng.integers((40, 48, 36), size=(number % 7, 3))
        mask[tuple(places.T)] = True
        tiny = replace(volume, brain_mask=mask)
        with pytest.raises(ValueError, match=r"empty|poor scan|same value"):
            preprocess(tiny, RECIPE)
        try:  # even where every limit is lifted
            assert np.isfinite(preprocess(tiny, anything).voxels).all()
        except ValueError as error:
            assert "empty" in str(error) or "same value" in str(error)
    refused(7, "empty or tiny brain masks", len(total))


def test_stripped_and_unstripped_heads_are_told_apart():
    """The packaged head with and without its skull, flipped, scaled, shifted, coarsened."""
    folder, rng = Path(braindino.__file__).parent / "synthesis" / "data", np.random.default_rng(9)
    whole = read_volume(folder / "head_T1w.nii.gz")
    brain = read_labels(folder / "head_brain.nii.gz", whole) > 0
    total = attempts(4, 20)
    for _ in total:
        step = tuple(
            slice(None, None, int(s) * f) for s, f in zip(rng.integers(1, 3, 3), rng.choice([-1, 1], 3), strict=True)
        )
        affine = whole.affine @ np.diag([*(abs(s.step) for s in step), 1.0])
        image = np.float32(rng.uniform(0.1, 10)) * whole.voxels[0][step] + np.float32(rng.uniform(0, 50))
        mask, outside = brain[step], np.float32(rng.choice([0.0, -1.0, 7.5]))
        assert stripped_mask(Volume(image[None], ("T1w",), affine)) is None
        found = stripped_mask(Volume(np.where(mask, image, outside)[None], ("T1w",), affine))
        assert found is not None and 2 * (found & mask).sum() / (found.sum() + mask.sum()) > 0.99
    count = Count(8, "heads with and without a skull taken for the other")
    count.harmless = 2 * len(total)
    count.done(least_refused=0)


def test_masks_on_another_grid(tmp_path, truth):
    path, _, expected = truth
    write_nifti(path, expected.voxels[0], expected.affine)
    rng, total = np.random.default_rng(10), attempts(16, 60)
    for number in total:
        mask, affine = expected.voxels[0] > 0, expected.affine.copy()
        if number % 4 == 0:
            affine[int(rng.integers(3)), 3] += rng.choice([-1, 1]) * rng.uniform(0.05, 20)
        elif number % 4 == 1:
            affine[:3, :3] *= rng.uniform(1.02, 1.5)
        elif number % 4 == 2:
            mask = np.pad(mask, [(0, int(n)) for n in rng.permutation([1, 0, 2])])
        else:
            mask, affine = mask[::2, ::2, ::2], affine @ np.diag([2.0, 2.0, 2.0, 1.0])
        write_nifti(tmp_path / "mask.nii.gz", mask, affine)
        with pytest.raises(ValueError, match="grid"):
            read_case([Scan("c", "s", "T1w", path, brain_mask=tmp_path / "mask.nii.gz")])
    refused(9, "masks on another grid", len(total))


def test_strange_names(tmp_path, truth):
    _, data, expected = truth
    names = [*STRANGE_NAMES, "x" * 248, "sub-01.T1w", "."]
    names += [f"s\u00fcb {number} 'T1w'" for number in attempts(2, 84)]
    count = Count(32, "strange file names, read")
    for name in names:
        path = tmp_path / f"{name}.nii.gz"
        path.write_bytes(data)
        read_into(count, expected, path)
    count.done(least_refused=0)
    assert count.harmless == len(names)


def test_nothing_personal_of_a_header_is_kept(tmp_path, truth):
    _, _, expected = truth
    image = nib.Nifti1Image(expected.voxels[0], expected.affine)
    for field in ("descrip", "aux_file", "db_name", "intent_name"):
        image.header[field] = b"Canary"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Canary Jane 1950-01-02"))
    nib.save(image, tmp_path / "x.nii.gz")
    found = read_volume(tmp_path / "x.nii.gz")
    write_nifti(tmp_path / "y.nii.gz", found.voxels[0], found.affine)
    assert "Canary" not in " ".join(found.history)
    assert b"Canary" in gzip.decompress((tmp_path / "x.nii.gz").read_bytes())
    assert b"Canary" not in gzip.decompress((tmp_path / "y.nii.gz").read_bytes())
