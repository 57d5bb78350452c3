"""The training loop: steps and evaluations, the state of a run, its checkpoints and its schedule."""
