"""Data sets: preparation, scene stores, patches and batches, degradation, spectral conversion."""
