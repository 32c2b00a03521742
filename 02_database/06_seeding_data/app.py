"""Seeding a database: reference data everywhere, sample data only where it belongs, and twice is as once."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psycopg
from database import (
    SeedError,
    claim,
    count_rows,
    environment_of,
    existing_tables,
    transaction,
    wait_for_others,
)
from faker import Faker
from loading import load, with_orders, without_known
from rich.console import Console
from rich.progress import Progress
from samples import CATEGORIES, PRODUCTS, CategoryLine, make_administrator, make_user, read_csv, read_products
from sqlalchemy import Connection, select, text
from sqlalchemy.exc import SQLAlchemyError

from shared.models import Base, Product

CUSTOMERS = {"development": 100, "testing": 10, "production": 0}
MOST_CUSTOMERS = 1_000_000
BATCH = 1000  # customers in memory at a time
SAMPLES_IN_PRODUCTION = "put sample data into production"
EMPTY_PRODUCTION = "delete everything in production"

Command = Callable[[Connection, argparse.Namespace], dict[str, Any]]


def seed(connection: Connection, wanted: argparse.Namespace) -> dict[str, Any]:
    """Put in what is missing. Raises SeedError for a refusal; a failure anywhere leaves nothing behind."""
    customers = CUSTOMERS[wanted.environment] if wanted.rows is None else wanted.rows
    has_samples = wanted.environment != "production" or customers > 0 or wanted.products is not None
    if has_samples and wanted.environment == "production" and wanted.confirm != SAMPLES_IN_PRODUCTION:
        raise SeedError(f'production gets no sample data, unless you say --confirm "{SAMPLES_IN_PRODUCTION}"')
    categories = read_csv(CATEGORIES, CategoryLine)
    products = read_products(wanted.products or PRODUCTS, categories)

    wait_for_others(connection)
    Base.metadata.create_all(connection)
    claim(connection, wanted.environment)
    inserted = Counter(load(connection, {"categories": categories}))
    if has_samples:
        users = make_administrator(wanted.environment)
        inserted.update(load(connection, {"products": products, "users": users}))
        skus = [product["sku"] for product in products]
        inserted.update(seed_customers(connection, customers, wanted.random_seed, skus))
    return {"inserted": inserted, **status(connection)}


def seed_customers(connection: Connection, count: int, random_seed: int, skus: Sequence[str]) -> dict[str, int]:
    """Insert those of the customers 1 to `count` that are missing, and their orders of these products."""
    # Names as frequent as in life would cost half of the speed.
    fake = Faker("en_US", use_weighting=False)
    found = connection.execute(select(Product.id, Product.sku, Product.price).where(Product.sku.in_(skus)))
    by_sku = {product.sku: product for product in found}
    products = [by_sku[sku] for sku in skus]  # in the file's order, so that the same ones are chosen
    inserted = Counter[str]()
    # Standard output is for the result. Not rich.track: an error would leave its thread behind.
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task("Customers", total=count)
        for start in range(1, count + 1, BATCH):
            numbers = range(start, min(start + BATCH, count + 1))
            users = without_known(connection, [make_user(fake, random_seed, number) for number in numbers])
            inserted.update(load(connection, with_orders(connection, fake, users, products)))
            progress.advance(bar, len(numbers))
    return inserted


def reset(connection: Connection, wanted: argparse.Namespace) -> dict[str, Any]:
    """Empty the tables and forget the environment. Raises SeedError in production, unless forced."""
    wait_for_others(connection)
    if environment_of(connection) == "production" and wanted.confirm != EMPTY_PRODUCTION:
        raise SeedError(f'this is a production database: to empty it, say --confirm "{EMPTY_PRODUCTION}"')
    if tables := existing_tables(connection):
        # Without CASCADE: a table of others that refers to ours makes this an error, and is not emptied too.
        connection.execute(text(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY"))
    return status(connection)


def status(connection: Connection, _wanted: argparse.Namespace | None = None) -> dict[str, Any]:
    """What the database is for, and how many rows each table has."""
    return {"environment": environment_of(connection), "rows": count_rows(connection)}


def main() -> None:  # given
    """Run one command: JSON on standard output, or an error on standard error and a non-zero exit."""
    wanted = parse_arguments()
    commands: dict[str, Command] = {"seed": seed, "reset": reset, "status": status}
    try:
        with transaction() as connection:
            result = commands[wanted.command](connection, wanted)
    except SeedError as error:
        sys.exit(f"error: {error}")
    except (SQLAlchemyError, psycopg.Error) as error:
        sys.exit(f"error: the database says: {getattr(error, 'orig', None) or error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: nothing has changed")
    print(json.dumps(result))


def parse_arguments() -> argparse.Namespace:  # given
    # Without abbreviations: what is dangerous is to be written in full.
    parser = argparse.ArgumentParser(description="Seed a database.", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    seeding = commands.add_parser("seed", help="put in what is missing", allow_abbrev=False)
    seeding.add_argument("--environment", choices=CUSTOMERS, required=True)
    seeding.add_argument("--rows", type=row_count, help="how many sample customers; their orders come with them")
    seeding.add_argument("--random-seed", type=int, default=1, help="another number makes other customers")
    seeding.add_argument("--products", type=Path, help="a CSV file instead of data/products.csv")
    emptying = commands.add_parser("reset", help="empty the tables", allow_abbrev=False)
    for dangerous in (seeding, emptying):
        dangerous.add_argument("--confirm", metavar="SENTENCE", help="what production asks for")
    commands.add_parser("status", help="count the rows", allow_abbrev=False)
    return parser.parse_args()


def row_count(value: str) -> int:  # given
    if not 0 <= int(value) <= MOST_CUSTOMERS:
        raise argparse.ArgumentTypeError(f"must be between 0 and {MOST_CUSTOMERS}")
    return int(value)


if __name__ == "__main__":
    main()
