"""Saved state of an interrupted prediction, from which it is resumed."""

import json
import shutil
import time
import zipfile

import numpy as np

from formats import Output
from predict.scene import SceneState, SceneUpsampler
from system.files import atomic_write
from system.records import Field
from utils import print_line

# Saving the state takes at most 1 / SAVING_SHARE of the time.
SAVING_SHARE = 20
# Earlier versions wrote one peak, or none if it is 1.
STATE = Field(
    dict,
    fields={
        "fingerprint": Field(str),
        "tile_size": Field(int, 0),
        "overlap": Field(int, 0),
        "done": Field(int, 0),
        "clipped": Field(int, 0),
        "seams": Field(str),
        "strips": Field(bool, is_optional=True),
        "peaks": Field(list, 1, items=Field(float, 0), is_optional=True),
        "peak": Field(float, 0, is_optional=True),
    },
)


class Progress:
    """Saved state of one scene.

    The output's work folder contains progress.json (fingerprint, plan, finished tiles, clipped values) and the seams to
    the remaining tiles. Each state is written atomically.

    Args:
        output: of the prediction.
        fingerprint: of the input, the weights and the settings; a state with another fingerprint is discarded.

    Attributes:
        state: from which to resume, or None; `begin` resets it.
    """

    def __init__(self, output: Output, fingerprint: str) -> None:
        self._output, self._fingerprint = output, fingerprint
        self._path = output.work / "progress.json"
        self._seams = ""
        self.state = self._read()
        self._kept = self.state.done if self.state else 0
        self._next_save = 0.0

    def begin(self, scene: SceneUpsampler) -> None:
        """Create the work folder, or restore the saved state of a scene."""
        if self.state is None:
            shutil.rmtree(self._output.work, ignore_errors=True)
            self._output.work.mkdir(parents=True)
            return
        scene.restore(self.state)
        self.state = None
        print_line(f"{self._output.path}: resuming after {scene.done} of {len(scene.plan.tiles)} tiles")

    def save(self, scene: SceneUpsampler) -> None:
        """Save the state of a scene; less often if its seams are large, as they take long to write."""
        started = time.monotonic()
        if started < self._next_save:
            return
        state = scene.get_state()
        if self._output.raw:
            self._output.raw.flush()
        seams = f"seams_{state.done}.npz"
        np.savez(self._output.work / seams, below=state.below, right=state.right)
        content = {
            "fingerprint": self._fingerprint,
            "tile_size": state.tile_size,
            "overlap": state.overlap,
            "done": state.done,
            "clipped": state.clipped,
            "seams": seams,
        }
        if state.strips:
            content["strips"] = True
        if len(state.peaks) > 1:
            content["peaks"] = state.peaks.tolist()
        elif state.peaks[0] != 1:
            content["peak"] = float(state.peaks[0])
        with atomic_write(self._path) as temporary:
            temporary.write_text(json.dumps(content))
        if self._kept:
            (self._output.work / self._seams).unlink(missing_ok=True)
        self._kept, self._seams = state.done, seams
        now = time.monotonic()
        self._next_save = now + SAVING_SHARE * (now - started)

    def suspend(self, scene: SceneUpsampler) -> str:
        """Close the output of an interrupted scene, delete it if no state is saved; return a remark for the user."""
        if not self._kept:
            self._output.discard()
            return "nothing was written"
        if self._output.raw:
            self._output.raw.abandon()
        return f"{self._kept} of {len(scene.plan.tiles)} tiles are kept; repeat the command to continue"

    def _read(self) -> SceneState | None:
        """Return the SceneState from which to resume, or None."""
        if not self._path.is_file():
            return None
        work = self._output.work
        try:
            content = json.loads(self._path.read_text())
            STATE.check(content)
            if content["fingerprint"] != self._fingerprint:
                print_line(f"{work}: its tiles have other input, weights or settings; starting from the beginning")
                return None
            self._seams = content["seams"]
            with np.load(work / self._seams) as seams:
                below, right = seams["below"], seams["right"]
            if self._output.raw_path.stat().st_size != self._output.nbytes:
                raise ValueError("values are missing")
            plan = content["tile_size"], content["overlap"], content.get("strips", False)
            peaks = np.array(content.get("peaks", [content.get("peak", 1.0)]), dtype=np.float64)
            return SceneState(*plan, peaks, content["done"], content["clipped"], below, right)
        # Incomplete files of any kind.
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            print_line(f"{work}: the kept tiles cannot be read ({error}); starting from the beginning")
            return None
