"""A cloud that has many VEs at once, as if they had been made by jobs long ago.

What jobs would have left is written by the program's own codecs, drivers and journals, while nothing runs: the entries of the
directory by slapadd(8), the guests by the simulated driver, the nodes' journals by :class:`workers.journal.Journal`. SQL is left
empty: the read model, and what was accepted of each VE, are made anew by the leader from what the directory says, as after a
loss of the job database; and what is observed is written by the monitor from what the nodes say. So all that is measured is real.

This module and :mod:`.trace` are the places that name what is inside the program.
"""

from __future__ import annotations

import base64
import os
import pwd
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network
from pathlib import Path
from uuid import UUID, uuid5

from ldap_schema.install import SLAPADD
from tests.cloud import Cloud
from vmcloud.config import Config
from vmcloud.directory import codec
from vmcloud.domain.names import native_name
from vmcloud.domain.records import ImageRecord, VERecord
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import Desired, Kind
from workers.agent import simulated_subnet
from workers.drivers.base import Guest
from workers.drivers.registry import make_driver
from workers.journal import Journal, Presence, VERow
from workers.network.addresses import hardware_address

PROJECT, OWNER = "main", "admin"
SPACE = UUID("6f5c2f0e-8f2a-4d3e-9b1c-2b7f2d9f1c11")
SPEC = Spec.parse({"kind": "simulated", "image": "busybox", "vcpus": 1, "memory_mib": 64})


NAMES = "m%06i"
"""What VEs are called, as an array names them."""


def name(number: int) -> str:
    """What the VE with this number is called."""
    return NAMES.replace("%06i", f"{number:06}")


def fill(cloud: Cloud, ves: int) -> None:
    """Give a cloud, of which nothing runs, so many VEs in turn on all its nodes; every other one runs."""
    config = Config.load(cloud.data)
    nodes = config.node.names
    _directory(config, [_record(number, nodes) for number in range(ves)])
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda index: _node(config, nodes, index, range(index, ves, len(nodes))), range(len(nodes))))


def shown(cloud: Cloud) -> tuple[int, int]:
    """How many VEs the read model shows, and of how many of them it says what was seen."""
    known = "CASE WHEN observed_state NOT IN ('', 'unknown') THEN 1 END"
    ((rows, seen),) = cloud.sql(f"SELECT count(*), count({known}) FROM fleet_ve")
    return rows, seen


def _record(number: int, nodes: tuple[str, ...]) -> VERecord:
    desired = Desired.RUNNING if number % 2 == 0 else Desired.STOPPED
    text = name(number)
    return VERecord(
        ve=uuid5(SPACE, text),
        name=text,
        project=PROJECT,
        owner=OWNER,
        spec=SPEC,
        desired=desired,
        generation=1,
        job=0,
        node=nodes[number % len(nodes)],
    )


def _directory(config: Config, records: list[VERecord]) -> None:
    """Load the entries; ``-q`` does without a sync for each of them."""
    tree = codec.Tree(config.suffix)
    image = ImageRecord("busybox", Kind.SIMULATED, "0" * 64, 1)
    entries = [(tree.image(image.name), codec.encode_image(image))]
    entries += [(tree.ve(each.project, each.name), codec.encode_ve(each)) for each in records]
    folder = config.data / "directory"
    argv = [SLAPADD, "-q", "-w", "-b", config.suffix, "-F", str(folder / "slapd.d")]
    done = subprocess.run(argv, input="".join(_ldif(entries)), text=True, capture_output=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    owner = pwd.getpwnam((folder / "slapd.d").owner())
    for path in [*(folder / "db").iterdir(), *(folder / "accesslog").iterdir()]:
        os.chown(path, owner.pw_uid, owner.pw_gid)


def _ldif(entries: list[tuple[str, codec.Attributes]]) -> Iterator[str]:
    for dn, attributes in entries:
        yield f"dn: {dn}\n"
        for key, values in attributes.items():
            for value in values:
                yield f"{key}:: {base64.b64encode(value).decode()}\n"
        yield "\n"


def _node(config: Config, nodes: tuple[str, ...], index: int, numbers: range) -> None:
    """One node's guests, and what its journal says of them."""
    node = nodes[index]
    net = IPv4Network(simulated_subnet(index + 1))
    driver = make_driver(Kind.SIMULATED, config, node)
    journal = Journal(Path(config.node_home(node)) / "journal.sqlite3", config.keep)
    with journal.transaction():
        for host, number in enumerate(numbers, 2):
            record = _record(number, nodes)
            address, native = f"{net.network_address + host}/{net.prefixlen}", native_name(record.name, record.ve)
            mac = hardware_address(record.ve)
            driver.define(Guest(record.ve, native, SPEC, None, address, f"{net.network_address + 1}", mac))
            if record.desired is Desired.RUNNING:
                driver.start(native)
            spec = SPEC.to_json()
            journal.put_ve(VERow(record.ve, native, "simulated", spec, address, mac, 1, 1, Presence.PRESENT))
    journal.close()
