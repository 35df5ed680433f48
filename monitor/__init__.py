"""The VE-monitor: makes the directory equal to what the nodes saw, and does nothing else."""
