"""The OpenID Connect provider: how a target gets a token for access that was granted. Authlib lives only here."""

from flask import Flask

from jitaccess.broker.context import Broker
from jitaccess.oidc.endpoints import blueprint


def register(app: Flask, broker: Broker) -> None:
    """Put the provider's endpoints on an application."""
    app.register_blueprint(blueprint(broker))
