"""The one place that constructs adapters and puts the processes together."""

from __future__ import annotations

import os
import secrets
import signal
import threading
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

import structlog

from migrator.api.server import build_server
from migrator.containerd import ContainerdClient
from migrator.criu.program import find_criu
from migrator.errors import MigratorError
from migrator.models.session import Database
from migrator.models.values import Facts
from migrator.service.agent import HostAgent
from migrator.service.bandwidth import Bandwidth
from migrator.service.control.conductor import Conductor
from migrator.service.control.control_steps import control_steps
from migrator.service.control.echo import Echo
from migrator.service.control.rounds import utc_now
from migrator.service.control.stand_ins import stand_ins
from migrator.service.control_plane import ControlPlane
from migrator.service.fence import Fence
from migrator.service.guards import Guards
from migrator.service.host import Host
from migrator.service.housekeeping.health import check_health
from migrator.service.housekeeping.housekeeper import Housekeeper
from migrator.service.housekeeping.referee import Referee
from migrator.service.housekeeping.store import StoreKeeper
from migrator.service.inspection import look
from migrator.service.retention.steps import retention_steps
from migrator.service.room import disk_places, free_room
from migrator.service.schedules.desk import ScheduleDesk
from migrator.service.schedules.scheduler import Scheduler
from migrator.service.steps import HOST_STEPS
from migrator.settings import Settings
from migrator.storage import open_checkpoints
from migrator.storage.verdicts import Verdicts
from migrator.tasks import control, host
from migrator.tasks.app import CONTROL_QUEUE, build_app, host_queue
from migrator.tasks.process import Ticker, run_worker

TICK_S = 0.5
CONTROLLER_SLOTS = 4
STOP_GRACE_S = 5.0
STORE_SWEEP_S = 3600.0
HOST_SWEEP_S = 600.0


def serve_api(settings: Settings) -> int:
    """Run the gRPC API until SIGTERM or SIGINT."""
    configure_logging(settings)
    database = open_database(settings)
    line = control.HostLine(build_app(settings.broker_url.get_secret_value()))
    plane = ControlPlane(database, line, open_checkpoints(settings), host_silent_s=settings.host_silent_s)
    server = build_server(plane, ScheduleDesk(database, plane), settings.api_socket, settings.api_listen)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server.start()
    structlog.get_logger().info("serving", socket=str(settings.api_socket), listen=settings.api_listen)
    stop.wait()
    server.stop(STOP_GRACE_S)
    database.close()
    return 0


def run_controller(settings: Settings) -> int:
    """Run the controller until SIGTERM."""
    configure_logging(settings)
    database = open_database(settings)
    app = build_app(settings.broker_url.get_secret_value())
    line = control.HostLine(app)
    checkpoints = open_checkpoints(settings)
    echo = Echo(line.call)
    conductor = Conductor(
        database,
        line,
        control_steps(database, checkpoints) | retention_steps(database, checkpoints, utc_now),
        stand_ins(checkpoints),
        host_silent_s=settings.host_silent_s,
        let_run=Verdicts(checkpoints.objects).let_run,
        freezes_per_host=settings.freezes_per_host,
        heard_until=echo.heard_until,
    )
    control.register(app, conductor, Referee(database, line), echo)
    plane = ControlPlane(database, line, checkpoints, host_silent_s=settings.host_silent_s)
    scheduler = Scheduler(
        database, plane.accept_job, plane.cancel_job, conductor.advance, host_silent_s=settings.host_silent_s
    )
    tickers = [
        Ticker("echo", settings.heartbeat_s, echo.call),
        Ticker("tick", TICK_S, conductor.tick),
        Ticker("schedules", TICK_S, scheduler.tick),
        Ticker("sweep", STORE_SWEEP_S, StoreKeeper(database, checkpoints).sweep),
    ]
    return run_worker(app, queue=CONTROL_QUEUE, name="controller", slots=CONTROLLER_SLOTS, tickers=tickers, purge=False)


def run_host_worker(settings: Settings, name: str) -> int:
    """Run a host's worker until SIGTERM."""
    configure_logging(settings)
    app = build_app(settings.broker_url.get_secret_value())
    line = control.ControllerLine(app)
    here = build_host(settings, name)

    def show() -> None:
        line.show(name, look(here))

    housekeeper = Housekeeper(here, line, lambda: check_health(here))
    host.register(
        app,
        HostAgent(here, HOST_STEPS, line.report, line.report_progress, Bandwidth(settings).limited),
        housekeeper,
        show,
    )
    facts, places = host_facts(settings, here.containerd), disk_places(here)
    began = time.monotonic()
    tickers = [
        Ticker(
            "heartbeat",
            settings.heartbeat_s,
            lambda: line.beat(name, facts | free_room(places), time.monotonic() - began),
        ),
        Ticker("sight", settings.sight_s, show),
        Ticker("housekeeping", HOST_SWEEP_S, housekeeper.ask),
    ]
    return run_worker(
        app, queue=host_queue(name), name=f"worker@{name}", slots=settings.worker_slots, tickers=tickers, purge=True
    )


def build_host(settings: Settings, name: str) -> Host:
    """Construct what steps work with on this machine."""
    checkpoints = open_checkpoints(settings, chunk_cache=settings.state_dir / "chunks.sqlite")
    return Host(
        name=name,
        settings=settings,
        containerd=ContainerdClient(settings.containerd_socket),
        objects=checkpoints.objects,
        checkpoints=checkpoints,
        verdicts=Verdicts(checkpoints.objects),
        guards=Guards(
            settings.run_dir / "guards",
            settings.containerd_socket,
            budget_s=settings.freeze_budget_s,
            patience_s=settings.guard_patience_s,
        ),
        fence=Fence(settings.state_dir / "epochs"),
    )


def open_database(settings: Settings) -> Database:
    """Open the SQL database and bring its schema up to date."""
    database = Database(settings.database_url.get_secret_value())
    database.upgrade()
    return database


def host_facts(settings: Settings, containerd: ContainerdClient) -> Facts:
    """What a worker tells about its host with every heartbeat; what cannot be found out is an empty string."""
    return {
        "boot_id": secrets.token_hex(8),
        "migrator": _own_version(),
        "kernel": os.uname().release,
        "cpus": os.cpu_count() or 0,
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "criu": _asked(lambda: find_criu(settings.criu_path).version),
        "containerd": _asked(lambda: containerd.version().version),
    }


def configure_logging(settings: Settings) -> None:
    """One line an event on standard error; JSON if the settings say so."""
    levels = {"debug": 10, "info": 20, "warning": 30, "error": 40}
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if settings.log_json else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(levels[settings.log_level]),
        logger_factory=structlog.PrintLoggerFactory(file=os.fdopen(os.dup(2), "w", buffering=1)),
    )


def _asked(ask: Callable[[], str]) -> str:
    try:
        return ask()
    except MigratorError:
        return ""


def _own_version() -> str:
    try:
        return version("migrator")
    except PackageNotFoundError:
        return "unknown"
