"""Create + start from a clone, and start, through the whole cloud; beside the same by liblxc's tools, in turn."""

from __future__ import annotations

import time

from vmcloud.config import Config
from vmcloud.domain.vocabulary import Observed

from .measure import Report, Wishes
from .raw import Tools
from .scene import Scene, scene
from .stages import Stages


def run(report: Report, wishes: Wishes) -> None:
    """The raw tools and the cloud take turns, so that both meet the same machine."""
    with scene(trace="stages" if wishes.trace else "") as made:
        made.finish(made.create("one", kind="lxc", power="stopped"))
        tools = Tools(Config.load(made.cloud.data), made.cloud.data.parent / "raw")
        _starts(report, made, tools, wishes)
        _creates(report, made, tools, wishes)
        made.tell_missing(report)


def _starts(report: Report, made: Scene, tools: Tools, wishes: Wishes) -> None:
    native, text = tools.template()
    tools.clone(native, text)
    stages = Stages("start")
    for number in range(-2, wishes.repetitions(30)):
        time.sleep(0.1)
        began = time.monotonic()
        tools.start(native)
        raw = time.monotonic() - began
        tools.stop(native)
        time.sleep(0.1)
        _forget(made)
        began = time.monotonic()
        job = made.power("one", "start")
        seen = made.observed("one", Observed.RUNNING, began)
        made.finish(job)
        ended = time.monotonic()
        if number >= 0:
            report.add("raw start", raw)
            report.add("cloud start: request → observed running", seen - began, raw="raw start", target=0.025)
            report.add("cloud start: request → job complete (polled)", ended - began, raw="raw start")
            _note(stages, made, began, seen)
        made.finish(made.power("one", "stop", force=True))
        made.observed("one", Observed.STOPPED, began)
    tools.remove(native)
    if wishes.trace:
        stages.show(report)


def _creates(report: Report, made: Scene, tools: Tools, wishes: Wishes) -> None:
    stages = Stages("create + start")
    for number in range(-2, wishes.repetitions(30)):
        time.sleep(0.1)
        native, text = tools.template()
        began = time.monotonic()
        tools.clone(native, text)
        tools.start(native)
        raw = time.monotonic() - began
        tools.stop(native)
        tools.remove(native)
        time.sleep(0.1)
        name = f"new{number + 2}"
        _forget(made)
        began = time.monotonic()
        job = made.create(name, kind="lxc", power="running")
        seen = made.observed(name, Observed.RUNNING, began)
        made.finish(job)
        if number >= 0:
            report.add("raw clone + start", raw)
            report.add("cloud create: request → observed running", seen - began, raw="raw clone + start", target=0.1)
            _note(stages, made, began, seen)
        made.delete(name)
    if wishes.trace:
        stages.show(report)


def _forget(made: Scene) -> None:
    if made.trace is not None:
        made.trace.read()


def _note(stages: Stages, made: Scene, began: float, seen: float) -> None:
    if made.trace is not None:
        stages.add(made.trace.read(), began, {"observed": seen})
