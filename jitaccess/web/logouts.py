"""What became of each logout notice? A page for administrators; it only shows."""

from flask import Blueprint, render_template

from jitaccess.broker import logout
from jitaccess.broker.clients import registered
from jitaccess.broker.context import Broker
from jitaccess.identity import people
from jitaccess.web.readers import administrator


def blueprint(broker: Broker) -> Blueprint:
    """Return the page's route."""
    found = Blueprint("logouts", "jitaccess.web")

    @found.get("/clients/logouts")
    def logouts() -> str:
        administrator(broker, "logouts")
        with broker.read() as view:
            rows = logout.deliveries(view)
            clients = registered(view)
            names = {key: person.name for key, person in people.register(view).persons.items()}
        return render_template("logouts.html", rows=rows, clients=clients, names=names)

    return found
