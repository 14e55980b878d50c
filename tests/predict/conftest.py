import pytest
from helpers import VISIBLE, make_tiny_network

from models.weights import save_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights of the tiny network with the wavelengths `VISIBLE`."""
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    save_weights(make_tiny_network(), path, 2, VISIBLE)
    return path


@pytest.fixture(scope="module")
def unlabelled_weights(tmp_path_factory):
    """Weights of the tiny network without wavelengths."""
    path = tmp_path_factory.mktemp("weights") / "unlabelled.pth"
    save_weights(make_tiny_network(), path, 2)
    return path
