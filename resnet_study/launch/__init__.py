"""From a sweep file to runs: expansion, local workers, SLURM, status. Starts no jax itself."""

from resnet_study.launch.expand import expand, read_sweep
from resnet_study.launch.local import Outcome, Pool, run_local
from resnet_study.launch.sweep import Sweep, load_sweep

__all__ = ["Outcome", "Pool", "Sweep", "expand", "load_sweep", "read_sweep", "run_local"]
