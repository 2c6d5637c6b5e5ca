"""The paper's dense head: its size, its parts, what it learns, and label maps that other programs can open."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch

from braindino import catalog
from braindino.fitting import segmenting
from braindino.fitting.pictures import Picture, changed, draw, importance, whole, windows
from braindino.fitting.scratch import Slices
from braindino.fitting.upsampling import UpDecoder, dice_and_cross_entropy, feature_maps, levels
from braindino.heads import one_label_map
from braindino.model.config import preset
from braindino.model.vit import VisionTransformer
from braindino.pipeline.encode import load_encoder
from braindino.pipeline.fit import fit, load_task, read_head, write_head
from braindino.pipeline.live import CLEAN, segmented
from braindino.pipeline.predict import predict
from braindino.stats.segmentation import region_scores
from braindino.volume.io import read_case, read_volume, write_nifti
from braindino.volume.recipe import Recipe
from phantom import scanned


@pytest.fixture(scope="module")
def task(cohort):
    return load_task("tumour_segmentation", cohort, "synthetic")


@pytest.fixture(scope="module")
def fitted(task, encoder):
    return fit(task, encoder, "conv_decoder", steps=300)


def test_the_papers_size_by_counting():
    """25.08 M parameters beside ViT-B, 22.6 % of all; the paper's own fusion of contrasts has 12 of them."""
    with torch.device("meta"):
        decoder = UpDecoder(768, 16, 4, 3)
        model = VisionTransformer(preset("base", qkv_bias=False, storage_tokens=4, in_channels=3))
    trained = sum(one.numel() for one in decoder.parameters())
    kept = sum(one.numel() for one in model.parameters())
    assert decoder.fusion.numel() == 4 * 3072 and trained - decoder.fusion.numel() == 25_076_739
    assert kept == 85_641_984
    assert abs(100 * trained / (trained + kept) - 22.6) < 0.1
    assert [part.up.weight.shape[1] for part in decoder.steps] == [1536, 768, 384, 192]


@pytest.mark.parametrize(
    ("depth", "blocks"),
    [(12, (2, 5, 8, 11)), (24, (5, 11, 17, 23)), (40, (9, 19, 29, 39)), (6, (1, 2, 4, 5)), (2, (0, 0, 1, 1))],
)
def test_four_blocks_of_any_depth(depth, blocks):
    assert levels(depth) == blocks


@pytest.mark.parametrize("patch", [1, 14, 0])
def test_patches_that_cannot_be_doubled_up(patch):
    with pytest.raises(ValueError, match="2, 4, 8, 16"):
        UpDecoder(32, patch, 1, 1)


def test_each_contrast_is_seen_alone_and_fusion_starts_as_the_mean(encoder):
    pictures = torch.randn(2, 3, 48, 48)
    maps = feature_maps(encoder.model, pictures, 3)
    assert maps.shape == (2, 3, 4 * 32, 6, 6)
    alone = encoder.model(pictures[1:2, 2:3]).patch[0]  # the last block, through the final norm
    assert torch.allclose(maps[1, 2, 96:].flatten(1).T, alone, atol=1e-5)
    decoder = UpDecoder(32, 8, 3, 2).eval()
    same = maps.mean(1, keepdim=True).expand_as(maps)
    assert decoder(maps).shape == (2, 2, 48, 48) and torch.allclose(decoder(maps), decoder(same), atol=1e-4)


def test_the_loss_is_dice_and_cross_entropy_of_each_region():
    logits, wanted = torch.randn(3, 2, 8, 8), (torch.rand(3, 2, 8, 8) > 0.7).float()
    p, expected = logits.sigmoid(), []
    for r in range(2):
        dice = (2 * (p * wanted)[:, r].sum() + 1e-5) / ((p + wanted)[:, r].sum() + 1e-5)
        binary = -(wanted * p.log() + (1 - wanted) * (1 - p).log())[:, r].mean()
        expected.append(1 - dice + binary)
    assert torch.allclose(dice_and_cross_entropy("x")(logits, wanted), torch.stack(expected).mean(), atol=1e-5)


def test_monai_missing_is_one_sentence(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "monai.losses.dice", None)
    with pytest.raises(ValueError, match=r"'conv_decoder' needs MONAI: pip install 'braindino\[segmentation\]'"):
        dice_and_cross_entropy("conv_decoder")


def test_a_third_of_a_batch_has_a_lesion():
    values, labels = np.zeros((99, 1, 4, 4), np.float16), np.zeros((99, 4, 4), np.int16)
    with Slices("x") as slices:
        slices.add(values, labels)
        assert not any(forced for _, forced in draw(slices, 12, np.random.default_rng(0)))
        slices.add(values[:1], labels[:1] + 1)
        drawn = draw(slices, 12, np.random.default_rng(0))
    assert [bool(one.labels.any()) for one, forced in drawn if forced] == [True] * 4 and len(drawn) == 12


def test_values_and_labels_are_changed_together():
    recipe, rng = Recipe(size_px=32, spacing_mm=4.0), np.random.default_rng(0)
    values = np.full((2, 32, 32), recipe.background, np.float16)
    labels = np.zeros((32, 32), np.int16)
    values[:, 8:20, 14:25], labels[8:20, 14:25] = 1.0, 3
    picture = Picture(values, labels)
    plain = changed(picture, False, recipe, 2, None)
    assert np.array_equal(plain[0], values) and np.array_equal(plain[1], labels)
    seen = set()
    for _ in range(20):
        moved, known = changed(picture, False, recipe, 2, rng)
        inside = known == 3
        assert set(known.unique().tolist()) == {0, 3}
        assert (moved[:, inside] > -1.5).float().mean() > 0.97  # but at the border, which is interpolated
        assert torch.isclose(moved[:, 0, 0], torch.tensor(recipe.background)).all()
        seen.add((round(float(moved[0][inside].max()), 3), int(inside.sum()), int(inside[:, :16].sum())))
    assert len(seen) > 15


def test_a_window_of_a_large_slice_holds_the_lesion_it_was_drawn_for():
    recipe, labels = Recipe(size_px=32, spacing_mm=4.0), np.zeros((90, 90), np.int16)
    labels[80:86, 3:9] = 1
    picture = Picture(labels[None].astype(np.float16), labels)
    for seed in range(10):
        assert changed(picture, True, recipe, 1, np.random.default_rng(seed))[1].any()


def test_windows_cover_and_overlap_by_half():
    assert windows(48, 48) == [0] and windows(30, 48) == [0]
    for side, size in ((49, 48), (72, 48), (100, 48), (512, 224)):
        places = windows(side, size)
        assert places[0] == 0 and places[-1] == side - size and max(np.diff(places)) <= size // 2
    assert importance(48).argmax() in (23 * 48 + 23, 23 * 48 + 24, 24 * 48 + 23, 24 * 48 + 24)


def test_a_brain_larger_than_the_window_is_seen_as_a_whole(encoder):
    small = replace(encoder.recipe, size_px=24)
    volume = scanned()
    cut, full = encoder.prepare(volume, every_slice=True), whole(volume, small)
    assert whole(volume, encoder.recipe).voxels.shape == cut.voxels.shape  # it fits: the recipe's own grid
    assert full.voxels.shape[1] > 24 and full.brain_mask.sum() == cut.brain_mask.sum()


def test_windows_join_without_a_seam_and_mirrors_agree(task, encoder):
    """A decoder that says the same everywhere says so through windows too; a mirrored slice has a mirrored answer."""
    torch.manual_seed(0)
    decoder, pictures = UpDecoder(32, 8, 1, 2).eval(), torch.randn(2, 1, 72, 72)
    found = segmenting._probability(encoder.model, decoder, pictures, 48)
    mirrored = segmenting._probability(encoder.model, decoder, pictures.flip(3), 48)
    assert found.shape == (2, 2, 72, 72) and np.allclose(found, mirrored[..., ::-1], atol=1e-5)
    assert found.std() > 1e-3
    torch.nn.init.zeros_(decoder.last.weight)
    constant = segmenting._probability(encoder.model, decoder, pictures, 48)
    assert np.allclose(constant, 1 / (1 + np.exp(3.0)), atol=1e-6)


def test_a_brain_larger_than_the_window_is_segmented_to_its_border(encoder):
    """Everything is lesion: with windows it is all of the brain, not only its middle."""
    small, volume = replace(encoder.recipe, size_px=24), scanned(contrasts=1)
    decoder = UpDecoder(32, 8, 1, 1).eval()
    torch.nn.init.zeros_(decoder.last.weight)
    torch.nn.init.constant_(decoder.last.bias, 3.0)
    found = segmenting.segment(encoder.model, decoder.requires_grad_(False), small, volume, ("lesion",))["lesion"]
    assert found[volume.brain_mask].mean() > 0.98


def test_learns_keeps_and_writes(tmp_path, task, encoder, fitted, capsys):
    """Better than an empty answer on untrained tokens; the same after a round trip; the encoder is as it was."""
    before = encoder.digest()
    write_head(fitted, tmp_path / "head")
    table = predict(task, encoder, read_head(tmp_path / "head"), out=tmp_path / "p").table
    assert encoder.digest() == before == fitted.encoder_digest
    assert (table["status"] == "ok").all() and table["output_WT_dice"].mean() > 0.4
    again = predict(task, encoder, fitted).table
    assert np.array_equal(again["output_WT_dice"], table["output_WT_dice"])


def test_same_seed_same_head_and_the_share_is_told(task, encoder, capsys):
    one, two, other = (fit(task, encoder, "conv_decoder", steps=3, seed=seed) for seed in (0, 0, 1))
    states = [found.head.state() for found in (one, two, other)]
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])
    assert not np.array_equal(states[0]["fusion"], states[2]["fusion"])
    assert "note: conv_decoder trains" in capsys.readouterr().err and one.steps == 3


def test_tuned_with_the_encoder(tmp_path, task, encoder, capsys):
    """A copy of the encoder learns too and is kept with the head; the encoder itself stays, others' are refused."""
    before = encoder.digest()
    tuned, frozen = (fit(task, encoder, name, steps=6) for name in ("tuned_decoder", "conv_decoder"))
    assert encoder.digest() == before and not any(one.requires_grad for one in encoder.model.parameters())
    assert "tuned_decoder trains 71,779 of 71,779 parameters (100.00%)" in capsys.readouterr().err
    own = encoder.model.state_dict()["blocks.0.attn.qkv.weight"].numpy()
    moved = np.abs(tuned.head.inside["blocks.0.attn.qkv.weight"] - own).max()
    assert 1e-5 < moved < 6 * 3e-5 * 1.1  # Adam moves by at most about the rate in a step
    assert not np.array_equal(tuned.head.decoder.fusion, frozen.head.decoder.fusion)
    write_head(tuned, tmp_path / "head")
    again = read_head(tmp_path / "head")
    assert all(np.array_equal(array, again.head.state()[name]) for name, array in tuned.head.state().items())
    one, two = (predict(task, encoder, head).table for head in (tuned, again))
    assert np.array_equal(one["output_WT_dice"], two["output_WT_dice"]) and (one["status"] == "ok").all()


def test_label_maps_lie_on_the_scans_voxels_and_say_where(tmp_path, task, encoder, fitted):
    """A scan stored as LPS, as BraTS is: the label map has its shape, order, affine and both codes, as integers.

    ITK, by which ITK-SNAP and 3D Slicer read, sees both on one grid.
    """
    case = task.cases_of("test")[0]
    turn = nib.orientations.axcodes2ornt("LPS")
    paths = {}
    for name, path in [*((s.contrast, s.path) for s in case.scans), ("seg", case.scans[0].label_map)]:
        image = nib.load(path).as_reoriented(
            nib.orientations.ornt_transform(nib.io_orientation(nib.load(path).affine), turn)
        )
        paths[name] = tmp_path / f"{name}.nii.gz"
        write_nifti(paths[name], np.asarray(image.dataobj), image.affine)
    scans = tuple(replace(s, path=paths[s.contrast], label_map=paths["seg"], brain_mask=None) for s in case.scans)
    scores, *_ = segmented(task, encoder, fitted.head, (replace(case, scans=scans),), CLEAN, tmp_path)
    assert 0 <= scores["output_WT_dice"] <= 1
    scan, found = nib.load(scans[0].path), nib.load(tmp_path / "label_maps" / f"{case.name}_dseg.nii.gz")
    assert nib.aff2axcodes(found.affine) == ("L", "P", "S") and found.shape == scan.shape
    assert np.allclose(found.affine, scan.affine, atol=1e-4)
    header = found.header
    assert int(header["qform_code"]) == int(header["sform_code"]) == 1
    assert np.allclose(header.get_qform(), header.get_sform(), atol=1e-3)
    assert found.get_data_dtype() == np.uint8 and header.get_xyzt_units()[0] == "mm"
    assert header.get_slope_inter() in ((None, None), (1.0, 0.0)) and header["dim"][0] == 3
    itk = pytest.importorskip("SimpleITK", reason="needs braindino[registration]")
    theirs, ours = (itk.ReadImage(str(path)) for path in (scans[0].path, found.get_filename()))
    for what in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert np.allclose(getattr(ours, what)(), getattr(theirs, what)(), atol=1e-4), what
    assert np.array_equal(itk.GetArrayFromImage(ours), np.asarray(found.dataobj).T)
    labels = np.asarray(found.dataobj)
    truth = np.asarray(nib.load(paths["seg"]).dataobj).astype(np.int16)
    again = region_scores(truth, labels, task.regions, read_volume(scans[0].path).spacing_mm)
    assert again["WT_dice"] == pytest.approx(scores["output_WT_dice"])


@pytest.mark.parametrize("head", ["conv_decoder", "decoder"])
def test_a_bad_training_scan_is_told_and_left_out(tmp_path, task, encoder, head, capsys):
    bad = task.cases_of("train")[0]
    broken = tmp_path / "x.nii.gz"
    broken.write_bytes(bad.scans[0].path.read_bytes()[:500])
    torn = replace(bad, scans=(replace(bad.scans[0], path=broken), *bad.scans[1:]))
    rest = task.cases_of("train")[1:3]
    module = catalog.load("heads", head)
    module.fit_dense(encoder, task, (torn, *rest), (), seed=0, steps=1)
    assert f"{bad.name} is left out of learning" in capsys.readouterr().err
    with pytest.raises(ValueError, match=rf"head '{head}': no .*case has a readable scan with a label map"):
        module.fit_dense(encoder, task, (torn,), (), seed=0, steps=1)


def test_bad_input(task, encoder, fitted, weights):
    case = task.cases_of("test")[0]
    with pytest.raises(ValueError, match="1 contrasts, but the head learned on 4"):
        fitted.head.predict_dense(encoder, task, read_case(case.scans[:1]))
    brain = load_encoder("braindino", weights, 0, "brain")
    with pytest.raises(ValueError, match="needs every patch of a slice"):
        fit(task, brain, "conv_decoder")
    with pytest.raises(ValueError, match="is no vision transformer"):
        fit(task, catalog.load("encoders", "regions").load(None), "conv_decoder")
    with pytest.raises(ValueError, match="decides itself how long"):
        fit(task, encoder, "prior", steps=5)
    twin = load_encoder("random_init", weights, seed=9)
    with pytest.raises(ValueError, match="other encoder weights"):
        predict(task, twin, fitted)


def test_nested_regions_become_the_labels_that_they_add(task):
    wanted = np.arange(4, dtype=np.int16).reshape(4, 1, 1)
    regions = {name: np.isin(wanted, values) for name, values in task.regions.items()}
    assert np.array_equal(one_label_map(regions, task), wanted)
