import shutil

import fixtures
import numpy as np
import pytest
import rasterio
from PIL import Image

from data import prepare
from data.raw import cave
from data.store import Store
from facts import VISIBLE


def test_stores_contain_raw_pixels_in_original_type(stores):
    assert Store(stores / "labelled.h5").names == list(fixtures.LABELLED)
    scene = Store(stores / "labelled.h5").read("hairs")
    expected = (fixtures.make_smooth_cube(1) * 65535).round().astype(np.uint16)
    assert scene.cube.dtype == np.uint16
    np.testing.assert_array_equal(scene.cube, expected)
    np.testing.assert_array_equal(scene.wavelengths, VISIBLE)
    np.testing.assert_allclose(scene.values(), expected / 65535, rtol=1e-7)


def test_watercolors_is_scaled_by_protocol(stores):
    scene = Store(stores / "test.h5").read("watercolors")
    assert scene.cube.dtype == np.uint8
    assert scene.values("corrected").max() == pytest.approx(scene.cube.max() / 255)
    assert scene.values("published").max() == pytest.approx(scene.cube.max() / 65535)
    other = Store(stores / "test.h5").read("jelly_beans")
    np.testing.assert_array_equal(other.values("corrected"), other.values("published"))


def test_lr_images_become_unlabelled_scenes(stores):
    scene = Store(stores / "unlabelled.h5").read("beads")
    assert scene.lr_scale == 4
    assert scene.cube.shape == (12, 12, 31)


def test_quarter_size_cave_scenes_become_lr_images(run, tmp_path):
    fixtures.write_cave_scene(tmp_path / "raw", "beads", fixtures.make_smooth_cube(0, 128, 128))
    code, _, _ = run("prepare", raw_dir=tmp_path / "raw", out_dir=tmp_path / "out", unlabelled="beads")
    assert code == 0
    assert Store(tmp_path / "out" / "unlabelled.h5").read("beads").lr_scale == 4


def test_lr_images_replace_earlier_hr_scenes(run, raw, tmp_path):
    flags = {"out_dir": tmp_path, "unlabelled": "beads,cd"}
    assert run("prepare", raw_dir=raw / "cave", **flags)[0] == 0
    assert Store(tmp_path / "unlabelled.h5").read("cd").lr_scale == 1
    assert run("prepare", unlabelled_lr_dir=raw / "cave", **flags)[0] == 0
    assert Store(tmp_path / "unlabelled.h5").read("cd").lr_scale == 4


def test_stray_pictures_are_skipped(run, raw, tmp_path):
    shutil.copytree(raw / "cave_lr_x4", tmp_path / "lr")
    for name in ("docs/fig_1.png", "other/fig_1.png", "IMG_1.png", "beads_ms/beads_ms/._beads_ms_01.png"):
        (tmp_path / "lr" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "lr" / name).write_bytes(b"stray")
    assert run("prepare", unlabelled_lr_dir=tmp_path / "lr", out_dir=tmp_path)[0] == 0
    assert Store(tmp_path / "unlabelled.h5").names == ["beads", "cd"]


def test_repeated_prepare_reads_nothing(run, raw, tmp_path, monkeypatch):
    flags = {"raw_dir": raw / "cave", "out_dir": tmp_path, "allow_missing": 1}
    code, out, _ = run("prepare", **flags)
    assert code == 0
    assert all(f"{split}.h5" in out for split in ("labelled", "unlabelled", "test"))
    before = (tmp_path / "test.h5").stat().st_mtime_ns
    monkeypatch.setattr(cave, "read_scene", lambda *_: pytest.fail("read again"))
    code, out, err = run("prepare", **flags)
    assert code == 0
    assert out.count("up to date") + err.count("up to date") == 3
    assert (tmp_path / "test.h5").stat().st_mtime_ns == before


def test_a_changed_raw_file_is_read_again(run, raw, tmp_path):
    cave = tmp_path / "cave"
    shutil.copytree(raw / "cave", cave)
    flags = {"raw_dir": cave, "out_dir": tmp_path / "out", "allow_missing": 1}
    assert run("prepare", **flags)[0] == 0
    band = cave / "hairs_ms" / "hairs_ms" / "hairs_ms_07.png"
    Image.fromarray(np.full((fixtures.EDGE, fixtures.EDGE), 77, np.uint16)).save(band)
    assert run("prepare", **flags)[0] == 0
    cube = Store(tmp_path / "out" / "labelled.h5").read("hairs").cube
    assert (cube[:, :, 6] == 77).all()


def test_interrupted_prepare_resumes_at_the_last_scene(run, raw, tmp_path, monkeypatch):
    read, calls = cave.read_scene, []

    def interrupted(name, files):
        calls.append(name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return read(name, files)

    monkeypatch.setattr(cave, "read_scene", interrupted)
    flags = {"raw_dir": raw / "cave", "out_dir": tmp_path, "labelled": "balloons,hairs", "test": "jelly_beans"}
    assert run("prepare", **flags)[0] == 130
    assert not list(tmp_path.glob("*.h5"))
    assert run("prepare", **flags)[0] == 0
    assert calls == ["balloons", "hairs", "hairs", "jelly_beans"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["labelled.h5", "test.h5"]


def test_name_lists_replace_the_published_split(run, raw, tmp_path):
    assert run("prepare", raw_dir=raw / "cave", out_dir=tmp_path, labelled="cd, beads", test="hairs")[0] == 0
    assert Store(tmp_path / "labelled.h5").names == ["cd", "beads"]
    assert Store(tmp_path / "test.h5").names == ["hairs"]
    assert not (tmp_path / "unlabelled.h5").exists()


def test_missing_scenes_are_all_named_at_once(refused, raw, tmp_path):
    sentence = refused("prepare", raw_dir=raw / "cave", out_dir=tmp_path / "out")
    assert "chart_and_stuffed_toy" in sentence
    assert "sponges" in sentence
    assert "balloons" not in sentence
    assert "--allow_missing 1" in sentence
    assert not (tmp_path / "out").exists()


def test_scenes_in_two_splits_are_refused(refused, raw, tmp_path):
    assert "hairs" in refused("prepare", raw_dir=raw / "cave", out_dir=tmp_path, labelled="hairs", test="hairs")
    lr = tmp_path / "lr"
    fixtures.write_cave_scene(lr, "hairs", fixtures.make_smooth_cube(0, 12, 12))
    sentence = refused("prepare", raw_dir=raw / "cave", unlabelled_lr_dir=lr, out_dir=tmp_path / "o", allow_missing=1)
    assert "hairs is a labelled scene" in sentence


def break_truncated(folder):
    band = folder / "hairs_ms_05.png"
    band.write_bytes(band.read_bytes()[:200])
    return "hairs_ms_05.png"


def break_empty(folder):
    (folder / "hairs_ms_05.png").write_bytes(b"")
    return "hairs_ms_05.png"


def break_missing(folder):
    (folder / "hairs_ms_05.png").unlink()
    return "lacks 1 of 31 bands (05)"


def break_surplus(folder):
    shutil.copy(folder / "hairs_ms_05.png", folder / "hairs_ms_32.png")
    return "band 32"


def break_size(folder):
    Image.fromarray(np.zeros((8, 9), np.uint16)).save(folder / "hairs_ms_05.png")
    return "9x8 pixels"


def break_depth(folder):
    Image.fromarray(np.zeros((fixtures.EDGE, fixtures.EDGE), np.uint8)).save(folder / "hairs_ms_05.png")
    return "uint8"


def break_colour(folder):
    pixels = np.random.default_rng(0).integers(0, 255, (fixtures.EDGE, fixtures.EDGE, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "hairs_ms_05.png")
    return "colour picture"


def break_twice(folder):
    shutil.copytree(folder, folder.parent.parent / "copy")
    return "exists twice"


BREAKS = [v for k, v in sorted(globals().items()) if k.startswith("break_")]


@pytest.mark.parametrize("damage", BREAKS, ids=lambda f: f.__name__)
def test_damaged_scenes_are_refused_without_a_store(refused, tmp_path, damage):
    folder = fixtures.write_cave_scene(tmp_path / "raw", "hairs", fixtures.make_smooth_cube(0))
    word = damage(folder)
    assert word in refused("prepare", raw_dir=tmp_path / "raw", out_dir=tmp_path / "out", labelled="hairs")
    assert not list((tmp_path / "out").rglob("*.h5"))


def test_folders_without_scenes_are_refused(refused, tmp_path):
    assert "no such file or folder" in refused("prepare", raw_dir=tmp_path / "none", out_dir=tmp_path)
    (tmp_path / "empty").mkdir()
    assert "empty" in refused("prepare", raw_dir=tmp_path / "empty", out_dir=tmp_path)
    (tmp_path / "file").write_text("x")
    assert "a file" in refused("prepare", raw_dir=tmp_path / "file", out_dir=tmp_path)
    fixtures.write_pictures(tmp_path / "pictures")
    assert "no CAVE scene" in refused("prepare", raw_dir=tmp_path / "pictures", out_dir=tmp_path)


def test_links_are_followed_and_loops_end(run, raw, tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "hairs_ms").symlink_to(raw / "cave" / "hairs_ms")
    (tmp_path / "raw" / "loop").symlink_to(tmp_path / "raw")
    assert run("prepare", raw_dir=tmp_path / "raw", out_dir=tmp_path / "out", labelled="hairs")[0] == 0


def test_seed_determines_the_split_of_scenes(run, tmp_path):
    for k in range(10):
        fixtures.write_own(tmp_path / "raw", "npy", fixtures.make_smooth_cube(k, 12, 10, 5).astype(np.float32), f"s{k}")
    drawn = []
    for number, seed in enumerate((1, 1, 2)):
        out = tmp_path / str(number)
        assert run("prepare", dataset_name="Mine", raw_dir=tmp_path / "raw", out_dir=out, seed=seed, n_scale=2)[0] == 0
        drawn.append([Store(out / f"{split}.h5").names for split in ("labelled", "unlabelled", "test")])
        assert [len(names) for names in drawn[-1]] == [6, 2, 2]
        assert sorted(sum(drawn[-1], [])) == [f"s{k}" for k in range(10)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_several_workers_write_the_same_store(run, tmp_path):
    for k in range(12):
        fixtures.write_own(
            tmp_path / "raw", "npy", fixtures.make_smooth_cube(k, 12, 10, 5).astype(np.float32), f"s{k:02d}"
        )
    flags = {"dataset_name": "Mine", "raw_dir": tmp_path / "raw", "fractions": "1,0,0", "n_scale": 2}
    for workers in (1, 2):
        assert run("prepare", **flags, workers=workers, out_dir=tmp_path / str(workers))[0] == 0
    one, two = (Store(tmp_path / w / "labelled.h5") for w in ("1", "2"))
    assert one.attributes == two.attributes
    assert one.hashes == two.hashes
    for name in one.names:
        np.testing.assert_array_equal(one.read(name).cube, two.read(name).cube)


def test_crop_cuts_odd_sizes_to_whole_multiples(run, refused, tmp_path):
    (tmp_path / "raw").mkdir()
    cube = fixtures.make_smooth_cube(0, 34, 39, 5).astype(np.float32)
    np.savez(tmp_path / "raw" / "odd.npz", image=cube)
    flags = {"raw_dir": tmp_path / "raw", "out_dir": tmp_path, "dataset_name": "Mine", "test": "odd"}
    assert run("prepare", **flags)[0] == 0
    assert Store(tmp_path / "test.h5").read("odd").cube.shape == (34, 39, 5)
    words = {"test_dir": tmp_path / "test.h5", "model_title": "Bicubic", "result_path": tmp_path / "results"}
    assert "prepare it with --crop 1" in refused("test", **words)
    code, out, err = run("prepare", **flags, crop=1)
    assert code == 0
    assert "odd.npz: cropped from 39 x 34 to 36 x 32 pixels, multiples of 4" in out + err
    np.testing.assert_array_equal(Store(tmp_path / "test.h5").read("odd").cube, cube[:32, :36])
    assert run("test", **words)[0] == 0
    # The store of the whole scenes is another.
    assert run("prepare", **flags)[0] == 0
    assert Store(tmp_path / "test.h5").read("odd").cube.shape == (34, 39, 5)


def test_gains_and_masks_apply_to_prepared_scenes(run, tmp_path):
    (tmp_path / "raw").mkdir()
    cube = fixtures.make_smooth_cube(0, 32, 36, 5) * 0.8
    counts = np.rint((cube + 0.1) * 10000).astype(np.uint16)
    profile = {"driver": "GTiff", "width": 36, "height": 32, "count": 5, "dtype": "uint16", "crs": "EPSG:32633"}
    mask = np.full((32, 36), 255, np.uint8)
    mask[:4] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        with rasterio.open(
            tmp_path / "raw" / "a.tif", "w", **profile, transform=rasterio.Affine(10, 0, 0, 0, -10, 0)
        ) as f:
            f.write(counts.transpose(2, 0, 1))
            f.scales, f.offsets = [1e-4] * 5, [-0.1] * 5
            f.write_mask(mask)
    code, out, err = run("prepare", raw_dir=tmp_path / "raw", out_dir=tmp_path, dataset_name="Mine", test="a")
    assert code == 0
    assert "12.5% of the pixels are masked" in out + err
    values = Store(tmp_path / "test.h5").read("a").values()
    np.testing.assert_allclose(values[4:], cube[4:], atol=6e-5)
    np.testing.assert_allclose(values[0], cube[4], atol=6e-5)


def own_raw(folder, names="abcde"):
    for name in names:
        cube = fixtures.make_smooth_cube(ord(name), 24, 28, 5).astype(np.float32)
        fixtures.write_own(folder, "npy", cube, name)
    return {"dataset_name": "Mine", "raw_dir": folder, "n_scale": 2}


def stores_in(folder):
    return {path.stem: Store(path).names for path in sorted(folder.glob("[a-z]*.h5"))}


def test_stores_of_an_older_split_are_removed(run, tmp_path):
    flags = {**own_raw(tmp_path / "raw"), "out_dir": tmp_path / "out"}
    assert run("prepare", **flags, labelled="a,b", unlabelled="c", test="d")[0] == 0
    code, out, err = run("prepare", **flags, labelled="c,d")
    assert code == 0
    assert stores_in(tmp_path / "out") == {"labelled": ["c", "d"]}
    for split in ("unlabelled", "test"):
        assert f"{split}.h5: removed" in out + err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["labelled.h5"]


def test_stores_of_other_origin_stay(run, raw, tmp_path):
    flags = {**own_raw(tmp_path / "raw"), "out_dir": tmp_path / "out"}
    assert run("prepare", **{**flags, "dataset_name": "Other"}, test="d")[0] == 0
    assert run("prepare", unlabelled_lr_dir=raw / "cave_lr_x4", out_dir=tmp_path / "out")[0] == 0
    (tmp_path / "out" / "rgb.h5").write_bytes(b"of somebody")
    assert run("prepare", **flags, labelled="a")[0] == 0
    assert run("prepare", raw_dir=raw / "cave", out_dir=tmp_path / "out", labelled="balloons")[0] == 0
    # LR images come by a call of their own, and are of another data set than the other stores here.
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["labelled.h5", "rgb.h5", "test.h5", "unlabelled.h5"]


def test_lr_images_alone_leave_the_other_splits(run, raw, tmp_path):
    assert run("prepare", raw_dir=raw / "cave", out_dir=tmp_path, labelled="balloons", test="hairs")[0] == 0
    assert run("prepare", unlabelled_lr_dir=raw / "cave_lr_x4", out_dir=tmp_path)[0] == 0
    assert set(stores_in(tmp_path)) == {"labelled", "unlabelled", "test"}


def test_splits_appear_together_or_not_at_all(run, refused, tmp_path):
    flags = {**own_raw(tmp_path / "raw"), "out_dir": tmp_path / "out"}
    assert run("prepare", **flags, labelled="a,b", test="c")[0] == 0
    before = stores_in(tmp_path / "out")
    np.save(tmp_path / "raw" / "e.npy", np.full((24, 28, 5), np.nan, np.float32))
    refused("prepare", **flags, labelled="c,d", test="e")
    assert stores_in(tmp_path / "out") == before == {"labelled": ["a", "b"], "test": ["c"]}
    # The finished split is not made again.
    (tmp_path / "raw" / "e.npy").unlink()
    own_raw(tmp_path / "raw", "e")
    assert run("prepare", **flags, labelled="c,d", test="e")[0] == 0
    assert stores_in(tmp_path / "out") == {"labelled": ["c", "d"], "test": ["e"]}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["labelled.h5", "test.h5"]


def test_stop_between_stores_leaves_no_mixed_splits(run, tmp_path, monkeypatch):
    flags = {**own_raw(tmp_path / "raw"), "out_dir": tmp_path / "out"}
    assert run("prepare", **flags, labelled="a,b", test="c")[0] == 0
    replace, moved = prepare.os.replace, []

    def stopped(source, target):
        if str(source).endswith(".new") and moved:
            raise KeyboardInterrupt
        moved.append(target) if str(source).endswith(".new") else None
        return replace(source, target)

    monkeypatch.setattr(prepare.os, "replace", stopped)
    assert run("prepare", **flags, labelled="c,d", test="e")[0] == 130
    assert stores_in(tmp_path / "out") == {"labelled": ["c", "d"]}
    monkeypatch.undo()
    assert run("prepare", **flags, labelled="c,d", test="e")[0] == 0
    assert stores_in(tmp_path / "out") == {"labelled": ["c", "d"], "test": ["e"]}


def test_stores_do_not_overwrite_raw_scenes(refused, tmp_path):
    path = fixtures.write_own(tmp_path, "hdf5", fixtures.make_smooth_cube(0, 24, 28, 5).astype(np.float32), "labelled")
    before = path.read_bytes()
    flags = {"dataset_name": "Mine", "raw_dir": tmp_path, "out_dir": tmp_path, "n_scale": 2, "labelled": "labelled"}
    assert "choose another --out_dir" in refused("prepare", **flags)
    assert path.read_bytes() == before


def test_duplicate_scenes_and_empty_splits_are_reported(run, tmp_path):
    flags = {**own_raw(tmp_path / "raw", "abc"), "out_dir": tmp_path / "out"}
    code, out, err = run("prepare", **flags)
    assert code == 0
    assert "of 3 scenes leaves no scenes for: test" in out + err
    shutil.copy(tmp_path / "raw" / "a.npy", tmp_path / "raw" / "copy.npy")
    code, out, err = run("prepare", **flags, labelled="a,b", test="copy")
    assert code == 0
    assert "labelled scenes have the same content as test scenes: a = copy" in out + err
