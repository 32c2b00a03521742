"""What it costs to load collections in three ways, and to sum before or after a join: a table, and measure.svg."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
from app import watched
from joins import balances
from models import Customer, Order, OrderItem, Payment, create, load
from rich.console import Console
from rich.progress import Progress
from sqlalchemy import Connection, Executable, NullPool, create_engine, func, select, text
from sqlalchemy.orm import Session, joinedload, selectinload

from shared import services

CUSTOMERS = 1000
REPEATS = 7

Task = Callable[[Session], object]


def orders_of_all(*options: Any) -> Task:
    """Each customer's orders."""
    statement = select(Customer).options(*options)
    return lambda session: [len(customer.orders) for customer in session.scalars(statement).unique()]


def orders_and_referred(*options: Any) -> Task:
    """Two collections of each customer, side by side."""
    statement = select(Customer).options(*options)

    def task(session: Session) -> object:
        return [(len(customer.orders), len(customer.referred)) for customer in session.scalars(statement).unique()]

    return task


def rows_of(statement: Executable) -> Task:
    return lambda session: session.execute(statement).all()


def sum_after_the_join() -> Executable:
    """Items meet payments, and both sums are too large."""
    due, paid = func.sum(OrderItem.quantity * OrderItem.unit_price), func.sum(Payment.amount)
    statement = select(Customer.id, Customer.name, due, paid).outerjoin(Customer.orders).outerjoin(Order.items)
    return statement.outerjoin(Payment, Payment.order_number == Order.id).group_by(Customer.id).order_by(Customer.id)


TASKS: list[tuple[str, str, Task]] = [
    ("orders", "lazy", orders_of_all()),
    ("orders", "selectinload", orders_of_all(selectinload(Customer.orders))),
    ("orders", "joinedload", orders_of_all(joinedload(Customer.orders))),
    ("orders, referred", "lazy", orders_and_referred()),
    (
        "orders, referred",
        "selectinload",
        orders_and_referred(selectinload(Customer.orders), selectinload(Customer.referred)),
    ),
    ("orders, referred", "joinedload", orders_and_referred(joinedload(Customer.orders), joinedload(Customer.referred))),
    ("balances", "join, then sum (wrong)", rows_of(sum_after_the_join())),
    ("balances", "sum, then join", rows_of(balances())),
]


@dataclass
class Cost:
    """What one run took; rows that PostgreSQL sent, and the most that one step of a single statement's plan gave."""

    queries: int
    rows: int
    largest_step: int | None
    seconds: list[float] = field(default_factory=list)

    @property
    def milliseconds(self) -> float:
        return statistics.median(self.seconds) * 1000


@contextmanager
def large_shop() -> Iterator[Connection]:
    """The generated shop, with ten more payments for each order."""
    with services.postgres() as server, services.new_database(server) as url:
        engine = create_engine(url, poolclass=NullPool)
        with engine.begin() as connection:
            create(connection)
            load(connection, CUSTOMERS)
            more = "INSERT INTO payments (order_number, amount) SELECT id, 1 FROM orders, generate_series(1, 10)"
            connection.execute(text(more))
            connection.execute(text("ANALYZE"))
        with engine.connect() as connection:
            yield connection


def cost_of(connection: Connection, task: Task) -> Cost:
    """What a run takes that is not measured yet: it warms up."""
    with watched(connection) as watch, Session(connection) as session:
        task(session)
    largest = largest_step(connection, *watch.statements[0]) if len(watch.statements) == 1 else None
    return Cost(len(watch.statements), watch.rows, largest)


def seconds_of(connection: Connection, task: Task) -> float:
    """The time of a run in a session of its own, in which nothing is loaded yet."""
    with Session(connection) as session:
        begin = time.perf_counter()
        task(session)
        return time.perf_counter() - begin


def largest_step(connection: Connection, statement: str, parameters: Any) -> int:
    explain = "EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) "
    [[found]] = connection.exec_driver_sql(explain + statement, parameters)
    return max(rows_of_steps(found[0]["Plan"]))


def rows_of_steps(plan: dict[str, Any]) -> Iterator[int]:
    yield round(plan["Actual Rows"] * plan["Actual Loops"])
    for step in plan.get("Plans", []):
        yield from rows_of_steps(step)


def plot(costs: dict[str, Cost], path: Path) -> None:
    mpl.use("Agg")
    mpl.rcParams |= {"svg.hashsalt": "joins", "svg.fonttype": "none"}  # the same file for the same figures
    from matplotlib import pyplot as plt  # noqa: PLC0415  after the choice of the backend

    figure, axes = plt.subplots(figsize=(7.5, 3.4), layout="constrained")
    colors = {"lazy": "#b5483d", "join, then sum (wrong)": "#b5483d", "joinedload": "#d99a3d"}
    bars = axes.barh(
        list(costs),
        [cost.milliseconds for cost in costs.values()],
        color=[colors.get(name.partition(": ")[2], "#3b6ea5") for name in costs],
    )
    labels = [f"{cost.milliseconds:,.0f} ms, {cost.queries:,} queries" for cost in costs.values()]
    labels = [label.replace(" 1 queries", " 1 query") for label in labels]
    axes.bar_label(bars, labels, padding=3)
    axes.set(xlabel="milliseconds", xlim=(0, max(cost.milliseconds for cost in costs.values()) * 1.55))
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    costs: dict[str, Cost] = {}
    with large_shop() as connection, Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("Loading and summing", total=REPEATS)
        for question, method, task in TASKS:
            costs[f"{question}: {method}"] = cost_of(connection, task)
        for _ in range(REPEATS):  # all tasks in turn, so that what else the machine does falls on each of them
            for cost, (_, _, task) in zip(costs.values(), TASKS, strict=True):
                cost.seconds.append(seconds_of(connection, task))
            progress.advance(bar)
    print(f"| For each of {CUSTOMERS:,} customers | How | Queries | Rows fetched | Rows in the largest step | ms |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for name, cost in costs.items():
        question, _, method = name.partition(": ")
        largest = f"{cost.largest_step:,}" if cost.largest_step is not None else ""
        print(f"| {question} | {method} | {cost.queries:,} | {cost.rows:,} | {largest} | {cost.milliseconds:,.0f} |")
    plot(costs, Path(__file__).with_suffix(".svg"))


if __name__ == "__main__":
    main()
