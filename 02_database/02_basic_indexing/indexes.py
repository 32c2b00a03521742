"""The indexes of the table of orders: one of each kind, and no more than the queries need."""

from dataclasses import dataclass

from orders import Connection


@dataclass(frozen=True)
class Index:
    """What CREATE INDEX says after the name of the table, and what stands before it."""

    name: str
    definition: str
    unique: bool = False

    def statement(self, name: str, table: str = "orders") -> str:
        """The statement that creates it under this name; CONCURRENTLY may stand before the name."""
        return f"CREATE {'UNIQUE ' * self.unique}INDEX {name} ON {table} {self.definition}"


def all_indexes() -> list[Index]:
    """All indexes, those first that `writes` is to measure first. PostgreSQL itself never gives such names."""
    return [
        Index("shop_orders_number", "(number)", unique=True),
        # Equality before order: the newest orders of one customer stand side by side.
        Index("shop_orders_customer_newest", "(customer_id, created_at)"),
        # Only a query with the same expression finds it.
        Index("shop_orders_lower_email", "(lower(email))"),
        # The few orders to ship, in the order in which they are asked for.
        Index("shop_orders_to_ship", "(created_at) WHERE status = 'paid'"),
        # Covers revenue-of-country. As there are few countries, revenue-of-day skips from one to the next.
        Index("shop_orders_country_revenue", "(country, created_at) INCLUDE (total)"),
        Index("shop_orders_product", "(product_id)"),
    ]


def create(connection: Connection, how: str = "CONCURRENTLY") -> list[str]:
    """Create the missing indexes; return their names. `how` is empty in a transaction, and others then wait."""
    # What a failed CREATE INDEX CONCURRENTLY leaves behind serves no query, and every INSERT pays for it.
    drop(connection, how, invalid_only=True)
    present = {name for name, _, _ in existing(connection)}
    missing = [index for index in all_indexes() if index.name not in present]
    for index in missing:
        connection.execute(index.statement(f"{how} {index.name}"))
    connection.execute("ANALYZE orders")  # an index on an expression has no statistics before
    return [index.name for index in missing]


def drop(connection: Connection, how: str = "CONCURRENTLY", *, invalid_only: bool = False) -> list[str]:
    """Drop our indexes, or the invalid ones among them, and nobody else's; return their names."""
    dropped = []
    for name, qualified_name, is_valid in existing(connection):
        if not (invalid_only and is_valid):
            connection.execute(f"DROP INDEX {how} {qualified_name}")
            dropped.append(name)
    return dropped


def existing(connection: Connection) -> list[tuple[str, str, bool]]:
    """Those of our indexes that exist: name, name with the schema if it needs one, and whether it is valid."""
    found = connection.execute(
        "SELECT relname, indexrelid::regclass::text, indisvalid"
        " FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid"
        " WHERE indrelid = 'orders'::regclass AND relname = ANY(%s) ORDER BY relname",
        [[index.name for index in all_indexes()]],
    )
    return found.fetchall()
