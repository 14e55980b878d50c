"""Scenes and patches: read, prepared, degraded, handed out as batches."""
