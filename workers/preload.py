"""What the fork server imports once, so that its children start in milliseconds."""

import workers.child
import workers.drivers.lxc  # noqa: F401
