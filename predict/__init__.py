"""Scenes of one's own made larger: `super_resolve` for arrays, and in `predict.files` the command for files.

cube = np.load("scene.npy")                             # rows x columns x bands, any number type
larger = super_resolve(cube, "weights.pth", wavelengths=np.linspace(400, 700, 31))
"""

from predict.array import super_resolve

__all__ = ["super_resolve"]
