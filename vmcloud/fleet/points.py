"""The fault points of web and server (:mod:`vmcloud.faults`); in a module without Django, so that tests can name them."""

from vmcloud.faults import declare

declare("web", "web.submit.claiming", "web.submit.claimed", "web.submit.queued")
declare(
    "server",
    "server.dispatch.placed",
    "server.dispatch.desired",
    "server.dispatch.committed",
    "server.dispatch.sent",
    "server.result.received",
    "server.step.written",
    "server.foreign.announced",
    "server.foreign.written",
    "server.foreign.concluded",
    "server.finish.buried",
    "server.finish.removed",
    "server.finish.settled",
    "server.finish.completed",
    "server.archive.written",
)
