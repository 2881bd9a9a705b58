"""The Celery app, the queues, and how to send."""

from __future__ import annotations

from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from migrator.errors import Unavailable

CONTROL_QUEUE = "control"


def host_queue(host: str) -> str:
    """Name the queue of a host."""
    return f"host.{host}"


def build_app(broker_url: str) -> Celery:
    """Make the app.

    No result backend, no ETA, early acknowledgement: the controller sees to what gets lost. Redis would hand out a
    message again after the visibility timeout; since every message is acknowledged before its act, that concerns only
    workers that died between the two.
    """
    app = Celery("migrator", broker=broker_url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_default_queue=CONTROL_QUEUE,
        task_create_missing_queues=True,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": 3600,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "socket_timeout": 10,
            "socket_connect_timeout": 3,
            "socket_keepalive": True,
        },
    )
    return app


def send(app: Celery, name: str, queue: str, *args: Any, expires_s: float | None = None) -> None:
    """Put a message into a queue.

    Raises:
        Unavailable: `broker_unavailable`.
    """
    try:
        app.send_task(
            name,
            args=args,
            queue=queue,
            expires=expires_s,
            retry=True,
            retry_policy={"max_retries": 1, "interval_start": 0.05, "interval_step": 0.1},
        )
    except (OperationalError, OSError) as error:
        raise Unavailable(
            f"the message broker does not answer ({error})",
            code="broker_unavailable",
            remedy="see that Redis runs and MIGRATOR_BROKER_URL is right",
        ) from error
