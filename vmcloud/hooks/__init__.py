"""Hooks: a site's own executables, run with bounds. ``files`` which there are and whether they may be run · ``run`` runs one ·
``corral`` the process that holds it and all that it starts. Standard library only; used by the node and by the server."""
