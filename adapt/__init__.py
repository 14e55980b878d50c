"""The command `adapt`: weights of a sensor, fine-tuned on one scene of it."""
