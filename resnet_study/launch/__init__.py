"""From a sweep file to runs: expansion, local workers, SLURM, status. Starts no jax itself."""
