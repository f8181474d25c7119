"""gunicorn, which keeps WEB_CONCURRENCY workers alive and ends them in time."""

import logging
import os
import socket
import sys
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import structlog
from fastapi import FastAPI
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker as GunicornWorker

from parley.cli.graces import Graces
from parley.cli.worker import Worker
from parley.core.counts import FOLDER_VARIABLE, bury
from parley.core.log_output import PromptOutput
from parley.core.logging import (
    configure_logging,
    frames_of,
    log_to,
    log_what_nobody_catches,
)
from parley.core.settings import Settings

BACKLOG = 2048
# Longer than a balancer keeps an idle connection (60 s is usual): who closes first may lose a request.
KEEP_ALIVE_SECONDS = 75
# A worker whose event loop stands still for so long is replaced.
HEARTBEAT_TIMEOUT_SECONDS = 30

log = structlog.get_logger(__name__)


class PortTaken(Exception):
    """Another program listens where Parley should."""


class Application(BaseApplication):
    def __init__(
        self, make_app: Callable[[Settings], FastAPI], settings: Settings, listener: socket.socket
    ) -> None:
        self.settings = settings
        host, port = listener.getsockname()[:2]
        # For a person: what listens to other machines is read by a log collector.
        self.url = f"http://{host}:{port}" if ip_address(host).is_loopback else None
        self._make_app = make_app
        self._unburied: list[int] = []
        self._descriptor = listener.detach()
        super().__init__()

    def load_config(self) -> None:
        values = {
            "bind": f"fd://{self._descriptor}",
            "backlog": BACKLOG,
            "workers": self.settings.web_concurrency,
            "worker_class": Worker,
            "logger_class": ArbiterLogger,
            "errorlog": None,
            # As of every library: it would list its settings at DEBUG.
            "loglevel": max(self.settings.log_level, "INFO", key=logging.getLevelName).lower(),
            "keepalive": KEEP_ALIVE_SECONDS,
            "timeout": HEARTBEAT_TIMEOUT_SECONDS,
            "graceful_timeout": round(Graces.of(self.settings).gunicorn_seconds),
            # Nobody should steer it but by signals.
            "control_socket_disable": True,
            "child_exit": self._bury,
        }
        for name, value in values.items():
            self.cfg.set(name, value)

    def load(self) -> FastAPI:
        """In each worker, after the fork: nothing that is opened here is shared."""
        return self._make_app(self.settings)

    def _bury(self, arbiter: Arbiter, worker: GunicornWorker) -> None:
        """What a dead process counted stays; what it held does not."""
        # One that lives may have got the number of one who was not buried: it counts on in the same files.
        self._unburied = [pid for pid in self._unburied if pid not in arbiter.WORKERS]
        self._unburied.append(int(worker.pid))
        try:
            bury(Path(os.environ[FOLDER_VARIABLE]), self._unburied)
        except OSError as error:
            # As where the disk is full: no count is worth the server.
            log.warning("counts-not-joined", **frames_of(error))


class ArbiterLogger(Logger):
    """Into the one pipe for all that is logged."""

    def setup(self, cfg: Config) -> None:
        super().setup(cfg)
        self.error_log.propagate = True


def run(make_app: Callable[[Settings], FastAPI], settings: Settings, host: str) -> None:
    """
    Until SIGTERM or SIGINT, then as long as SHUTDOWN_GRACE_SECONDS allows. Exits the program.

    Raises:
        PortTaken: it cannot listen there.
    """
    try:
        listener = socket.create_server((host, settings.backend_port), backlog=BACKLOG)
    except OSError as error:
        msg = (
            f"Cannot listen on {host}:{settings.backend_port}: {os.strerror(error.errno or 0)}."
            " Choose another port, for example BACKEND_PORT=8001, or another --host."
        )
        raise PortTaken(msg) from error
    configure_logging(settings.log_level, settings.log_format)
    log_to(PromptOutput(sys.stderr.fileno()))
    log_what_nobody_catches()
    Application(make_app, settings, listener).run()
