"""The format: nothing is lost, every damage is seen, a stranger can read it."""

import hashlib
import re
import resource
from pathlib import Path

import numpy as np
import pytest

from braindino.corpus.shards import merge_parts, open_corpus, pack, write_shard
from braindino.record import write_record
from braindino.volume.recipe import Recipe
from corpora import commit_corpus

DOCS = Path(__file__).parents[2] / "docs" / "corpus.md"
SIDE = 24


def pictures(count=6, seed=0, channels=1):
    rng = np.random.default_rng(seed)
    found = np.full((count, channels, SIDE, SIDE), -3.0, np.float32)
    for picture in found.reshape(-1, SIDE, SIDE):
        top, left, down, across = rng.integers(0, 12, 4)
        picture[top : top + down, left : left + across] = rng.normal(size=(SIDE, SIDE))[
            top : top + down, left : left + across
        ]
    found[0] = -3.0
    found[1] = rng.normal(size=(channels, SIDE, SIDE))
    return found


def write(folder, shards=3, neighbours=0):
    """A corpus of `shards` shards with one scan each; returns what was put in."""
    every = []
    for number in range(shards):
        stack = pictures(seed=number, channels=2 * neighbours + 1)
        values, rows = pack(stack, -3.0)
        rows["position_mm"] = np.arange(len(rows))
        scan = {"cohort": "c", "subject": f"s{number % 2}", "session": "", "site": "", "contrast": "T1w"}
        scan |= {"axes": "RAS", "voxel_hash": f"{number:016x}", "slices": len(rows)}
        write_shard(folder, number, values, rows, np.zeros((1, 2, 2, 2), np.uint8), [scan], [])
        every.append(stack)
    commit_corpus(folder, shards, size_px=SIDE, background=-3.0, neighbours=neighbours)
    return np.concatenate(every)


@pytest.mark.parametrize("neighbours", [0, 1, 8])
def test_what_is_read_is_what_was_written_as_float16(tmp_path, neighbours):
    written = write(tmp_path, neighbours=neighbours)
    corpus = open_corpus(tmp_path)
    assert len(corpus) == 18 and corpus.recipe == Recipe(size_px=SIDE, neighbours=neighbours)
    for number in np.random.default_rng(1).permutation(18):
        read = corpus.read(int(number))
        assert read.dtype == np.float32 and read.shape == (2 * neighbours + 1, SIDE, SIDE)
        assert np.array_equal(read, written[number].astype(np.float16).astype(np.float32))


def test_every_float16_is_read_back_bit_by_bit(tmp_path):
    codes = np.arange(1 << 16, dtype=np.uint16)
    codes = codes[(codes & 0x7C00) != 0x7C00]  # finite
    picture = np.full((1, 1, 256, 256), -3.0, np.float32)
    picture.reshape(-1)[: codes.size] = codes.view(np.float16)
    values, rows = pack(picture, -3.0)
    scan = dict.fromkeys(("cohort", "subject", "session", "site", "contrast", "axes", "voxel_hash"), "x")
    write_shard(tmp_path, 0, values, rows, np.zeros((1, 2, 2, 2), np.uint8), [scan | {"slices": 1}], [])
    merge_parts(tmp_path, 1)
    write_record(tmp_path, "prepare", {"recipe": {"size_px": 256}}, files=["index.npy", "scans.tsv", "shard-00000.npy"])
    assert np.array_equal(open_corpus(tmp_path).read(0).view(np.uint32), picture[0].view(np.uint32))


def test_values_next_to_the_background_are_kept(tmp_path):
    picture = np.full((1, 1, SIDE, SIDE), np.float32(-3.1))
    picture[0, 0, 5, 7] = np.nextafter(np.float16(-3.1), np.float16(0))
    picture[0, 0, 20, 3] = np.nan
    values, rows = pack(picture, -3.1)
    assert (rows["top"], rows["left"], rows["height"], rows["width"]) == (5, 3, 16, 5)
    box = values.view(np.float16).reshape(16, 5)
    assert np.array_equal(box, picture[0, 0, 5:21, 3:8].astype(np.float16), equal_nan=True)


def test_the_bytes_of_slices_without_neighbours_do_not_change():
    """Quarters are exact in float16, so the digest depends on no library; it is that of the first corpora."""
    stack = np.full((2, 1, SIDE, SIDE), -3.0, np.float32)
    stack[0, 0, 4:9, 7:19] = np.arange(60).reshape(5, 12) / 4
    stack[1, 0, 0, 23] = 1.5
    values, rows = pack(stack, -3.0)
    digest = hashlib.sha256(values.tobytes() + rows.tobytes()).hexdigest()
    assert digest == "2c7b22c8e55c746b33b717addf0266800f36657245f3a4a203afdebc6c066102"


def test_channels_share_one_box_and_lie_one_after_the_other():
    stack = np.full((2, 3, SIDE, SIDE), -3.0, np.float32)
    stack[0, 0, 5, 7], stack[0, 2, 8, 3] = 1.0, 2.0
    values, rows = pack(stack, -3.0)
    assert rows[["top", "left", "height", "width"]].tolist() == [(5, 3, 4, 5), (0, 0, 0, 0)] and values.size == 60
    assert np.array_equal(values.view(np.float16).reshape(3, 4, 5), stack[0, :, 5:9, 3:8])


def test_the_index_is_a_table_with_a_row_per_slice(tmp_path):
    write(tmp_path)
    corpus = open_corpus(tmp_path)
    assert list(corpus.index["subject"]) == ["s0"] * 6 + ["s1"] * 6 + ["s0"] * 6
    assert list(corpus.index["shard"]) == [0] * 6 + [1] * 6 + [2] * 6
    assert {name: list(rows) for name, rows in corpus.slices_of_subject.items()} == {
        "c/s0": [*range(6), *range(12, 18)],
        "c/s1": list(range(6, 12)),
    }


@pytest.mark.parametrize("number", [-1, 18])
def test_a_slice_that_is_not_there_is_refused(tmp_path, number):
    write(tmp_path)
    with pytest.raises(ValueError, match=r"no slice .* holds slices 0 to 17"):
        open_corpus(tmp_path).read(number)


@pytest.mark.parametrize("neighbours", [0, 1])
def test_every_flipped_bit_of_a_shard_is_seen_by_the_slice_that_it_is_in(tmp_path, neighbours):
    write(tmp_path, shards=1, neighbours=neighbours)
    path = tmp_path / "shard-00000.npy"
    good, start = path.read_bytes(), 128
    corpus = open_corpus(tmp_path)
    rows = corpus.rows().copy()
    for place in np.random.default_rng(0).integers(start, len(good), 60):
        path.write_bytes(good[:place] + bytes([good[place] ^ 4]) + good[place + 1 :])
        value = (place - start) // 2
        owner = int(np.flatnonzero((rows["offset"] <= value) & (rows["height"] > 0))[-1])
        damaged = open_corpus(tmp_path)
        with pytest.raises(ValueError, match=f"slice {owner} in .* differs from its record"):
            damaged.read(owner)
    path.write_bytes(good)
    assert corpus.read(1).shape == (2 * neighbours + 1, SIDE, SIDE)


@pytest.mark.parametrize("name", ["index.npy", "scans.tsv", "thumbnails.npy"])
def test_a_damaged_index_is_refused_at_once(tmp_path, name):
    write(tmp_path)
    data = bytearray((tmp_path / name).read_bytes())
    data[-3] ^= 1
    (tmp_path / name).write_bytes(bytes(data))
    with pytest.raises(ValueError, match="differs from its record"):
        open_corpus(tmp_path)


def test_a_missing_or_short_shard_is_refused_at_once(tmp_path):
    write(tmp_path)
    path = tmp_path / "shard-00001.npy"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(ValueError, match="differs from its record"):
        open_corpus(tmp_path)
    path.unlink()
    with pytest.raises(ValueError, match="is missing"):
        open_corpus(tmp_path)


def test_more_shards_than_the_soft_limit_of_open_files(tmp_path):
    written = write(tmp_path, shards=40)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").is_dir() else 60
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, hard))
        corpus = open_corpus(tmp_path)
        for number in range(0, len(written), 6):
            corpus.read(number)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    del corpus


@pytest.mark.parametrize("neighbours", [0, 1])
def test_the_five_lines_of_the_documentation_read_a_slice(tmp_path, monkeypatch, neighbours):
    written = write(tmp_path / "corpus", neighbours=neighbours)
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.S)[0]
    assert len(code.replace("\n\n", "\n").splitlines()) == 6  # the import and five lines
    code = code.replace("1234", "7").replace("(1, 224, 224)", f"({2 * neighbours + 1}, {SIDE}, {SIDE})")
    names: dict[str, object] = {}
    exec(code, names)
    assert np.array_equal(names["picture"], written[7].astype(np.float16))
