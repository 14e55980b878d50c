"""Parts of the training loop other than the method: gradients, inputs, checkpoints, logs, processes."""
