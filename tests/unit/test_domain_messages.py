"""Messages and envelopes: the same after the wire, and nothing believed that was tampered with."""

from __future__ import annotations

import base64
import json
from uuid import UUID

import pytest

from vmcloud.dispatch import envelope
from vmcloud.domain.errors import Invalid, Problem
from vmcloud.domain.messages import (
    Accepted,
    CancelOrder,
    Digest,
    Mark,
    Message,
    NodeFacts,
    Progress,
    Refused,
    RelistOrder,
    Result,
    Seen,
    Sighting,
    SignalOrder,
    StepOrder,
    Wake,
    parse,
)
from vmcloud.domain.vocabulary import Kind, Observed, Outcome, StepVerb, Verb
from vmcloud.domain.wire import OUTPUT_BYTES_MAX, check_output

pytestmark = pytest.mark.unit

VE = UUID("0c0ffee0-0000-4000-8000-000000000001")
SEEN = Seen("web-0c0ffee0", Kind.LXC, Observed.RUNNING, VE, 3, ("10.86.0.5",), "02:00:00:00:00:01", 12.5, 1, 64)
FACTS = NodeFacts((Kind.LXC, Kind.SIMULATED), 2, 2048, 9000, "0.1.0", address="192.0.2.1")
STEP = StepOrder(7, 1, 2, "n1", StepVerb.START, f"ve:{VE}", VE, "web-0c0ffee0", Kind.LXC, 3, {"a": [1]}, 60.0)
MESSAGES: list[Message] = [
    STEP,
    CancelOrder(7, 1, 2, "n1"),
    SignalOrder(7, 1, 2, "n1", "KILL"),
    RelistOrder("n1"),
    Accepted("n1", 7, 1, 2, 5.0, running=True),
    Refused("n1", 7, 1, 2, 5.0, "clock", "off"),
    Progress("n1", 7, 1, 2, 5.0, "unpack", 40),
    Result("n1", 7, 1, 2, 5.0, Outcome.FAILED, Mark(1, 9), SEEN, Problem("x", "y"), True, True, 0.5),
    Result("n1", 7, 1, 2, 5.0, Outcome.OK, Mark(1, 9)),
    Result("n1", 7, 1, 2, 5.0, Outcome.OK, Mark(1, 9), output={"state": {"power": "running", "snapshots": [["a", 7, 1.5]]}}),
    Sighting("n1", Mark(2, 1), 5.0, True, (SEEN,), (VE,), FACTS, ("odd",)),
    Digest("n1", Mark(2, 1), 5.0, 1, FACTS, (VE,), ("ab",), ((7, 1, 2),)),
    Digest("n1", Mark(2, 1), 5.0, 0, FACTS, full=False),
    Wake("jobs"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.type)
def test_a_message_is_the_same_after_the_wire(message: Message) -> None:
    assert parse(json.loads(json.dumps(message.to_json()))) == message


def test_a_digest_of_an_older_node_is_full() -> None:
    data = Digest("n1", Mark(2, 1), 5.0, 1, FACTS).to_json()
    del data["full"]
    message = parse(data)
    assert isinstance(message, Digest) and message.full


def test_of_a_sighting_of_an_older_node_nothing_has_left() -> None:
    data = Sighting("n1", Mark(2, 1), 5.0, True).to_json()
    del data["left"]
    assert parse(data) == Sighting("n1", Mark(2, 1), 5.0, True)


def test_a_step_bears_the_same_word_as_the_job_that_asks_for_it() -> None:
    """Journals and workers of the last release know steps by these words."""
    of_the_server_alone = {"alter", "import", "cordon", "uncordon", "reconcile"}
    assert {each.value for each in Verb} - of_the_server_alone <= {each.value for each in StepVerb}


def test_a_node_is_told_nothing_that_is_no_step() -> None:
    with pytest.raises(Invalid):
        parse(STEP.to_json() | {"verb": "reconcile"})


def test_a_step_of_an_older_node_gives_nothing_to_the_next() -> None:
    data = Result("n1", 7, 1, 2, 5.0, Outcome.OK, Mark(1, 9)).to_json()
    del data["output"]
    message = parse(data)
    assert isinstance(message, Result) and message.output == {}


@pytest.mark.parametrize(
    "output",
    [[1], "x", {"a": float("nan")}, {"a": "\0"}, {"a": "\ud800"}, {"a": {1, 2}}, {"a": "x" * OUTPUT_BYTES_MAX}],
    ids=["list", "text", "nan", "nul", "surrogate", "set", "long"],
)
def test_what_no_later_step_could_be_given_is_refused(output: object) -> None:
    with pytest.raises(Invalid):
        check_output(output)
    data = Result("n1", 7, 1, 2, 5.0, Outcome.OK, Mark(1, 9)).to_json() | {"output": output}
    with pytest.raises(Invalid):
        parse(data)


def test_an_output_may_have_just_as_many_bytes_as_can_be_passed_on() -> None:
    frame = len('{"a": ""}')
    fits = {"a": "ü" * ((OUTPUT_BYTES_MAX - frame) // 2)}
    assert check_output(fits) == fits
    with pytest.raises(Invalid, match="16384"):
        check_output({"a": fits["a"] + "ü"})


def test_every_kind_of_message_is_tried_above() -> None:
    assert {type(message) for message in MESSAGES} == set(Message.registry.values())


@pytest.mark.parametrize(
    "data", [None, [], {}, {"v": 1}, {"v": 1, "type": "no"}, {"v": 1, "type": "step"}, {"v": 1, "type": "digest", "mark": 3}]
)
def test_a_malformed_message_is_refused_not_crashed_on(data: object) -> None:
    with pytest.raises(Invalid):
        parse(data)


def bomb(depth: int = 5_000) -> list[object]:
    """A list in a list in a list."""
    made: list[object] = []
    for _ in range(depth):
        made = [made]
    return made


BOMB = bomb()
HOSTILE: list[object] = [
    float("inf"),
    float("nan"),
    -5,
    1 << 63,
    1 << 5000,
    "abc",
    "x" * 5000,
    "\0",
    "\ud800",
    None,
    {},
    {"a": 1},
    [1],
    [[1]],
]
NUMBERS = {"job", "step", "attempt", "count", "at", "epoch", "mark", "percent", "generation", "vcpus", "since", "cpus"}


@pytest.mark.parametrize("message", MESSAGES[3:], ids=lambda message: message.type)
def test_a_report_with_any_field_malformed_is_refused_or_made_harmless(message: Message) -> None:
    """What is let through can be counted with, and stored by PostgreSQL, SQLite and the directory."""
    data = message.to_json()
    places = [(data, name) for name in data]
    places += [(data[name], key) for name in data if isinstance(data[name], dict) for key in data[name]]
    places += [(item, key) for item in data.get("guests", ()) for key in item]
    places += [(data[name], place) for name in data if isinstance(data[name], list) for place in range(len(data[name]))]
    for holder, name in places:
        kept = holder[name]
        for value in [*HOSTILE, BOMB]:
            holder[name] = value
            try:
                parsed = parse(data)
            except Invalid as error:
                assert len(str(error)) < 1000
                continue
            text = json.dumps(parsed.to_json(), allow_nan=False, ensure_ascii=False)
            text.encode()
            assert "\\u0000" not in text and len(text) < 10_000
            assert not (name in NUMBERS and value is not None and value != [1]), (name, value)
        holder[name] = kept


def test_the_examples_of_the_review() -> None:
    result = Result("n1", 7, 1, 2, 5.0, Outcome.OK, Mark(1, 9)).to_json()
    for change in (
        {"mark": [float("inf"), 1]},
        {"mark": [1 << 63, 1]},
        {"mark": [1, 2, 3]},
        {"job": "abc"},
        {"v": BOMB},
        {"type": BOMB},
    ):
        with pytest.raises(Invalid):
            parse({**result, **change})


def test_a_long_explanation_is_cut_not_refused() -> None:
    failed = Result("n1", 7, 1, 2, 5.0, Outcome.FAILED, Mark(1, 9), error=Problem("x", "y\0" * 10_000), seconds=-3.0)
    parsed = parse(json.loads(json.dumps(failed.to_json())))
    assert isinstance(parsed, Result) and parsed.error is not None
    assert len(parsed.error.what) == 4000 and "\0" not in parsed.error.what and parsed.seconds == 0.0


def test_another_version_is_refused_by_name() -> None:
    with pytest.raises(Invalid) as caught:
        parse({**STEP.to_json(), "v": 2})
    assert caught.value.problem.code == "version"


PRIVATE, PUBLIC = envelope.new_keypair()


def sealed(now: float = 1000.0) -> str:
    return envelope.seal(STEP, envelope.private_key(PRIVATE), now=now, lifetime=60)


def test_a_sealed_order_opens_to_what_it_was() -> None:
    opened = envelope.open_sealed(sealed(), envelope.public_key(PUBLIC))
    assert opened.order == STEP
    assert opened.refusal("n1", 1000.0, skew=5) is None


def test_any_flipped_byte_breaks_the_seal() -> None:
    text = sealed()
    key = envelope.public_key(PUBLIC)
    for place in range(0, len(text), 7):
        other = "A" if text[place] != "A" else "B"
        with pytest.raises((envelope.Untrusted, Invalid)):
            envelope.open_sealed(text[:place] + other + text[place + 1 :], key)


def test_another_key_and_no_key_are_not_believed() -> None:
    other = envelope.private_key(envelope.new_keypair()[0])
    forged = envelope.seal(STEP, other, now=1000.0, lifetime=60)
    payload = base64.urlsafe_b64encode(b"{}").decode()
    for text in (forged, "", ".", "x", payload, payload + ".", payload + "." + payload):
        with pytest.raises(envelope.Untrusted):
            envelope.open_sealed(text, envelope.public_key(PUBLIC))


@pytest.mark.parametrize(
    ("node", "now", "code"),
    [("n2", 1000.0, "wrong-node"), ("n1", 1000.0 - 86400, "clock"), ("n1", 1000.0 + 86400, "expired"), ("n1", 1064.0, None)],
)
def test_why_an_order_does_not_count_here_and_now(node: str, now: float, code: str | None) -> None:
    refusal = envelope.open_sealed(sealed(), envelope.public_key(PUBLIC)).refusal(node, now, skew=5)
    assert (refusal[0] if refusal else None) == code
    if refusal:
        assert len(refusal[1]) > 20
