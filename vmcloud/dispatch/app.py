"""Celery as vmcloud uses it: a trigger transport, never a ledger.

Redis as a Celery broker can lose a message that a dying consumer has just popped (celery#4354, #7950), so nothing here is
trusted to arrive: the server asks again until it is answered. The settings below keep the rest simple and fast: no result
backend, no remote control, no events, no priorities, and ``unacked`` keys of each consumer's own, so that no consumer can push
a forged message to another's queue through kombu's redelivery sweep, and a restarted consumer finds what it held at once.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import kombu.transport.redis
from celery import Celery, bootsteps
from kombu import Exchange, Queue

from vmcloud.config import Config

from . import transport

FOREVER = 315_360_000
"""Seconds: a visibility timeout that never strikes; see :class:`RestoreOwn`."""

# Every consumer is the sole one of its keys: kombu's sweep over `unacked` has nothing to find there, and would need broker rights
# (SET, EVALSHA) with which one node could disturb all. It has no switch (kombu.transport.redis.Channel, kombu 5.7).
kombu.transport.redis.QoS.restore_visible = lambda *args, **kwargs: None

transport.install()

_ANONYMOUS = Exchange("", type="direct")


def queue(name: str) -> Queue:
    """A list, published to through the anonymous exchange: one LPUSH, no binding keys."""
    return Queue(name, exchange=_ANONYMOUS, routing_key=name, no_declare=True)


def broker_url(config: Config, identity: str) -> str:
    """The broker's URL with the user and password of ``identity``."""
    parts = urlsplit(config.broker_url)
    password = quote(config.secrets(identity)["broker_password"], safe="")
    host = parts.hostname or "127.0.0.1"
    return urlunsplit(parts._replace(netloc=f"{identity}:{password}@{host}:{parts.port or 6379}"))


def transport_options(identity: str) -> dict[str, Any]:
    """kombu's settings of one identity. Timeouts in seconds: a frozen broker is an error in time, never a hang."""
    return {
        "visibility_timeout": FOREVER,
        "socket_timeout": 3,
        "socket_connect_timeout": 3,
        "socket_keepalive": True,
        "health_check_interval": 25,
        "priority_steps": [0],
        "max_retries": 1,
        "interval_start": 0.05,
        "client_name": f"vmcloud-{identity}",
        "unacked_key": f"unacked.{identity}",
        "unacked_index_key": f"unacked_index.{identity}",
        "unacked_mutex_key": f"unacked_mutex.{identity}",
    }


def base_app(config: Config, identity: str) -> Celery:
    """An app that can publish as ``identity``."""
    # No fixups: where DJANGO_SETTINGS_MODULE is set, Celery would bring Django into every process, also on nodes.
    broker = broker_url(config, identity)
    app = Celery(f"vmcloud-{identity}", broker=broker, backend=None, set_as_current=False, fixups=())
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        result_backend=None,
        task_ignore_result=True,
        task_create_missing_queues=False,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        task_send_sent_event=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # What a broker refuses for want of room on its disk it takes later: no reason for a worker to end.
        broker_channel_error_retry=True,
        broker_transport_options=transport_options(identity),
        task_publish_retry=False,
        broker_connection_timeout=3,
    )
    return app


def consumer_app(config: Config, identity: str, lists: list[str], *, ahead: int = 1) -> Celery:
    """An app whose worker, the sole consumer of that identity, reads ``lists``. ``ahead``: how many messages it takes before the
    first of them is acknowledged."""
    app = base_app(config, identity)
    app.conf.update(task_queues=[queue(name) for name in lists], task_default_queue=lists[0], worker_prefetch_multiplier=ahead)
    app.steps["consumer"].add(RestoreOwn)
    return app


def add_list(app: Celery, consumer: Any, name: str) -> None:
    """Make a running worker's ``consumer`` read one more list. Call it on the consumer's own thread."""
    if name in app.amqp.queues:
        return
    added = queue(name)
    app.amqp.queues.select_add(added)
    task_consumer = consumer.task_consumer
    if not task_consumer.consuming_from(added):
        task_consumer.add_queue(added)
        task_consumer.consume()


class RestoreOwn(bootsteps.StartStopStep):
    """Put back what a dead predecessor had taken and not acknowledged, and what a broken connection swallowed."""

    requires = ("celery.worker.consumer.connection:Connection",)

    def start(self, consumer: Any) -> None:
        """Called on each connection to the broker."""
        with consumer.app.connection_for_read() as connection, connection.channel() as channel:
            channel.qos.settle()
