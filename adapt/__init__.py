"""The command `adapt`: weights fine-tuned for a sensor on one of its scenes."""
