"""OIDC."""

from flask import Flask

from jitaccess.broker.context import Broker


def register(app: Flask, broker: Broker) -> None:
    """Attach everything."""
