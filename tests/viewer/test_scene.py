import base64
import json
import re
import zlib

import fixtures
import numpy as np

import viewer
from viewer.scene import encode_scene

BUDGET = 10**6


def make_scene(shape=(8, 6, 5), scale=2, **details):
    """A scene of smooth cubes: LR, bicubic, truth; the bicubic layer lacks a pixel and a band."""
    height, width, bands = shape
    lr = fixtures.make_smooth_cube(1, *shape).astype(np.float32)
    bicubic, truth = (
        fixtures.make_smooth_cube(k, scale * height, scale * width, bands).astype(np.float32) for k in (2, 3)
    )
    bicubic[3, 4] = np.nan
    bicubic[..., 1] = np.nan
    layers = {"LR": lr, "bicubic": bicubic, "truth": truth}
    chosen = {"before": "LR", "after": "bicubic", "reference": "truth", "rgb": (4, 2, 0), **details}
    return viewer.Scene.from_arrays("a scene", layers, **chosen), layers


def decode_codes(view, name):
    """The codes of a layer, C x H x W, as the page's script decodes them."""
    layer = next(layer for layer in view["layers"] if layer["name"] == name)
    planes = np.frombuffer(zlib.decompress(base64.b64decode(layer["data"])), np.uint8)
    if view["levels"] < 255:
        codes = planes
    else:
        low, high = planes.reshape(2, -1).astype(np.uint16)
        codes = low + high * np.uint16(256)
    codes = np.where(codes & 1, ~(codes >> 1), codes >> 1)
    codes = codes.reshape(view["bands"], layer["height"], layer["width"]).cumsum(axis=0, dtype=codes.dtype)
    if layer["hasBase"]:
        codes = codes + decode_codes(view, view["reference"])
    return codes


def decode(view, name):
    """The cube of a layer: H x W x C."""
    codes = decode_codes(view, name)
    values = view["low"] + view["step"] * codes.astype(float)
    return np.where(codes > view["levels"], np.nan, values).transpose(1, 2, 0)


def test_layers_decode_within_half_a_step():
    layers = {name: np.random.default_rng(k).uniform(size=(9, 7, 5)) for k, name in enumerate("ab")}
    layers["b"][2, 3] = layers["b"][..., 1] = np.nan
    scene = viewer.Scene.from_arrays("a", layers, before="a", after="b", reference="a", rgb=(4, 2, 0))
    budget = BUDGET
    for levels in (4094, 1022, 254):
        (view,) = encode_scene(scene, budget)
        assert view["levels"] == levels
        for name, cube in layers.items():
            np.testing.assert_allclose(decode(view, name), cube, atol=view["step"] * 0.51)
        budget = sum(len(layer["data"]) for layer in view["layers"]) - 1


def test_large_scenes_become_overview_and_detail():
    scene, layers = make_scene((60, 50, 9), 4, focus=(59, 0))
    whole, detail = encode_scene(scene, 20_000)
    assert sum(len(layer["data"]) for view in (whole, detail) for layer in view["layers"]) <= 20_000
    pixel = whole["pixel"]
    # Each of its pixels is the mean of the truth's.
    top = layers["truth"][:pixel, :pixel].mean(axis=(0, 1))
    np.testing.assert_allclose(decode(whole, "truth")[0, 0], top, atol=whole["step"])
    row, column = detail["origin"]
    shown = decode(detail, "truth")
    assert (row + shown.shape[0], column) == (240, 0)
    np.testing.assert_allclose(shown, layers["truth"][row:, : shown.shape[1]], atol=detail["step"])


def test_means_leave_out_missing_values():
    cube = np.random.default_rng(0).uniform(size=(50, 61, 3))
    cube[::3, ::2] = np.nan
    scene = viewer.Scene.from_arrays("a", {"x": cube}, before="x", after="x", reference="x", rgb=(0, 1, 2))
    whole = encode_scene(scene, 2000)[0]
    shown, pixel = decode(whole, "x"), whole["pixel"]
    assert pixel > 2 and shown.shape[:2] == (-(-50 // pixel), -(-61 // pixel))
    for row, column in ((0, 0), (len(shown) - 1, shown.shape[1] - 1)):
        square = cube[row * pixel : (row + 1) * pixel, column * pixel : (column + 1) * pixel]
        np.testing.assert_allclose(shown[row, column], np.nanmean(square, axis=(0, 1)), atol=whole["step"])


def test_scenes_without_data_are_encoded():
    cube = np.full((4, 4, 3), np.nan)
    scene = viewer.Scene.from_arrays("a", {"x": cube}, before="x", after="x", reference="x", rgb=(0, 1, 2))
    (view,) = encode_scene(scene, BUDGET)
    assert np.isnan(decode(view, "x")).all()


def test_scenes_share_the_budget_of_a_page():
    scenes = [make_scene((40, 40, 31), 4)[0] for _ in range(3)]
    assert len(viewer.render_page("t", "i", scenes, 300_000)) < 300_000 + 60_000


def test_names_cannot_end_the_script():
    page = viewer.render_page("<b>", "&", [make_scene()[0], make_scene(picture_text="</script><i>", picture=b"1")[0]])
    assert "<b>" not in page and "</script><i>" not in page
    views = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page)
    assert [json.loads(view)["title"] for view in views] == ["a scene"] * 2


def test_pages_load_nothing_from_elsewhere():
    page = viewer.render_page("t", "i", [make_scene()[0]])
    addresses = set(re.findall(r'(?:src|href)="([^"]*)"|(https?://[^"\s]*)', page))
    assert {a or b for a, b in addresses} <= {"data:,", "http://www.w3.org/2000/svg"}


def test_viewers_of_one_page_share_assets():
    scene, _ = make_scene(origin=(20, 60), styles={"LR": ("#123456", "2 2")})
    first, last = (viewer.render_fragment([scene], BUDGET, has_assets=k, level=4) for k in (False, True))
    assert "<style>" not in first and "class Viewer" not in first
    assert "<style>" in last and "class Viewer" in last and "<h4>" in last
    (view,) = encode_scene(scene, BUDGET)
    assert (view["origin"], view["styles"]) == ([20, 60], {"LR": ("#123456", "2 2")})
