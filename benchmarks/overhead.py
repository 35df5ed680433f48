"""What the cloud adds around the driver's call of one `start`: before it, and after it until the directory shows it."""

from __future__ import annotations

import time

from vmcloud.config import Config
from vmcloud.domain.vocabulary import Observed

from . import alone, spent
from .measure import Report, Wishes
from .raw import RoundTrip
from .scene import Scene, scene
from .stages import Stages
from .trace import Moment


def run(report: Report, wishes: Wishes) -> None:
    """For the simulated driver, whose calls cost next to nothing, and for real containers."""
    for kind, simulate in (("simulated", 1), ("lxc", 0)):
        stages = "stages" if wishes.trace else "driver"
        with scene(simulate=simulate, trace=stages) as made, RoundTrip(Config.load(made.cloud.data)) as trip:
            _starts(report, made, kind, trip, wishes)
            made.tell_missing(report)
            if simulate:
                alone.measure(report, made, wishes.size(100, 3))


def _starts(report: Report, made: Scene, kind: str, trip: RoundTrip, wishes: Wishes) -> None:
    made.finish(made.create("one", kind=kind, power="stopped"))
    stages = Stages(f"{kind} start")
    raw = f"{kind}: raw broker round trip"
    last = wishes.repetitions(40)
    for number in range(-2, last):
        if number == 0:
            before = spent.look(made.cloud)
        time.sleep(0.1)
        trip_seconds = trip.once()
        assert made.trace is not None
        made.trace.read()
        began = time.monotonic()
        job = made.power("one", "start")
        answered = time.monotonic()
        seen = made.observed("one", Observed.RUNNING, began)
        made.finish(job)
        moments = made.trace.read()
        if number >= 0:  # the first ones open connections
            first, ended = _driver_call(moments)
            report.add(raw, trip_seconds)
            report.add(f"{kind}: request sent → answered", answered - began)
            report.add(f"{kind}: request sent → driver's call begins", first - began, raw=raw)
            report.add(f"{kind}: driver's call", ended - first)
            report.add(f"{kind}: driver's call ends → observed", seen - ended, raw=raw)
            report.add(f"{kind}: added by the cloud", seen - began - (ended - first), raw=raw, target=0.025)
            stages.add(moments, began, {"answered": answered, "observed": seen})
        made.finish(made.power("one", "stop", force=True))
        made.observed("one", Observed.STOPPED, began)
    spent.show(report, before, spent.look(made.cloud), f"{kind}: a start, its stop, looks", units=last, unit="pair")
    if wishes.trace:
        stages.show(report)


def _driver_call(moments: list[Moment]) -> tuple[float, float]:
    """When the driver's `start` began and ended."""
    calls = [moment for moment in moments if moment.what.endswith("Driver.start")]
    return next(each.at for each in calls if each.begins), next(each.at for each in calls if not each.begins)
