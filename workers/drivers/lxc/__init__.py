"""Linux containers through liblxc: each guest a folder in the node's own LXCPATH, an overlay over a shared image.

Map: ``config`` the configuration file (pure) · ``folder`` a guest's folder, made and removed whole · ``process`` state, init
and monitor process · ``cgroups`` sizes and freezing · ``exits`` how a guest ended · ``monitor`` liblxc's events ·
``preflight`` what the machine must have · ``driver`` the driver itself.
"""

from .config import LxcSettings
from .driver import LxcDriver

__all__ = ["LxcDriver", "LxcSettings"]
