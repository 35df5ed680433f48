"""Linux containers through liblxc: each guest a folder in the node's own LXCPATH, an overlay over a shared image.

Map: ``config`` the configuration file (pure) · ``folder`` a guest's folder, made and removed whole · ``guests`` how a call finds
its guest · ``process`` state, init and monitor process · ``cgroups`` sizes and freezing · ``making`` define, resize, delete ·
``power`` start, stop, suspend · ``sessions`` console and programs · ``snapshots`` kept layers · ``hold`` still for a moment ·
``checkpoint`` saved memory · ``save`` whether and how guests are saved · ``meter`` what guests use · ``exits`` its end ·
``monitor`` liblxc's events · ``preflight`` what the machine must have · ``driver`` the driver itself.
"""

from .config import LxcSettings
from .driver import LxcDriver

__all__ = ["LxcDriver", "LxcSettings"]
