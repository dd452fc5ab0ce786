"""The networks, each with a frozen config read off its weights. They import the diffusion core and nothing else."""
