"""The size of the patches that a config asks for."""

from data.facts import published_patch


def asked_or_published_patch(dataset_name: str, n_scale: int, size: int, stride: int) -> tuple[int, int]:
    """(size, stride) in HR pixels as asked, where they are not 0, else the published ones."""
    published_size, published_stride = published_patch(dataset_name, n_scale)
    return size or published_size, stride or published_stride
