"""What the fork server imports once, so that its children start in milliseconds."""

import contextlib

import workers.child

with contextlib.suppress(ImportError):  # a node without liblxc's binding
    import workers.drivers.lxc
with contextlib.suppress(ImportError):
    import workers.storage.images  # noqa: F401
