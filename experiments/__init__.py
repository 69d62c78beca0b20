"""One module per study: the question, its sweeps, figures and claims, its cost, what to expect."""
