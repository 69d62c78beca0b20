"""From records to evidence: selections, statistics, theory lines, claims. Imports no jax."""
