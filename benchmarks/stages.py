"""Where the time goes: the traced calls between a request and its completion, as medians over all repetitions."""

from __future__ import annotations

from collections import defaultdict
from statistics import median

from .measure import Report
from .trace import Moment


class Stages:
    """Collects repetitions; ``show`` puts a table into a report."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._runs: list[dict[tuple[str, bool, int], float]] = []

    def add(self, moments: list[Moment], began: float, marks: dict[str, float]) -> None:
        """One repetition that began at ``began``; ``marks``: moments of the benchmark's own, by name."""
        found: dict[tuple[str, bool, int], float] = {}
        counts: dict[tuple[str, bool], int] = defaultdict(int)
        for moment in moments:
            if moment.at >= began:
                key = moment.what, moment.begins
                counts[key] += 1
                found[*key, counts[key]] = moment.at - began
        found |= {(f"* {name}", True, 1): at - began for name, at in marks.items()}
        self._runs.append(found)

    def show(self, report: Report) -> None:
        """One line for each moment that most repetitions had, in order of time."""
        times: dict[tuple[str, bool, int], list[float]] = defaultdict(list)
        for run in self._runs:
            for key, at in run.items():
                times[key].append(at)
        usual = {key: median(found) for key, found in times.items() if len(found) * 2 > len(self._runs)}
        report.note(f"stages of {self._title} (median milliseconds from the request; n={len(self._runs)})")
        last = 0.0
        for (what, begins, number), at in sorted(usual.items(), key=lambda item: item[1]):
            name = what if what.startswith("*") else f"{'>' if begins else '<'} {what}" + (f" #{number}" if number > 1 else "")
            report.note(f"  {at * 1000:9.2f} {(at - last) * 1000:+9.2f}  {name}")
            last = at
