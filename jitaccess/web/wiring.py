"""How do doors, pages and API come onto one application?"""

from flask import Flask

from jitaccess.broker.context import Broker
from jitaccess.web import (
    admin,
    api,
    approving,
    approving_api,
    approving_set,
    auditor,
    ceremony_words,
    course,
    deputies,
    doors,
    endings,
    explaining,
    handover,
    hosts,
    idempotency,
    joining,
    languages,
    logouts,
    mending,
    new_target,
    notices,
    openapi,
    oversight,
    pages,
    passkey_care,
    proposals,
    replacing,
    requester,
    speech,
    telling,
    terms,
    transfer,
    watch,
)
from jitaccess.web.limits import Meter


def register(app: Flask, broker: Broker) -> Meter:
    """Attach doors, pages, API and translations to an application; return the meter of targets' programs."""
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True
    speech.install(app, broker.settings.language)
    transfer.install(app)
    telling.install(app)
    mending.install(app)
    proposals.install(app)
    terms.install(app)
    ceremony_words.install(app)
    joining.install(app)
    new_target.install(app)
    programs = doors.install(app, broker)
    idempotency.install(app, broker)
    pages.install_template_names(app, broker)
    app.register_blueprint(pages.blueprint(broker))
    app.register_blueprint(requester.blueprint(broker))
    app.register_blueprint(passkey_care.blueprint(broker))
    app.register_blueprint(replacing.blueprint(broker))
    app.register_blueprint(admin.blueprint(broker))
    app.register_blueprint(approving.blueprint(broker))
    app.register_blueprint(auditor.blueprint(broker))
    app.register_blueprint(api.blueprint(broker))
    app.register_blueprint(course.blueprint(broker))
    app.register_blueprint(deputies.blueprint(broker))
    app.register_blueprint(approving_api.blueprint(broker))
    app.register_blueprint(approving_set.blueprint(broker))
    app.register_blueprint(languages.blueprint(broker))
    app.register_blueprint(handover.blueprint(broker))
    app.register_blueprint(joining.blueprint(broker))
    app.register_blueprint(new_target.blueprint(broker))
    app.register_blueprint(hosts.blueprint(broker))
    app.register_blueprint(logouts.blueprint(broker))
    app.register_blueprint(notices.blueprint(broker))
    app.register_blueprint(watch.blueprint(broker))
    app.register_blueprint(endings.blueprint(broker))
    app.register_blueprint(explaining.blueprint(broker))
    app.register_blueprint(oversight.blueprint(broker))
    app.register_blueprint(openapi.blueprint(broker))
    return programs
