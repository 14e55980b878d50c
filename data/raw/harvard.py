"""Harvard: one .mat file for each scene."""

from pathlib import Path

from data.raw.mats import find_mat_scenes, read_mat_cube
from data.raw.own import make_scene
from data.raw.raw_scene import RawScene
from data.store import Scene
from facts import VISIBLE

# Full-scale value: the released scripts multiply Harvard's small values by 20.
HARVARD_SCALE = 1 / 20


def find(folder: str | Path) -> dict[str, RawScene]:
    """Find the scenes of a Harvard download; return {name: RawScene}."""
    return find_mat_scenes(folder, "Harvard", read_scene)


def read_scene(path: Path) -> Scene:
    """Read a Harvard scene: .mat (v5) key ref, multiplied by 20; its mask lbl is not used."""
    cube = read_mat_cube(path, "ref", len(VISIBLE))
    scene = make_scene(path, Path(path).stem, cube, HARVARD_SCALE)
    scene.wavelengths = VISIBLE
    return scene
