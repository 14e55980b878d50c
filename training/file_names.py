"""Names of the files in the directory of a run; imports no torch, as `tables` does not need it."""

# The newest checkpoint, the one before it, and the weights of the best validation.
LAST, PREVIOUS, BEST = "last.pth", "previous.pth", "best.pth"
LOG, TEXT_LOG, VALIDATION, TENSORBOARD = "log.csv", "train.log", "validation.csv", "tensorboard"
CONFIG, RESULTS = "config.json", "results.json"
