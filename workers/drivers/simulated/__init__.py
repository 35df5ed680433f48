"""Simulated guests: rows of a small SQLite file, so that, like real ones, they survive the worker.

For tests and demonstrations: thousands of guests on one machine, delays, failures on command or on a seed, and changes "from
outside" as an operator at the hypervisor's own tools would make them. Nothing of it is real, and it says so wherever it shows.

Map: ``driver`` the driver itself · ``store`` the file · ``programs``, ``shell`` what "runs" inside guests · ``trouble`` planned
faults, ``weather`` delays and failures on a seed · ``outside`` what tests do behind the driver's back, also from another process.
"""

from .driver import SimulatedDriver
from .outside import appear, effects, outside, plan_fault

__all__ = ["SimulatedDriver", "appear", "effects", "outside", "plan_fault"]
