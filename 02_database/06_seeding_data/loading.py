"""How rows get in: parents first, by COPY, leaving what is there alone, the sequences behind them."""

from collections.abc import Iterable, Sequence
from typing import Any

import psycopg
from database import Row
from faker import Faker
from psycopg import sql
from samples import make_orders
from sqlalchemy import Connection, Table, select, text

from shared.models import Base, User


def load(connection: Connection, rows: dict[str, list[Row]]) -> dict[str, int]:
    """Insert the rows of each table that are not there yet; return how many that were, by table.

    Foreign keys decide about the order: sorted_tables has each table after those that it refers to.
    """
    return {
        table.name: insert_missing(connection, table, rows[table.name])
        for table in Base.metadata.sorted_tables
        if rows.get(table.name)
    }


def insert_missing(connection: Connection, table: Table, rows: list[Row]) -> int:
    """COPY knows no ON CONFLICT, so the rows go through a temporary table. All have the keys of the first."""
    columns = sql.SQL(", ").join(sql.Identifier(name) for name in rows[0])
    names = {"table": sql.Identifier(table.name), "columns": columns}
    create = "CREATE TEMPORARY TABLE incoming AS SELECT {columns} FROM {table} WITH NO DATA"
    insert = "INSERT INTO {table} ({columns}) SELECT {columns} FROM pg_temp.incoming ON CONFLICT DO NOTHING"
    with driver_of(connection).cursor() as cursor:
        cursor.execute(sql.SQL(create).format(**names))
        with cursor.copy("COPY pg_temp.incoming FROM STDIN") as copy:
            for row in rows:
                copy.write_row(list(row.values()))
        cursor.execute(sql.SQL(insert).format(**names))
        inserted = cursor.rowcount
        cursor.execute("DROP TABLE pg_temp.incoming")
    if "id" in rows[0]:
        advance_sequence(connection, table.name)
    return inserted


def without_known(connection: Connection, users: list[Row]) -> list[Row]:
    """Only the users whose address the database does not have: the others have had their orders."""
    known = select(User.email).where(User.email.in_([user["email"] for user in users]))
    emails = set(connection.scalars(known))
    return [user for user in users if user["email"] not in emails]


def with_orders(connection: Connection, fake: Faker, users: list[Row], products: Sequence[Any]) -> dict[str, list[Row]]:
    """Give the users ids, orders and items. The ids come from the sequences, so they are nobody else's."""
    users = numbered(reserve_ids(connection, "users", len(users)), users)
    made = [pair for user in users for pair in make_orders(fake, user, products)]
    orders = numbered(reserve_ids(connection, "orders", len(made)), [order for order, _ in made])
    items = [
        {"order_id": order["id"], **item} for order, (_, bought) in zip(orders, made, strict=True) for item in bought
    ]
    return {"order_items": items, "orders": orders, "users": users}


def numbered(ids: Iterable[int], rows: Iterable[Row]) -> list[Row]:
    return [{"id": number, **row} for number, row in zip(ids, rows, strict=True)]


def reserve_ids(connection: Connection, table: str, count: int) -> list[int]:
    """Return `count` ids that no row has and that the sequence will give to nobody else."""
    advance_sequence(connection, table)
    numbers = text("SELECT nextval(pg_get_serial_sequence(:table, 'id')) FROM generate_series(1, :count)")
    return list(connection.scalars(numbers, {"table": table, "count": count}))


def advance_sequence(connection: Connection, table: str) -> None:
    """Move the sequence past the largest id, never back: an INSERT with an explicit id does not move it."""
    setval = """
        SELECT setval(sequence, largest)
        FROM (SELECT pg_get_serial_sequence(%s, 'id')::regclass AS sequence, max(id) AS largest FROM {}) AS it
        WHERE largest > coalesce(pg_sequence_last_value(sequence), 0)
    """
    driver_of(connection).execute(sql.SQL(setval).format(sql.Identifier(table)), [table])


def driver_of(connection: Connection) -> psycopg.Connection[Any]:
    """The psycopg connection underneath, in the same transaction: SQLAlchemy has no COPY."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver
