"""Django's admin: a door to the services like every other. Nothing here writes a row; forms and actions become jobs.

A module for each thing that is shown; ``base`` what lists have in common, ``verbs`` what may be
asked of a VE and the confirmation of it.
"""

from . import audit, events, images, jobs, nodes, queues, strays, users, ves, webhooks  # noqa: F401 - each registers its pages
