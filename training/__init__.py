"""What the training loop needs and is not the method."""
