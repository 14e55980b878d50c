"""NTIRE2020: one .mat file for each scene."""

from pathlib import Path

from data.raw.mats import find_mat_scenes, read_mat_cube
from data.raw.own import make_scene
from data.raw.raw_scene import RawScene
from data.store import Scene
from facts import VISIBLE


def find(folder: str | Path) -> dict[str, RawScene]:
    """Find the scenes of an NTIRE2020 download; return {name: RawScene}."""
    return find_mat_scenes(folder, "NTIRE2020", read_scene)


def read_scene(path: Path) -> Scene:
    """Read an NTIRE2020 (ARAD) scene: .mat (v7.3) key cube, 400..700 nm, values as stored.

    The size is cropped to multiples of 8 for x4 and x8 (482 x 512 becomes 480 x 512).
    """
    cube = read_mat_cube(path, "cube", len(VISIBLE))
    height, width = (n // 8 * 8 for n in cube.shape[:2])
    scene = make_scene(path, Path(path).stem, cube[:height, :width], 1.0)
    scene.wavelengths = VISIBLE
    return scene
