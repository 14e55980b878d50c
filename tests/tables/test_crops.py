import numpy as np

from evaluation.samples import Sample
from tables.crops import telling_pixels


def test_spectra_are_of_the_pixels_where_bicubic_and_the_best_differ_most_apart_from_each_other():
    lms = np.zeros((2, 64, 64), np.float32)
    other = lms.copy()
    # The border and the neighbourhood of a pixel that is taken already are passed over.
    for (i, j), value in {(2, 30): 9, (40, 50): 5, (45, 45): 4, (20, 10): 3, (50, 20): -2}.items():
        other[1, i, j] = value
    sample = Sample("s", (0, 0), [0, 0, 0], None, lms[:, ::4, ::4], lms, lms, other)
    assert telling_pixels(sample, other) == [(40, 50), (20, 10), (50, 20)]
