"""Addresses and rules: pure."""

from __future__ import annotations

from ipaddress import IPv4Network
from uuid import UUID

import pytest

from vmcloud.domain.errors import Invalid
from workers.drivers.base import NoSpace
from workers.network import addresses, bridge

pytestmark = pytest.mark.unit
NET = IPv4Network("10.86.0.0/29")


def test_the_lowest_free_address_after_the_gateway_is_given():
    assert addresses.gateway(NET) == "10.86.0.1"
    assert addresses.allocate(NET, ()) == "10.86.0.2/29"
    assert addresses.allocate(NET, ("10.86.0.2/29", "10.86.0.4")) == "10.86.0.3/29"


def test_a_full_subnet_says_so():
    used = [addresses.allocate(NET, [f"10.86.0.{number}" for number in range(2, last)]) for last in range(2, 7)]
    assert used == [f"10.86.0.{number}/29" for number in range(2, 7)]
    with pytest.raises(NoSpace, match="all 5 addresses"):
        addresses.allocate(NET, used)


def test_a_hardware_address_follows_from_the_uuid_and_is_locally_administered():
    assert addresses.hardware_address(UUID("0123456789abcdef0123456789abcdef")) == "02:01:23:45:67:89"


@pytest.mark.parametrize("text", ["10.86.0.1/24", "nonsense", "10.0.0.0/31", "fd00::/64"])
def test_a_subnet_that_is_none_is_refused(text: str):
    with pytest.raises(Invalid):
        addresses.parse_subnet(text)


@pytest.mark.parametrize("name", ["", "x" * 16, "-f", "a b", "a;b", "BR", "br/0"])
def test_a_bridge_name_that_could_be_an_option_or_path_is_refused(name: str):
    with pytest.raises(Invalid):
        bridge.ensure(name, "10.86.0.0/24")


def test_the_rules_hide_guests_only_from_other_networks():
    text = bridge.rules("vmcloud0", IPv4Network("10.86.0.0/24"))
    assert "add rule ip vmcloud vmcloud0 ip saddr 10.86.0.0/24 ip daddr != 10.86.0.0/24 masquerade" in text
    assert text.index("flush chain") < text.index("add rule")
