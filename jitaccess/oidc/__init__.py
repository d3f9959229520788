"""The OpenID Connect provider: how a target gets a token for access that was granted; and the doors for
reverse proxies. Authlib lives only here."""

from flask import Flask

from jitaccess.broker.context import Broker
from jitaccess.oidc import endpoints, forward_auth


def register(app: Flask, broker: Broker) -> None:
    """Put the provider's endpoints on an application."""
    app.register_blueprint(endpoints.blueprint(broker))
    app.register_blueprint(forward_auth.blueprint(broker))
