"""What Alembic runs around every command: the connection, and a transaction for each migration."""

import logging

from alembic import context
from alembic.util import CommandError
from database import alone
from models import Base


def run() -> None:
    """Run the migrations that were asked for, each in a transaction of its own, so that one may end it early."""
    if context.is_offline_mode():
        raise CommandError("there is no --sql here: the backfill looks at the rows")
    if context.config.cmd_opts:  # it is the program alembic that runs
        logging.basicConfig(format="%(message)s")
        logging.getLogger("alembic.runtime.migration").setLevel(logging.INFO)
    with alone() as connection:
        context.configure(connection=connection, target_metadata=Base.metadata, transaction_per_migration=True)
        with context.begin_transaction():
            context.run_migrations()


run()
