"""What becomes of checkpoints in time: rules for keeping, forgetting, pruning, verifying, the catalogue anew."""
