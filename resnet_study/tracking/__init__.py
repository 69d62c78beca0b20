"""wandb as a mirror: what a run tells, and the process that shows it."""
