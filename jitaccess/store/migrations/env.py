"""Alembic's entry: run migrations on the URL that `store.migrations` hands over."""

from alembic import context
from sqlalchemy import create_engine

from jitaccess.store.tables import Base

engine = create_engine(context.config.attributes["url"])
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
