"""What the fork server imports once, so that its children start in milliseconds."""

import gc

import workers.child
import workers.drivers.lxc  # noqa: F401

# The children share this memory as long as nobody writes to it; the garbage collector would (gc.freeze, Python's documentation).
gc.collect()
gc.freeze()
