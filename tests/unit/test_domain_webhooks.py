"""Webhooks: what may be asked for, how messages are signed, where they may go."""

from __future__ import annotations

import pytest

from vmcloud.domain.errors import Invalid
from vmcloud.domain.happenings import TYPES, check_types, wants
from vmcloud.domain.webhooks import ATTEMPTS, Subscription, check_secret, headers, pause, secret_of, why_not

pytestmark = pytest.mark.unit


def test_a_message_is_signed_as_the_standard_says() -> None:
    """The example of the Standard Webhooks reference libraries."""
    found = headers(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330.7, '{"test": 2432232314}'
    )
    assert found == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org",
        "ftp://example.org/",
        "file:///etc/passwd",
        "gopher://example.org/",
        "http://",
        "http://ann:secret@example.org/",
        "http://example.org/#part",
        "http://example.org:99999/",
        "http://example.org:0/",
        "http://example.org/a b",
        "http://example.org/\r\nHost: other",
        "http://exämple.org/",
        "http://[::1",
        "https://example.org/" + "x" * 1000,
        5,
        None,
    ],
)
def test_what_can_not_be_called_is_refused(url: object) -> None:
    with pytest.raises(Invalid) as refused:
        Subscription.parse({"url": url})
    assert refused.value.problem.where == "url"


@pytest.mark.parametrize(
    ("field", "value"),
    [("types", "job.ended"), ("types", ["job.nothing"]), ("types", [1]), ("project", "a b"), ("enabled", 1), ("colour", "red")],
)
def test_each_field_is_checked(field: str, value: object) -> None:
    with pytest.raises(Invalid) as refused:
        Subscription.parse({"url": "https://example.org/", field: value})
    assert refused.value.problem.where == field


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_!!!", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", secret_of(b"x" * 23), secret_of(b"x" * 65), 5]
)
def test_a_secret_is_long_enough_and_well_written(secret: object) -> None:
    with pytest.raises(Invalid):
        check_secret(secret)
    assert check_secret(secret_of(b"x" * 24))


@pytest.mark.parametrize(
    ("address", "everybody", "admin"),
    [
        ("93.184.216.34", True, True),
        ("2606:2800:220:1::1", True, True),
        ("127.0.0.1", False, True),
        ("::1", False, True),
        ("10.1.2.3", False, True),
        ("192.168.1.1", False, True),
        ("100.64.0.1", False, True),
        ("fd00::1", False, True),
        ("::ffff:10.1.2.3", False, True),
        ("2002:0a01:0203::1", False, True),
        ("169.254.169.254", False, False),
        ("fe80::1%eth0", False, False),
        ("::ffff:169.254.169.254", False, False),
        ("0.0.0.0", False, False),
        ("224.0.0.1", False, False),
    ],
)
def test_private_addresses_are_for_administrators_and_some_for_nobody(address: str, everybody: bool, admin: bool) -> None:
    assert (not why_not(address, admin=False), not why_not(address, admin=True)) == (everybody, admin)


def test_networks_of_the_site_may_be_opened_for_everybody() -> None:
    assert why_not("10.1.2.3", admin=False, networks=["fd00::/8", "10.1.0.0/16"]) == ""
    assert "[webhooks]" in why_not("10.2.0.1", admin=False, networks=["10.1.0.0/16"])


def test_pauses_grow_and_all_attempts_take_most_of_a_day() -> None:
    pauses = [pause(number, 5.0, 0.5) for number in range(1, ATTEMPTS)]
    assert pauses == sorted(pauses) and pauses[0] == 5.0 and 18 * 3600 < sum(pauses) < 24 * 3600
    assert pause(1, 5.0, 0.0) == 4.0 and pause(1, 5.0, 1.0) == 6.0


def test_types_are_named_or_all_of_a_subject() -> None:
    assert check_types(["job.ended", "node.*", "job.ended"]) == ("job.ended", "node.*")
    assert wants(["node.*"], "node.down") and not wants(["node.*"], "job.ended") and wants([], "job.ended")
    assert all("." in each for each in TYPES)
