"""One flipped bit in any file of any artefact: whoever reads it is told, or gets the true values."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from braindino.corpus.shards import open_corpus
from braindino.model.weights import load_encoder
from braindino.pipeline.encode import read_features
from braindino.pipeline.fit import read_head
from braindino.pipeline.predict import read_predictions
from braindino.pipeline.score import read_scores
from braindino.record import fingerprint, read_record
from faults import Count, attempts


def same_state(one, two):
    return all(np.array_equal(value, two[name], equal_nan=True) for name, value in one.items()) and len(one) == len(two)


def same_encoder(a, b):
    states = ({name: value.numpy() for name, value in model.state_dict().items()} for model, _ in (a, b))
    return a[1] == b[1] and same_state(*states)


def slices(folder):
    corpus = open_corpus(folder)
    told = corpus.scans.assign(print=corpus.fingerprint), corpus.overlaps, corpus.thumbnails()
    return np.stack([corpus.read(n) for n in range(len(corpus))]), told, np.array(corpus.rows()).tobytes()


READERS = {
    "a corpus": ("prepare", slices, lambda a, b: np.array_equal(a[0], b[0]) and a[1][0].equals(b[1][0])
        and a[1][1].equals(b[1][1]) and np.array_equal(a[1][2], b[1][2]) and a[2] == b[2]),
    "an encoder": ("pretrain", lambda folder: load_encoder(folder / "encoder.safetensors"),
        same_encoder),
    "features": ("encode", read_features, lambda a, b: np.array_equal(a.values, b.values) and a.cases.equals(b.cases)
        and (a.encoder_digest, a.recipe, a.contrasts) == (b.encoder_digest, b.recipe, b.contrasts)),
    "a head": ("fit", read_head, lambda a, b: same_state(a.head.state(), b.head.state())
        and (a.subjects, a.task) == (b.subjects, b.task)),
    "predictions": ("predict", read_predictions, lambda a, b: a.table.equals(b.table)),
    "scores": ("score", read_scores, lambda a, b: a.metrics.equals(b.metrics) and a.comparisons.equals(b.comparisons)),
}  # fmt: skip


@pytest.mark.parametrize("name", READERS)
def test_no_flipped_bit_is_believed(tmp_path, verbs, name):
    verb, read, same = READERS[name]
    folder, rng = Path(shutil.copytree(verbs[verb].folder, tmp_path / "copy")), np.random.default_rng(len(name))
    truth, files = read(folder), [folder / file for file in sorted(read_record(folder)["files"])]
    files = [file for file in files if verb != "pretrain" or file.name == "encoder.safetensors"]
    count = Count(2, f"one bit of {name} flipped, in any of its files")
    for number in attempts(20, 500):
        file = files[number % len(files)]
        data = bytearray(file.read_bytes())
        place, bit = rng.integers(len(data)), 1 << rng.integers(8)
        data[place] ^= bit
        file.write_bytes(bytes(data))
        count.of(lambda: read(folder), lambda found: same(truth, found))
        data[place] ^= bit
        file.write_bytes(bytes(data))
    count.done()


def test_a_flipped_bit_of_a_record_is_refused_or_another_artefact(tmp_path, verbs):
    """The record vouches for the files, and children hold its fingerprint: a changed record is another parent."""
    folder, rng = Path(shutil.copytree(verbs["encode"].folder, tmp_path / "copy")), np.random.default_rng(2)
    good, count = (folder / "record.json").read_bytes(), Count(2, "one bit of a record.json flipped")
    truth = read_record(folder)
    for _ in attempts(40, 500):
        data = bytearray(good)
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        (folder / "record.json").write_bytes(bytes(data))
        try:
            found = read_record(folder, "encode")
        except ValueError:
            count.refused += 1
            continue
        seen = fingerprint(found) != fingerprint(truth) or {**found, "facts": 0, "versions": 0} == {
            **truth,
            "facts": 0,
            "versions": 0,
        }
        count.harmless, count.silent = count.harmless + seen, count.silent + (not seen)
    count.done()
