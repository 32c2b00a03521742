"""A database schema from its models, from its migrations, and as a diagram."""

import argparse
import json
import sys
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from database import alone, make_engine
from diagram import mermaid
from models import Base
from sqlalchemy import inspect
from sqlalchemy.exc import SQLAlchemyError


def create() -> str | None:
    """Make all tables as the models have them and note the newest revision; return it.

    Raises CommandError when there are tables already: create_all would skip them, and the note would be a lie.
    """
    with alone() as connection, connection.begin():
        if set(inspect(connection).get_table_names()) - {"alembic_version"}:
            raise CommandError("the database is not empty; `python app.py upgrade` changes what is there")
        Base.metadata.create_all(connection)
        migrations = MigrationContext.configure(connection)
        migrations.stamp(ScriptDirectory.from_config(alembic()), "head")
        return migrations.get_current_revision()


def upgrade(revision: str) -> str | None:
    """Run the migrations up to `revision`; return the revision that the database has then."""
    command.upgrade(alembic(), revision)
    return current_revision()


def downgrade(revision: str) -> str | None:
    """Undo the migrations down to `revision`, or all of them for `base`; return the revision of the database."""
    command.downgrade(alembic(), revision)
    return current_revision()


def current_revision() -> str | None:
    with make_engine().connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def alembic() -> Config:  # given
    """What the program `alembic` reads, wherever this one is called from."""
    return Config(Path(__file__).with_name("alembic.ini"))


def main() -> None:  # given
    """Run one command: its result on standard output, or an error on standard error and a non-zero exit."""
    wanted = parse_arguments()
    try:
        match wanted.command:
            case "diagram":
                print(mermaid(Base.metadata))
            case "create":
                print(json.dumps({"revision": create()}))
            case "upgrade":
                print(json.dumps({"revision": upgrade(wanted.revision)}))
            case "downgrade":
                print(json.dumps({"revision": downgrade(wanted.revision)}))
    except CommandError as error:
        sys.exit(f"error: {error}")
    except SQLAlchemyError as error:
        sys.exit(f"error: the database says: {getattr(error, 'orig', None) or error}")
    except KeyboardInterrupt:
        sys.exit("interrupted")


def parse_arguments() -> argparse.Namespace:  # given
    parser = argparse.ArgumentParser(description="The schema of a shop.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("create", help="make the tables in an empty database, from the models")
    commands.add_parser("diagram", help="print the schema as a Mermaid diagram")
    up = commands.add_parser("upgrade", help="run migrations")
    up.add_argument("revision", nargs="?", default="head", type=revision)
    down = commands.add_parser("downgrade", help="undo migrations")
    down.add_argument("revision", type=revision, help="a revision, or base")
    return parser.parse_args()


def revision(value: str) -> str:  # given
    if not value:
        raise argparse.ArgumentTypeError("a revision is not empty")
    return value


if __name__ == "__main__":
    main()
