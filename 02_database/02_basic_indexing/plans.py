"""What PostgreSQL really did: queries before and after indexing, and writes with more and more indexes."""

import uuid
from collections.abc import Iterator
from typing import Any

from indexes import all_indexes, create, drop
from orders import FILL, QUERIES, TABLE, Connection, limit_waiting, refresh

RUNS = 3  # the first finds the cache cold
COUNTS = (0, 1, 3, 6)
UPDATE_NOTE = "UPDATE {table} SET note = 'a gift' WHERE mod(id, 25) = 0"
UPDATE_STATUS = "UPDATE {table} SET status = 'returned' WHERE mod(id, 25) = 12"

Plan = dict[str, Any]


def report(connection: Connection) -> list[dict[str, Any]]:
    """Measure each query without our indexes and with them. Afterwards the database has those that it had before.

    Both happen in transactions that are rolled back, so nobody else ever sees the table without its indexes.
    """
    limit_waiting(connection)
    refresh(connection)
    with connection.transaction(force_rollback=True):
        do_without_workers(connection)
        drop(connection, how="")
        before = {name: measure(connection, sql) for name, sql in QUERIES.items()}
    with connection.transaction(force_rollback=True):
        do_without_workers(connection)
        create(connection, how="")
        after = {name: measure(connection, sql) for name, sql in QUERIES.items()}
        columns = {name: key_columns(connection, after[name]["index"]) for name in QUERIES}
    return [
        {"query": name, "sql": sql, "columns": columns[name], "before": before[name], "after": after[name]}
        for name, sql in QUERIES.items()
    ]


def do_without_workers(connection: Connection) -> None:
    """One process does the work in this transaction, so that the counts are those of the whole query."""
    connection.execute("SET LOCAL max_parallel_workers_per_gather = 0")


def measure(connection: Connection, sql: str, runs: int = RUNS) -> dict[str, Any]:
    """Run a query some times; return what its quickest run did, apart from the first."""
    results = [explain(connection, sql, "BUFFERS, TIMING OFF") for _ in range(runs)]
    quickest = min(results[1:], key=lambda run: float(run["Execution Time"]))
    plan = quickest["Plan"]
    nodes = list(nodes_of(plan))
    [scan] = [node for node in nodes if node.get("Relation Name") == "orders"]
    return {
        "scan": scan["Node Type"],
        "index": next((node["Index Name"] for node in nodes if "Index Name" in node), None),
        "rows": count(scan, "Actual Rows"),
        "rows_removed": count(scan, "Rows Removed by Filter") + count(scan, "Rows Removed by Index Recheck"),
        "heap_fetches": count(scan, "Heap Fetches"),
        "blocks": plan["Shared Hit Blocks"] + plan["Shared Read Blocks"],
        "blocks_read": plan["Shared Read Blocks"],
        "ms": quickest["Execution Time"],
        "plan": plan,
    }


def explain(connection: Connection, sql: str, options: str, parameters: dict[str, Any] | None = None) -> Plan:
    """Run a statement, and return what PostgreSQL tells about it."""
    [(explained,)] = connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON, {options}) {sql}", parameters).fetchall()
    result: Plan = explained[0]
    return result


def nodes_of(plan: Plan) -> Iterator[Plan]:
    """The node itself and all below it."""
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes_of(below)


def count(node: Plan, what: str) -> int:
    """A count over all loops of a node, of which EXPLAIN gives the mean."""
    return round(float(node.get(what, 0)) * float(node["Actual Loops"]))


def key_columns(connection: Connection, index: str | None) -> list[str]:
    """The columns and expressions by which an index is ordered, from the catalog."""
    found = connection.execute(
        "SELECT pg_get_indexdef(indexrelid, position, true)"
        " FROM pg_index, generate_series(1, indnkeyatts) AS position"
        " WHERE indexrelid = to_regclass(%s) ORDER BY position",
        [index],
    )
    return [column for (column,) in found.fetchall()]


def writes(connection: Connection, rows: int, counts: tuple[int, ...] = COUNTS) -> list[dict[str, Any]]:
    """Insert and update in a table with the first 0, 1, 3 and 6 of our indexes, which nobody else ever sees."""
    scratch = f"orders_{uuid.uuid4().hex}"  # a temporary table would write nothing to the write-ahead log
    measured = []
    for number in counts:
        with connection.transaction(force_rollback=True):
            connection.execute(TABLE.format(table=scratch))
            for index in all_indexes()[:number]:
                connection.execute(index.statement("", scratch))  # PostgreSQL names it
            measured.append({"indexes": number, **write(connection, scratch, rows)})
    return measured


def write(connection: Connection, table: str, rows: int) -> dict[str, Any]:
    """Fill the table and update it twice; `index_bytes` has the primary key in it."""
    inserted = written(connection, table, FILL, {"rows": rows})
    noted = written(connection, table, UPDATE_NOTE)
    returned = written(connection, table, UPDATE_STATUS)
    sizes = "SELECT pg_relation_size(name), pg_indexes_size(name) FROM to_regclass(%s) AS name"
    [(table_bytes, index_bytes)] = connection.execute(sizes, [table]).fetchall()
    return {
        "insert": inserted,
        "update_note": noted,
        "update_status": returned,
        "table_bytes": table_bytes,
        "index_bytes": index_bytes,
    }


def written(connection: Connection, table: str, sql: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run a statement on the table, and see what it wrote. HOT updates touch no index."""
    before = counters(connection, table)
    run = explain(connection, sql.format(table=table), "WAL, TIMING OFF", parameters)
    [rows, hot] = [now - then for now, then in zip(counters(connection, table), before, strict=True)]
    return {"rows": rows, "hot": hot, "wal_bytes": run["Plan"]["WAL Bytes"], "ms": run["Execution Time"]}


def counters(connection: Connection, table: str) -> tuple[int, int]:
    """Rows that this transaction has written, and HOT updates among them. Other transactions would learn of it late."""
    [(rows, hot)] = connection.execute(
        "SELECT n_tup_ins + n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = %s", [table]
    ).fetchall()
    return rows, hot
