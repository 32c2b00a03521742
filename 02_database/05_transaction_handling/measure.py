"""Transfers a second, errors and wrong balances, by strategy and by how much the transfers collide."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import matplotlib as mpl
from models import Account, Base
from rich.console import Console
from rich.progress import Progress
from sqlalchemy import Engine, create_engine, insert, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from transactions import transact

from shared import services

THREADS = 8
RUNS, SECONDS = 3, 0.7
ACCOUNTS = (4, 100)
START = Decimal(10_000)
AMOUNT = Decimal(1)

Move = Callable[[Session, int, int], None]
Strategy = Callable[[Engine, int, int], None]


def read_modify_write(session: Session, source: int, target: int) -> None:
    """Read both balances, then write what Python made of them; a flush writes by id, so this does not deadlock."""
    paying, paid = session.get_one(Account, source), session.get_one(Account, target)
    paying.balance -= AMOUNT
    paid.balance += AMOUNT


def lock(session: Session, numbers: list[int]) -> list[Account]:
    """Lock the accounts in this order, a SELECT each. The session knows them as long as the list is there."""
    locking = [select(Account).where(Account.id == number).with_for_update(key_share=True) for number in numbers]
    return [session.scalars(one).one() for one in locking]


def in_order_of_request(session: Session, source: int, target: int) -> None:
    held = lock(session, [source, target])
    read_modify_write(session, source, target)
    del held


def in_order_of_id(session: Session, source: int, target: int) -> None:
    held = lock(session, sorted([source, target]))
    read_modify_write(session, source, target)
    del held


def atomic_updates(session: Session, source: int, target: int) -> None:
    """Let the database do the sum; by id, so that nobody waits in a circle."""
    for number, change in sorted([(source, -AMOUNT), (target, AMOUNT)]):
        session.execute(update(Account).where(Account.id == number).values(balance=Account.balance + change))


def once(level: str, move: Move) -> Strategy:
    def strategy(engine: Engine, source: int, target: int) -> None:
        with Session(engine.execution_options(isolation_level=level)) as session, session.begin():
            move(session, source, target)

    return strategy


def retried(move: Move) -> Strategy:
    """With the exercise's own `transact`, at SERIALIZABLE."""
    return lambda engine, source, target: transact(
        engine, "SERIALIZABLE", lambda session: move(session, source, target)
    )


STRATEGIES: dict[str, Strategy] = {
    "read, modify, write": once("READ COMMITTED", read_modify_write),
    "FOR NO KEY UPDATE, in the order of the request": once("READ COMMITTED", in_order_of_request),
    "FOR NO KEY UPDATE, by id": once("READ COMMITTED", in_order_of_id),
    "UPDATE … SET balance = balance + …, by id": once("READ COMMITTED", atomic_updates),
    "SERIALIZABLE": once("SERIALIZABLE", read_modify_write),
    "SERIALIZABLE, retried": retried(read_modify_write),
}


@dataclass
class Outcome:
    transfers: int = 0
    errors: int = 0
    wrong: Decimal = Decimal(0)
    """By how much the accounts differ from what the transfers that went well should have left, all added up."""
    seconds: float = 0.0

    @property
    def speed(self) -> float:
        return self.transfers / self.seconds


def run(engine: Engine, strategy: Strategy, count: int) -> Outcome:
    """Transfer between random accounts from some threads for some seconds."""
    outcome, guard, due = Outcome(), threading.Lock(), Counter[int]()
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE accounts RESTART IDENTITY CASCADE"))
        connection.execute(insert(Account), [{"balance": START} for _ in range(count)])
    begin = time.perf_counter()

    def work(seed: int) -> None:
        chance = random.Random(seed)
        while time.perf_counter() - begin < SECONDS:
            source, target = chance.sample(range(1, count + 1), 2)
            try:
                strategy(engine, source, target)
            except DBAPIError:
                with guard:
                    outcome.errors += 1
            else:
                with guard:
                    outcome.transfers += 1
                    due.update({source: -1, target: 1})

    threads = [threading.Thread(target=work, args=[seed]) for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcome.seconds = time.perf_counter() - begin  # a deadlock may last longer than the experiment
    with engine.connect() as connection:
        balances = connection.execute(select(Account.id, Account.balance)).tuples().all()
    outcome.wrong = sum((abs(START + due[number] * AMOUNT - balance) for number, balance in balances), Decimal(0))
    return outcome


def median(engine: Engine, strategy: Strategy, count: int) -> Outcome:
    """The run of middle speed."""
    return sorted((run(engine, strategy, count) for _ in range(RUNS)), key=lambda outcome: outcome.speed)[RUNS // 2]


@contextmanager
def database() -> Iterator[Engine]:
    with services.postgres() as server, services.new_database(server) as url:
        engine = create_engine(url, pool_size=THREADS)
        Base.metadata.create_all(engine)
        for connection in [engine.connect() for _ in range(THREADS)]:  # the pool has all that it will need
            connection.close()
        yield engine
        engine.dispose()


def plot(outcomes: dict[str, list[Outcome]], path: Path) -> None:
    mpl.use("Agg")
    mpl.rcParams |= {"svg.hashsalt": "transactions", "svg.fonttype": "none"}  # the same file for the same figures
    from matplotlib import pyplot as plt  # noqa: PLC0415  after the choice of the backend

    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    height = 0.38
    for index, (count, color) in enumerate(zip(ACCOUNTS, ["#c2703d", "#3b6ea5"], strict=True)):
        places = [position + (index - 0.5) * height for position in range(len(outcomes))]
        speeds = [results[index].speed for results in outcomes.values()]
        bars = axes.barh(places, speeds, height, color=color, label=f"between {count} accounts")
        labels = [
            f"{results[index].speed:,.0f}{' (wrong)' * bool(results[index].wrong)}" for results in outcomes.values()
        ]
        axes.bar_label(bars, labels, padding=3, fontsize="small")
    axes.set_yticks(range(len(outcomes)), list(outcomes))
    axes.set_xlabel("transfers a second")
    axes.margins(x=0.15)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper right", ncols=2, fontsize="small")
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    outcomes: dict[str, list[Outcome]] = {}
    with database() as engine, Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("Transferring", total=len(STRATEGIES))
        for name, strategy in STRATEGIES.items():
            progress.update(bar, description=name)
            outcomes[name] = [median(engine, strategy, count) for count in ACCOUNTS]
            progress.advance(bar)
    few, many = ACCOUNTS
    print(
        f"| strategy | transfers/s, {few} accounts | errors | money wrong | transfers/s, {many} accounts "
        "| errors | money wrong |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, results in outcomes.items():
        cells = [
            f"{result.speed:,.0f} | {result.errors / (result.errors + result.transfers or 1):.0%} | {result.wrong:,.0f}"
            for result in results
        ]
        print(f"| {name} | {' | '.join(cells)} |")
    print(
        f"\n{THREADS} threads transfer 1.00 at a time, without `fsync`; the median of {RUNS} runs. "
        "A deadlock is found after PostgreSQL's default of a second."
    )
    plot(outcomes, Path(__file__).with_suffix(".svg"))


if __name__ == "__main__":
    main()
