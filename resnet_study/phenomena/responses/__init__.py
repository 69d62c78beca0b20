"""The size of what layers put out after training."""
