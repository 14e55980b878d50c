"""The size of the patches that a config asks for."""

from typing import Protocol

from data.facts import published_patch


class AsksForPatches(Protocol):
    """What a config says of patches; 0 where it leaves them as published."""

    dataset_name: str
    n_scale: int
    patch_size: int
    patch_stride: int


def asked_or_published_patch(config: AsksForPatches) -> tuple[int, int]:
    """(size, stride) in HR pixels as asked, else the published ones."""
    size, stride = published_patch(config.dataset_name, config.n_scale)
    return config.patch_size or size, config.patch_stride or stride
