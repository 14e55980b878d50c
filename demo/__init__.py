"""The demo: a short run of the whole method without a download."""
