"""Guests under another name. The rename of the folder is the moment of truth: before it the marker says which name comes next,
after it the configuration and the marker are written anew for the name that the folder has."""

from __future__ import annotations

from dataclasses import replace

from vmcloud import faults
from vmcloud.domain.vocabulary import Observed
from workers.drivers.base import BadRequest, GuestRef, check_name

from . import adoption, checkpoint, folder, process
from .folder import MARKER, Marker
from .guests import Guests, translate

faults.declare("worker", "driver.lxc.rename.written", "driver.lxc.rename.renamed", "driver.lxc.rename.settled")


def rename(guests: Guests, ref: GuestRef, native: str) -> None:
    """Call a stopped guest otherwise.

    1. It has the name already, by an earlier call or since it never lost it: finish what a killed call began.
    2. Write into the marker which name comes next, durably.
    3. Rename the folder; write configuration and marker for its new place.
    """
    check_name(native, "rename")
    old, new = guests.folder(ref.native), guests.path / native
    try:
        if new.exists() and (native == ref.native or not old.exists()):
            settle(guests, _mine(guests, GuestRef(ref.ve, native)))
            return
        marker = _mine(guests, ref)
        if new.exists():
            raise BadRequest("rename", f"the name {native} belongs to another container", todo="Choose another name.")
        state = guests.settled(ref.native).state
        if state is not Observed.STOPPED:
            raise BadRequest(
                "rename", f"{ref.native} is {state}, and its files can not be moved meanwhile", todo="Stop it first."
            )
        if checkpoint.saved(old):
            raise BadRequest("rename", f"{ref.native} is saved to disk under its name", todo="Start and stop it first.")
        adoption.settle(old)
        folder.sweep(guests.path, native)
        folder.replace_durably({old / MARKER: replace(marker, next=native).text()})
        faults.point("driver.lxc.rename.written")
        old.rename(new)
        faults.point("driver.lxc.rename.renamed")
        folder.sync_directory(guests.path)
        settle(guests, _mine(guests, GuestRef(ref.ve, native)))
        faults.point("driver.lxc.rename.settled")
    except OSError as error:
        raise translate("rename", error) from error
    guests.remove_groups(ref.native)


def settle(guests: Guests, marker: Marker) -> Marker:
    """End a rename that was begun, at whichever of its two names the folder is. Raises OSError."""
    if not marker.next:
        return marker
    path, marker = guests.path / marker.guest.native, replace(marker, next="")
    (path / process.LIFE).unlink(missing_ok=True)
    # The marker last: it says that there is something to do.
    folder.replace_durably({path / "config": adoption.configuration(guests, marker)})
    folder.replace_durably({path / MARKER: marker.text()})
    return marker


def _mine(guests: Guests, ref: GuestRef) -> Marker:
    marker = guests.marker(ref.native, "rename")
    if marker.guest.ve != ref.ve:
        raise BadRequest("rename", f"the name {ref.native} belongs to VE {marker.guest.ve} on this node")
    return marker
