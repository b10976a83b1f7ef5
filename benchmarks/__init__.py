"""Hot and cold times of Hessians, side by side with JAX, torch.func and CasADi: `python -m benchmarks [--short]`."""
