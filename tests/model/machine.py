"""The state machine: what may happen, in any order, and what is looked at after each thing that did."""

from __future__ import annotations

import functools
import logging
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.model import promises, requests
from tests.model.engine import NODES, TURN_PARTS, Cloud, Process, away
from tests.model.faults import Fault, Killed
from tests.model.promises import ALWAYS, AT_REST, World, broken
from tests.model.requests import Request

VERBS = ("start", "stop", "restart", "suspend", "resume", "resize", "alter-ve", "snapshot", "delete")
SMALL = st.integers(0, 5)
NEWEST = st.sampled_from((0, 0, 0, 1, 1, 2, 3))

terms = st.fixed_dictionaries(
    {},
    optional={
        "hold": st.just(True),
        "retries": st.integers(1, 2),
        "priority": st.integers(0, 2),
        "depend": st.sampled_from(("after", "afterok", "afternotok", "afterany", "beforeany")),
        "walltime": st.just(30.0),
    },
)
new_jobs = st.builds(
    Request,
    what=st.sampled_from(("create", "array", "batch", *VERBS)),
    ve=SMALL,
    other=SMALL,
    part=st.booleans(),
    kind=st.sampled_from(("simulated", "lxc")),
    size=st.integers(128, 131),
    terms=terms,
)
about_jobs = st.builds(
    Request,
    what=st.sampled_from((*requests.ABOUT_A_JOB, "hold", "hold", "cancel", "cancel", "rerun", "alter", "depend")),
    job=NEWEST,
    other=NEWEST,
    part=st.booleans(),
    size=SMALL,
    depend=st.sampled_from(("after", "afterok", "afterany")),
)
any_request = st.one_of(about_jobs, about_jobs, new_jobs)
leader_calls: st.SearchStrategy[str | int] = st.sampled_from(
    (*TURN_PARTS, "turn", "turn", "turn", "schedule", "admit", "finish", "schedule", "admit", "finish", 1, 2, 20, 20, 20)
)
"""A part of a turn, a whole turn, or so many items of the inbox that are taken in."""
OUTSIDE: tuple[str | float, ...] = (0.5, 6.0, 21.0, 50.0, "leader", "broker away", "broker back", "watch", "ahead", "behind")
points = st.one_of(st.integers(1, 8), st.integers(1, 18))
"""Before which effect of a call, not counting those inside of a transaction, somebody else acts."""
effects = st.one_of(st.integers(1, 9), st.integers(1, 9), st.integers(1, 60))
"""At which effect of a call something happens: mostly soon."""


class Broken(AssertionError):
    """A promise that does not hold."""


def step(**strategies: Any) -> Callable[[Callable[..., None]], Any]:
    """A rule, each use of which is remembered, so that a failure can be told as a program."""

    def decorate(do: Callable[..., None]) -> Any:
        @functools.wraps(do)
        def run(self: Engine, **drawn: Any) -> None:
            if not self.over:
                self.follow(do.__name__, drawn)

        STEPS[do.__name__] = do
        return rule(**strategies)(run)

    return decorate


STEPS: dict[str, Callable[..., None]] = {}
"""The rules by their names, as plain functions of a machine and of what was drawn."""
Program = list[tuple[str, dict[str, Any]]]


class Engine(RuleBasedStateMachine):
    """See the folder's ``test_model.py`` for how to run it. ``deadline``: by the steady clock, after which nothing is done."""

    deadline = float("inf")
    failed = False
    failures: ClassVar[list[tuple[Program, BaseException]]] = []
    """What went wrong, each time with all that was done before."""
    hunting: ClassVar[bool] = False
    """Whether a failure only ends its example, so that others are found."""

    def __init__(self) -> None:
        super().__init__()
        # What has failed is tried again and again, to be made shorter.
        self.over = time.monotonic() > self.deadline and (self.hunting or not Engine.failed)
        self.stack = ExitStack()
        self.count = 0
        self.program: Program = []
        """What was done so far."""

    @initialize(asked=st.lists(new_jobs, min_size=1, max_size=3))
    def begin(self, asked: list[Request]) -> None:
        """A cloud with two nodes, one image and a leader; there are some VEs, and jobs that wait."""
        if not self.over:
            self.follow("start", {"asked": asked})

    def start(self, asked: list[Request]) -> None:
        """See :meth:`begin`."""
        logging.disable(logging.CRITICAL)
        self.stack.callback(logging.disable, logging.NOTSET)
        self.cloud = Cloud()
        self.stack.enter_context(self.cloud.running())
        self.cloud.begin()
        self.world = World(self.cloud)
        for number in range(2):
            self._request(Request("create", ve=number), None)
        self.cloud.settle(quiet=1)
        for request in asked:
            self._request(request, None)
        self._look()

    def teardown(self) -> None:
        """Mend everything, let it come to rest, and look at what is then."""
        try:
            if hasattr(self, "world") and not self.over:
                self.follow("rest", {})
        finally:
            self.stack.close()

    # ------------------------------------------------------------------------------------------------------------ rules

    @step(request=any_request)
    def ask(self, request: Request) -> None:
        """Somebody asks for something."""
        self._do(lambda: self._request(request, None))

    @step(request=any_request, fault=st.sampled_from(Fault), at=effects, again=st.booleans())
    def ask_in_vain(self, request: Request, fault: Fault, at: int, again: bool) -> None:
        """Something fails while somebody asks; who asks may repeat it under its key."""
        self._do(lambda: self._request(request, lambda: self.cloud.faults.arm(at, fault), again=again))

    @step(request=any_request, call=leader_calls, at=points)
    def ask_while_the_leader_acts(self, request: Request, call: str | int, at: int) -> None:
        """Between two effects of a request the leader does something."""
        between = lambda: self._lead(call, self.cloud.leading)  # noqa: E731
        self._do(lambda: self._request(request, lambda: self.cloud.faults.arm_between(at, between)))

    @step(call=leader_calls, first=st.booleans())
    def lead(self, call: str | int, first: bool) -> None:
        """The leader does something; or a server process which led, and does not know yet that it does not any more."""
        self._do(lambda: self._lead(call, self._process(first)))

    @step(call=leader_calls, fault=st.sampled_from(Fault), at=effects)
    def lead_in_vain(self, call: str | int, fault: Fault, at: int) -> None:
        """Something fails while the leader acts."""
        self._do(lambda: self._lead(call, self.cloud.leading, lambda: self.cloud.faults.arm(at, fault)))

    @step(first=about_jobs, call=leader_calls, then=about_jobs, at=points, job=NEWEST)
    def lead_while_somebody_asks(self, first: Request, call: str | int, then: Request, at: int, job: int) -> None:
        """Two requests about one job, and between two effects of the leader's function the second one is answered."""

        def race() -> None:
            self._request(replace(first, job=job), None)
            self._lead(
                call,
                self.cloud.leading,
                lambda: self.cloud.faults.arm_between(at, lambda: self._request(replace(then, job=job), None)),
            )

        self._do(race)

    @step(call=leader_calls, at=points)
    def lead_while_another_takes_over(self, call: str | int, at: int) -> None:
        """In the middle of the leader's function its lease runs out, and another server leads."""
        self._do(lambda: self._lead(call, self.cloud.leading, lambda: self.cloud.faults.arm_between(at, self._take_over)))

    @step(node=st.sampled_from(NODES), what=st.sampled_from(("take", "take", "again", "late", "lose", "begin", "begin", "list")))
    def node(self, node: str, what: str) -> None:
        """A node takes an order (once, twice, out of its turn), or it is lost; it begins a step; it says all that it sees."""

        def work() -> None:
            one = self.cloud.nodes[node]
            if what == "begin":
                for row in one.waiting()[:1]:
                    one.begin(row)
            elif what == "list":
                one.relist()
            else:
                self.cloud.deliver(node, copies={"again": 2, "lose": 0}.get(what, 1), at=int(what == "late"))

        self._do(work)

    @step(which=SMALL, how=st.sampled_from(("ok", "ok", "broken", "again", "requeue")), copies=st.sampled_from((0, 1, 1, 2, 5)))
    def end_step(self, which: int, how: str, copies: int) -> None:
        """A running step ends: well, failed, worth another try, or to be put back into its queue; so often it is heard."""

        def end() -> None:
            if running := [(node, row) for node in self.cloud.nodes.values() for row in node.running()]:
                node, row = running[which % len(running)]
                node.progress(row, 50)
                node.end(row, fails=how != "ok", retryable=how in ("again", "requeue"), code=how)
                if copies:
                    self.cloud.hear(node.name, at=-1, copies=copies)

        self._do(end)

    @step(
        node=st.sampled_from(NODES), at=st.sampled_from((0, 0, 1, 2)), copies=st.sampled_from((1, 1, 2, 5, 0)), keep=st.booleans()
    )
    def hear(self, node: str, at: int, copies: int, keep: bool) -> None:
        """A report comes to the leader: in its turn or not, once or often, or never; ``keep``: and later once more."""
        self._do(lambda: self.cloud.hear(node, at=at, copies=copies, keep=keep))

    @step(leads=st.booleans())
    def all_goes_well(self, leads: bool) -> None:
        """For a moment nothing is lost: nodes take orders and begin, what they said and saw arrives, and the leader may act."""

        def well() -> None:
            for name, node in self.cloud.nodes.items():
                while self.cloud.deliver(name):
                    pass
                for row in node.waiting():
                    node.begin(row)
            self.cloud.monitor()
            self.cloud.hear_all()
            if leads:
                self._lead("turn", self.cloud.leading)

        self._do(well)

    @step(what=st.sampled_from(OUTSIDE))
    def outside(self, what: str | float) -> None:
        """Time passes, somebody sets the clock, another server leads, the broker or the directory's watch breaks."""

        def happen() -> None:
            cloud = self.cloud
            match what:
                case "leader":
                    self._take_over()
                case "broker away" | "broker back":
                    cloud.broker.down = what == "broker away"
                case "watch":
                    cloud.lose_watch()
                case "ahead" | "behind":
                    cloud.clock.jump(90.0 if what == "ahead" else -90.0)
                case float():
                    cloud.clock.pass_(what)

        self._do(happen)

    # ---------------------------------------------------------------------------------------------------------- doing

    def follow(self, name: str, drawn: dict[str, Any]) -> None:
        """Do one step. Where it fails, all steps up to it are remembered."""
        self.program.append((name, drawn))
        try:
            STEPS[name](self, **drawn)
        except Exception as error:
            Engine.failed = True
            Engine.failures.append((list(self.program), error))
            if not self.hunting:
                raise
            self.over = True

    def _do(self, what: Callable[[], Any]) -> None:
        what()
        self.cloud.faults.disarm()
        self._look()

    def _look(self) -> None:
        self.world.look()
        if found := broken(self.world, ALWAYS):
            raise Broken("\n".join(found))

    def rest(self) -> None:
        """Mend everything and let it come to rest: what is held is released."""
        self.cloud.faults.disarm()
        for _ in range(3):
            for number, row in sorted(self.world.rows.jobs.items()):
                if row["holds"] and row["state"] != "C" and row["array"] is None:
                    ref = f"{number}[]" if row["size"] else str(number)
                    self._release(ref)
                elif row["holds"] and row["state"] != "C":
                    self._release(f"{row['array']}[{row['index']}]")
            self.cloud.settle()
            self._look()
            if not any(row["holds"] and row["state"] != "C" for row in self.world.rows.jobs.values()):
                break
        if found := broken(self.world, AT_REST):
            raise Broken("\n".join(found))

    def _release(self, ref: str) -> None:
        from vmcloud.domain.errors import VmcloudError
        from vmcloud.fleet.services import waiting
        from vmcloud.fleet.services.accounts import Actor

        self.world.asked.held -= requests.meant(self.world.rows, ref)
        try:
            waiting.release(Actor("admin", is_admin=True), ref)
        except VmcloudError:
            pass

    def _process(self, first: bool) -> Process | None:
        """Who leads; or the other one, which may have led before."""
        return next((each for each in self.cloud.processes if (each is self.cloud.leading) == first and each.leads), None)

    def _request(self, request: Request, arm: Callable[[], None] | None, *, again: bool = False) -> None:
        """One request, by somebody who may repeat it where it is not known what became of it."""
        from vmcloud.domain.errors import Unavailable, VmcloudError

        self.count += 1
        key = f"key-{self.count}"
        self.world.look()
        request = requests.sensible(request, self.world.rows)
        call = requests.call_of(request, self.world.rows, key)
        if call is None:
            return
        ref = ""
        if request.what in requests.ABOUT_A_JOB:
            ref = requests.ref_of(self.world.rows, request.job, request.what, part=request.part)
        requests.note_before(self.world, request, ref, key)
        if arm is not None:
            arm()
        for attempt in range(2 if again else 1):
            try:
                with self.cloud.acts(None):
                    answer = call()
            except Unavailable:
                pass
            except VmcloudError:
                return
            except Killed:
                pass
            except away():
                pass
            else:
                self.cloud.faults.disarm()
                requests.note_answer(self.world, request, ref, key, answer)
                return
            if attempt == 0 and again:
                self.cloud.faults.disarm()

    def _lead(self, call: str | int, process: Process | None, arm: Callable[[], None] | None = None) -> None:
        """The leader's function: it ends well, or because another leads or the database is away, and in no other way."""
        from vmcloud.fleet.server.leader import Deposed

        if process is None or not process.leads:
            return
        if arm is not None:
            arm()
        try:
            with self.cloud.acts(process):
                if isinstance(call, int):
                    process.take_in(call)
                elif call == "turn":
                    process.turn()
                else:
                    process.part(call)
        except Deposed:
            process.leads = False
            if process is self.cloud.leading:
                raise
        except Killed:
            process.leads = False
            if process is self.cloud.leading:
                self.cloud.leading = None
                self.cloud.kill(process)
        except away():
            pass

    def _take_over(self) -> None:
        self.cloud.clock.pass_(self.cloud.config.intervals.lease + 0.1)
        self.cloud.change_leader()


STEPS |= {"start": Engine.start, "rest": Engine.rest}


@contextmanager
def scene(*asked: Request) -> Iterator[Engine]:
    """A machine whose steps a test takes one by one, in a cloud with these jobs; at the end all is mended and comes to rest. Each
    step raises where a promise does not hold any more."""
    machine = Engine()
    machine.over = False
    with machine.stack:
        machine.start(list(asked))
        yield machine
        machine.rest()


def kind_of(error: BaseException) -> str:
    """What tells one failure from another: the promise that was broken, or the error and where it was raised."""
    if isinstance(error, Broken):
        return str(error).partition(":")[0]
    where = [frame for frame in traceback.extract_tb(error.__traceback__) if "/vmcloud/" in frame.filename]
    return f"{type(error).__name__} in {where[-1].name if where else 'the test'}"


def replay(program: Program) -> BaseException | None:
    """Do these steps in a fresh cloud; what went wrong, if anything did."""
    machine = Engine()
    machine.over = False
    try:
        for name, drawn in program:
            STEPS[name](machine, **drawn)
    except Exception as error:
        return error
    finally:
        machine.stack.close()
    return None


def shortest(program: Program, error: BaseException) -> tuple[Program, BaseException]:
    """The same failure by fewer steps: each is left out in its turn, from the last to the first, until none can be."""
    kind, shorter = kind_of(error), True
    while shorter:
        shorter = False
        for at in reversed(range(1, len(program))):
            tried = program[:at] + program[at + 1 :]
            again = replay(tried)
            if again is not None and kind_of(again) == kind:
                program, error, shorter = tried, again, True
        requests = program[0][1]["asked"]
        for at in reversed(range(len(requests))):
            tried = [("start", {"asked": requests[:at] + requests[at + 1 :]}), *program[1:]]
            again = replay(tried)
            if again is not None and kind_of(again) == kind:
                program, error, shorter = tried, again, True
                break
    return program, error


def told(program: Program) -> str:
    """A program as one line for each step."""
    return "\n".join(f"{name}({', '.join(f'{key}={value!r}' for key, value in drawn.items())})" for name, drawn in program)


__all__ = ["Broken", "Engine", "promises", "scene"]
