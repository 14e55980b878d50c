import numpy as np
from helpers import ROOT, VISIBLE, make_tiny_network

import facts
from models import weights as checkpoint


def test_weights_remember_their_wavelengths(weights, tmp_path, golden_x4):
    np.testing.assert_array_equal(checkpoint.load(weights).wavelengths, VISIBLE)
    checkpoint.save_weights(make_tiny_network(), tmp_path / "unknown.pth", 2)
    assert checkpoint.load(tmp_path / "unknown.pth").wavelengths is None
    released = tmp_path / "Harvard_DeepShare_Blocks=3_Subs8_Ovls2_Feats=256_epoch_10_x.pth"
    released.write_bytes(golden_x4.weights_path.read_bytes())
    np.testing.assert_array_equal(checkpoint.load(released).wavelengths, VISIBLE)
    assert facts.get_wavelengths("Harvard", 128) is None


def test_training_saves_the_wavelengths_of_stores(run, tiny_flags):
    assert (
        run(
            "train",
            **tiny_flags,
            dataset_name="Mine",
            conversionMat_path=ROOT / "data/conversion_31_to_8.csv",
            max_iterations=1,
        )[0]
        == 0
    )
    (path,) = tiny_flags["save_dir"].glob("*/Mine_*.pth")
    np.testing.assert_array_equal(checkpoint.load(path).wavelengths, VISIBLE)
