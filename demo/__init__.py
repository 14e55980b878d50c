"""The demo: the whole method, briefly, without a download."""
