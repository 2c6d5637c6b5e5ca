"""Random reads of single slices, decoded: this corpus, other containers, and MosaicML streaming, litdata, WebDataset.

    python -m venv /tmp/peers
    /tmp/peers/bin/pip install . nilearn mosaicml-streaming litdata webdataset zstandard lz4
    OMP_NUM_THREADS=1 /tmp/peers/bin/python benchmarks/slice_reads.py --out /tmp/slice_reads

The slices are those of the MNI152 template by the recipe at 1 mm and 256 px (128 of them; its brain scaled to 1500 ml),
again and again with fresh noise inside the brain, since a scan's noise does not compress. Every store holds the same
float16 values, every reader gives the same float32 square; peers store the square in their native array type and are
given the same fast conversion to float32 (rows "astype": numpy's own conversion, as their users would write it). One
thread, one process per store, stores interleaved in turn, median over the rounds, ratios within a round. WebDataset
reads in order: it knows no random access. The cold figures come from fresh processes after the page cache of the
store's files was dropped (checked with fincore): median of three. The table goes to benchmarks/results/slice_reads.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from braindino.corpus.shards import merge_parts, open_corpus, pack, write_shard
from braindino.record import write_record
from braindino.synthesis.packaged import packaged_volumes
from braindino.volume.brain import brain_mask
from braindino.volume.io import read_volume
from braindino.volume.preprocess import preprocess, to_slices
from braindino.volume.recipe import Recipe

RESULT = Path(__file__).parent / "results" / "slice_reads.md"
RECIPE = Recipe(size_px=256)
SIDE, BACKGROUND = RECIPE.size_px, np.float16(RECIPE.background)
SLICES_66 = 6.6e6
BRAIN_ML = 1500.0
"""The template's brain is larger than people's; it is scaled to this volume of brain and inner fluid."""


def slices(count: int) -> np.ndarray:
    """`count` float16 slices."""
    volume = read_volume(packaged_volumes()["mni152_T1w.nii.gz"])
    mask, _ = brain_mask(volume)
    scale = (BRAIN_ML / (mask.sum() * np.prod(volume.spacing_mm) / 1000)) ** (1 / 3)
    prepared = preprocess(replace(volume, affine=volume.affine @ np.diag([scale, scale, scale, 1])), RECIPE)
    pictures = to_slices(prepared.voxels)[:, 0]
    inside = pictures != BACKGROUND
    rng = np.random.default_rng(0)
    found = np.full((count, SIDE, SIDE), BACKGROUND)
    for n in range(count):
        mask = inside[n % len(pictures)]
        noisy = pictures[n % len(pictures)][mask] + rng.normal(0, 0.1, mask.sum())
        found[n][mask] = noisy.astype(np.float16)
    return found


plain = False


def as_float32(square: np.ndarray) -> np.ndarray:
    """The fastest conversion known here, the same for every store; numpy's own for the rows that say so."""
    if plain:
        return square.astype(np.float32)
    return cv2.add(square, -0.0, dtype=cv2.CV_32F)


def filled(box: np.ndarray, place: list[int]) -> np.ndarray:
    picture = np.full((SIDE, SIDE), np.float32(BACKGROUND), np.float32)
    top, left, height, width = place
    inside = picture[top : top + height, left : left + width]
    cv2.add(box.reshape(height, width), -0.0, dst=inside, dtype=cv2.CV_32F)
    return picture


def write_corpus(folder: Path, data: np.ndarray) -> None:
    shards = np.array_split(np.arange(len(data)), max(1, len(data) // 2048))
    for number, chosen in enumerate(shards):
        values, rows = pack(data[chosen].astype(np.float32)[:, None], RECIPE.background)
        names = ("cohort", "subject", "session", "site", "contrast", "axes", "voxel_hash")
        scan = dict.fromkeys(names, "x") | {"slices": len(rows)}
        write_shard(folder, number, values, rows, np.zeros((1, 1, 1, 1), np.uint8), [scan], [])
    merge_parts(folder, len(shards))
    files = [path.name for pattern in ("*.npy", "*.tsv") for path in folder.glob(pattern)]
    write_record(folder, "prepare", {"recipe": {"size_px": SIDE, "background": float(BACKGROUND)}}, files=files)


def read_corpus(folder: Path):
    read = open_corpus(folder).read
    return lambda n: read(n)[0]


def write_npy(folder: Path, data: np.ndarray) -> None:
    folder.mkdir(parents=True)
    np.save(folder / "x.npy", data)


def read_memmap(folder: Path):
    stored = np.load(folder / "x.npy", mmap_mode="r")
    return lambda n: as_float32(np.asarray(stored[n]))


def read_pread(folder: Path):
    file, size = os.open(folder / "x.npy", os.O_RDONLY), 2 * SIDE * SIDE
    return lambda n: as_float32(np.frombuffer(os.pread(file, size, 128 + n * size), np.float16).reshape(SIDE, SIDE))


def write_blobs(squeeze):
    def write(folder: Path, data: np.ndarray) -> None:
        folder.mkdir(parents=True)
        values, rows = pack(data.astype(np.float32)[:, None], RECIPE.background)
        offset, index = 0, []
        with open(folder / "x.bin", "wb") as file:
            for row in rows:
                size = int(row["height"]) * int(row["width"])
                box = values[int(row["offset"]) :][:size]
                blob = squeeze(box.view(np.uint8).reshape(-1, 2).T.tobytes())  # all low bytes, then all high bytes
                file.write(blob)
                place = [int(row[name]) for name in ("top", "left", "height", "width")]
                index.append([offset, len(blob), *place])
                offset += len(blob)
        (folder / "index.json").write_text(json.dumps(index))

    return write


def read_blobs(expand):
    def read(folder: Path):
        index = json.loads((folder / "index.json").read_text())
        file = os.open(folder / "x.bin", os.O_RDONLY)

        def one(n: int) -> np.ndarray:
            offset, size, *place = index[n]
            planes = np.frombuffer(expand(os.pread(file, size, offset)), np.uint8).reshape(2, -1)
            return filled(np.ascontiguousarray(planes.T).view(np.float16)[:, 0], place)

        return one

    return read


def write_mosaic(folder: Path, data: np.ndarray) -> None:
    from streaming import MDSWriter

    with MDSWriter(out=str(folder), columns={"x": f"ndarray:float16:{SIDE},{SIDE}"}) as writer:
        for picture in data:
            writer.write({"x": picture})


def read_mosaic(folder: Path):
    from streaming import StreamingDataset

    stored = StreamingDataset(local=str(folder), shuffle=False, batch_size=1)
    return lambda n: as_float32(stored[n]["x"])


def write_litdata(folder: Path, data: np.ndarray) -> None:
    from litdata.streaming.writer import BinaryWriter

    folder.mkdir(parents=True)
    writer = BinaryWriter(str(folder), chunk_bytes="64MB")
    for n, picture in enumerate(data):
        writer[n] = {"x": picture}
    writer.done()
    writer.merge()


def read_litdata(folder: Path):
    from litdata import StreamingDataset

    stored = StreamingDataset(str(folder))
    return lambda n: as_float32(np.ascontiguousarray(stored[n]["x"]))


def write_webdataset(folder: Path, data: np.ndarray) -> None:
    import webdataset

    folder.mkdir(parents=True)
    with webdataset.ShardWriter(str(folder / "%05d.tar"), maxcount=1024, verbose=0) as writer:
        for n, picture in enumerate(data):
            writer.write({"__key__": f"{n:08d}", "npy": picture})


def read_webdataset(folder: Path):
    import webdataset

    tars = [str(path) for path in sorted(folder.glob("*.tar"))]

    def forever():
        while True:
            yield from webdataset.WebDataset(tars, shardshuffle=False).decode()

    samples = forever()
    return lambda _: as_float32(next(samples)["npy"])


def lz4_block():
    import lz4.block

    return lz4.block.compress, lz4.block.decompress


def zstd_block():
    import zstandard

    return zstandard.ZstdCompressor(1).compress, zstandard.ZstdDecompressor().decompress


STORES = {
    "corpus": (write_corpus, read_corpus),
    "corpus again (A/A)": (None, read_corpus),
    "npy squares, memory map": (write_npy, read_memmap),
    "npy squares, pread": (None, read_pread),
    "boxes, byte planes, lz4": (lambda *a: write_blobs(lz4_block()[0])(*a), lambda f: read_blobs(lz4_block()[1])(f)),
    "boxes, byte planes, zstd -1": (
        lambda *a: write_blobs(zstd_block()[0])(*a),
        lambda f: read_blobs(zstd_block()[1])(f),
    ),
    "MosaicML streaming": (write_mosaic, read_mosaic),
    "litdata": (write_litdata, read_litdata),
    "WebDataset (in order)": (write_webdataset, read_webdataset),
}
PLAIN = ", astype"
STORES |= {name + PLAIN: (None, STORES[name][1]) for name in list(STORES)[-3:]}
SAME_FILES = {"corpus again (A/A)": "corpus", "npy squares, pread": "npy squares, memory map"}


def place(out: Path, name: str) -> Path:
    short = "".join(letter for letter in SAME_FILES.get(name, name.removesuffix(PLAIN)) if letter.isalnum())
    return out / short


def files_of(out: Path, name: str) -> list[Path]:
    return [path for path in place(out, name).rglob("*") if path.is_file()]


def cold(out: Path, name: str, reads: int) -> tuple[float, float]:
    """Reads per second and KB from the device per slice, in a fresh process, nothing in the page cache."""
    for path in files_of(out, name):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
    listed = [str(path) for path in files_of(out, name)]
    told = subprocess.run(["fincore", "-nbo", "RES", *listed], capture_output=True, text=True, check=True).stdout
    if any(int(size) for size in told.split()):
        raise SystemExit(f"{name}: pages stay in the cache; the cold figure would be wrong")
    with Reader(out, name) as reader:
        return reader.measure(reads)


class Reader:
    """A store's reader in a process of its own: background threads of one store do not slow another."""

    def __init__(self, out: Path, name: str):
        command = [sys.executable, __file__, "--out", str(out), "--serve", name]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def measure(self, reads: int) -> tuple[float, float]:
        """Reads per second and KB from the device per slice of `reads` random reads."""
        self.process.stdin.write(f"{reads}\n")
        self.process.stdin.flush()
        while not (line := self.process.stdout.readline()).startswith("["):
            if not line:
                raise SystemExit("a reader ended; see above")
        return tuple(json.loads(line))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(30)


def serve(out: Path, name: str) -> None:
    """Measure as often as a line on stdin asks for it; the order of reads is never the same."""
    global plain
    plain = name.endswith(PLAIN)
    read, rng = STORES[name][1](place(out, name)), np.random.default_rng()
    count = json.loads((out / "count.json").read_text())
    for line in sys.stdin:
        order = [int(n) for n in rng.permutation(count)[: int(line)]]
        before, start = device_bytes(), time.perf_counter()
        for n in order:
            read(n)
        seconds = time.perf_counter() - start
        print(json.dumps([len(order) / seconds, (device_bytes() - before) / len(order) / 1000]), flush=True)


def device_bytes() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("read_bytes")).split()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the stores (about 3 GB)")
    parser.add_argument("--count", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--reads", type=int, default=400)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.serve:
        serve(options.out, options.serve)
        return
    size = write_all(options.out, options.count)
    rates: dict[str, list[float]] = {name: [] for name in STORES}
    with contextlib.ExitStack() as stack:
        readers = {name: stack.enter_context(Reader(options.out, name)) for name in STORES}
        for reader in readers.values():
            reader.measure(options.reads)
        for turn in range(options.rounds):
            names = list(STORES)
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                rates[name].append(readers[name].measure(options.reads)[0])
    tell(
        "| store | reads/s, warm | corpus / this | B/slice | GB per 6.6 M | 8-bit equivalent | cold reads/s | KB read |"
    )
    tell("|---|---|---|---|---|---|---|---|")
    for name, found in rates.items():
        ratio = np.median(np.array(rates["corpus"]) / np.array(found))
        total = size[name] * SLICES_66 / 1e9
        told = "-", "-"
        if "A/A" not in name and "order" not in name and not name.endswith(PLAIN):
            pair = np.median([cold(options.out, name, options.reads) for _ in range(3)], axis=0)
            told = f"{pair[0]:.0f}", f"{pair[1]:.0f}"
        tell(
            f"| {name} | {np.median(found):.0f} | {ratio:.2f} | {size[name]:.0f} | {total:.0f} | {total / 2:.0f} "
            f"| {told[0]} | {told[1]} |"
        )


def tell(line: str) -> None:
    """Print a line of the table and add it to the result file."""
    print(line, flush=True)
    with RESULT.open("w" if line.startswith("| store") else "a") as file:
        file.write(line + "\n")


def write_all(out: Path, count: int) -> dict[str, float]:
    """Write every store, check that each gives back the same slices; bytes per slice of each."""
    data = slices(count)
    out.mkdir(parents=True, exist_ok=True)
    (out / "count.json").write_text(json.dumps(count))
    rng = np.random.default_rng(1)
    for name, (write, read) in STORES.items():
        if write and not place(out, name).exists():
            write(place(out, name), data)
        one = read(place(out, name))
        for n in [0] if "order" in name else rng.integers(0, count, 50):
            assert np.array_equal(one(int(n)), data[n].astype(np.float32)), name
    return {name: sum(path.stat().st_size for path in files_of(out, name)) / count for name in STORES}


if __name__ == "__main__":
    main()
