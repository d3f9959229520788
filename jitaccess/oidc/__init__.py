"""The OpenID Connect provider: how a target gets a token for access that was granted; and the doors for
reverse proxies. Authlib lives only here."""

from flask import Flask

from jitaccess.broker.context import Broker
from jitaccess.oidc import endpoints, forward_auth
from jitaccess.oidc.forward_auth import ForwardAuth
from jitaccess.oidc.light import LightDoor
from jitaccess.web.limits import Meter


def register(app: Flask, broker: Broker, programs: Meter) -> None:
    """Put the provider's endpoints on an application; `programs` meters what targets ask."""
    proxies = ForwardAuth(broker)
    app.register_blueprint(endpoints.blueprint(broker))
    app.register_blueprint(forward_auth.blueprint(proxies))
    app.wsgi_app = LightDoor(app.wsgi_app, broker, proxies, programs)  # type: ignore[method-assign] # as Flask's manual does
