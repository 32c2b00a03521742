"""What two transactions at once can do to each other, by isolation level, tried out on two connections."""

import uuid
from collections.abc import Callable

from sqlalchemy import BigInteger, Column, Connection, Engine, MetaData, Table, func, insert, select, update
from sqlalchemy.engine.interfaces import IsolationLevel
from sqlalchemy.exc import OperationalError
from sqlalchemy.schema import CreateSchema, DropSchema

LEVELS: tuple[IsolationLevel, ...] = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")

metadata = MetaData()
accounts = Table("accounts", metadata, Column("id", BigInteger, primary_key=True), Column("balance", BigInteger))


def balance(connection: Connection, number: int) -> int:  # given
    return int(connection.scalar(select(accounts.c.balance).where(accounts.c.id == number)) or 0)


def total(connection: Connection) -> int:  # given
    return int(connection.scalar(select(func.sum(accounts.c.balance))) or 0)


def write(connection: Connection, number: int, value: int) -> None:  # given
    connection.execute(update(accounts).where(accounts.c.id == number).values(balance=value))


# Each schedule begins with 100 in account 1 and 100 in account 2. It returns whether the anomaly was seen.


def dirty_read(one: Connection, two: Connection) -> bool:
    """Two reads what one has written and takes back."""
    write(one, 1, 0)
    seen = balance(two, 1)
    one.rollback()
    two.commit()
    return seen == 0


def non_repeatable_read(one: Connection, two: Connection) -> bool:
    """One reads a row twice, and in between two changes it."""
    before = balance(one, 1)
    write(two, 1, 0)
    two.commit()
    after = balance(one, 1)
    one.commit()
    return before != after


def phantom(one: Connection, two: Connection) -> bool:
    """One asks for all rows twice, and in between two adds one."""
    before = total(one)
    two.execute(insert(accounts).values(id=3, balance=100))
    two.commit()
    after = total(one)
    one.commit()
    return before != after


def lost_update(one: Connection, two: Connection) -> bool:
    """Both take 10 from what they have read."""
    one_read, two_read = balance(one, 1), balance(two, 1)
    write(one, 1, one_read - 10)
    one.commit()
    write(two, 1, two_read - 10)
    two.commit()
    return balance(one, 1) != 100 - 10 - 10


def write_skew(one: Connection, two: Connection) -> bool:
    """Both see 200 in the two accounts together and take 150 of it, one from account 1, two from account 2."""
    wanted = 150
    one_allowed, two_allowed = total(one) >= wanted, total(two) >= wanted
    if one_allowed:
        write(one, 1, 100 - wanted)
    one.commit()
    if two_allowed:
        write(two, 2, 100 - wanted)
    two.commit()
    return total(one) < 0


ANOMALIES: dict[str, Callable[[Connection, Connection], bool]] = {
    "dirty read": dirty_read,
    "non-repeatable read": non_repeatable_read,
    "phantom": phantom,
    "lost update": lost_update,
    "write skew": write_skew,
}


def outcome(engine: Engine, schedule: Callable[[Connection, Connection], bool], level: IsolationLevel) -> str:
    """Run a schedule from the start. The level is set on the connection, before its first transaction."""
    with engine.begin() as connection:
        accounts.drop(connection, checkfirst=True)
        accounts.create(connection)
        connection.execute(insert(accounts), [{"id": 1, "balance": 100}, {"id": 2, "balance": 100}])
    chosen = engine.execution_options(isolation_level=level)
    with chosen.connect() as one, chosen.connect() as two:
        try:
            return "possible" if schedule(one, two) else "prevented"
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != "40001":
                raise
            return "error 40001"


def observe(engine: Engine) -> dict[str, dict[str, str]]:
    """The outcome of every anomaly at every level, seen in a schema that is gone afterwards."""
    schema = f"anomalies_{uuid.uuid4().hex}"
    translated = engine.execution_options(schema_translate_map={None: schema})
    with engine.begin() as connection:
        connection.execute(CreateSchema(schema))
    try:
        return {
            name: {level: outcome(translated, schedule, level) for level in LEVELS}
            for name, schedule in ANOMALIES.items()
        }
    finally:
        with engine.begin() as connection:
            connection.execute(DropSchema(schema, cascade=True))


def as_table(outcomes: dict[str, dict[str, str]]) -> str:  # given
    """Markdown: a row for each anomaly, a column for each level."""
    lines = [["anomaly", *LEVELS], ["---"] * (len(LEVELS) + 1)]
    lines += [[name, *row.values()] for name, row in outcomes.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
