"""Inference on users' scenes: `super_resolve` for arrays, and the command `predict` for files in `predict.files`.

cube = np.load("scene.npy")                             # rows x columns x bands, any number type
upsampled = super_resolve(cube, "weights.pth", wavelengths=np.linspace(400, 700, 31))
"""

from predict.array import super_resolve

__all__ = ["super_resolve"]
