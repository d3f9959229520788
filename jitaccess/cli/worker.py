"""`jitaccess worker`: the sweep in a process of its own, beside serving processes with sweep.embedded = false."""

import logging
import signal
import threading

import click

from jitaccess.app import open_broker
from jitaccess.broker.sweep import Ticker
from jitaccess.settings import load


@click.command()
def worker() -> None:
    """End what is due, finish revocations, send notices and sign checkpoints, until stopped."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("apscheduler").setLevel(logging.WARNING)
    broker = open_broker(load())
    ticker = Ticker(broker)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    ticker.start()
    stopped.wait()
    ticker.stop()
    broker.db.close()
