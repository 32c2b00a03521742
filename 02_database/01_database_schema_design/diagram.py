"""An entity relationship diagram in Mermaid, from the models: a picture that cannot be out of date."""

from collections.abc import Iterator

from sqlalchemy import (
    Column,
    DateTime,
    Enum,
    ForeignKeyConstraint,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
)


def mermaid(metadata: MetaData) -> str:
    """The relations, then each table with its columns: https://mermaid.js.org/syntax/entityRelationshipDiagram.html."""
    relations = [f"    {relation(key)}" for table in metadata.sorted_tables for key in foreign_keys(table)]
    entities = [line for table in metadata.sorted_tables for line in entity(table)]
    return "\n".join(["erDiagram", *relations, *entities])


def foreign_keys(table: Table) -> list[ForeignKeyConstraint]:
    return sorted(table.foreign_key_constraints, key=lambda key: tuple(key.column_keys))


def relation(key: ForeignKeyConstraint) -> str:
    """`parent ||--o{ child`: exactly one or perhaps none (|o), to perhaps one (o|) or many (o{)."""
    parent = "|o" if any(column.nullable for column in key.columns) else "||"
    child = "o|" if set(key.column_keys) in unique_columns(key.table) else "o{"
    line = "--" if set(key.columns) <= set(key.table.primary_key) else ".."  # solid when the child is known by it
    label = f"{', '.join(key.column_keys)}: {key.ondelete}"
    return f'{key.referred_table.name} {parent}{line}{child} {key.table.name} : "{label}"'


def unique_columns(table: Table) -> list[set[str]]:
    """The sets of columns of which no two rows have the same values; partial indexes do not promise that."""
    keys = [key for key in table.constraints if isinstance(key, UniqueConstraint | PrimaryKeyConstraint)]
    indexes = [i for i in table.indexes if i.unique and i.dialect_options["postgresql"]["where"] is None]
    return [set(key.columns.keys()) for key in keys] + [set(index.columns.keys()) for index in indexes]


def entity(table: Table) -> Iterator[str]:
    yield f"    {table.name} {{"
    for column in table.columns:
        yield f"        {type_of(column)} {column.name} {', '.join(keys_of(column))}".rstrip()
    yield "    }"


def type_of(column: Column[object]) -> str:
    """The type in one word, which is what Mermaid takes."""
    if isinstance(column.type, DateTime):
        return "timestamptz" if column.type.timezone else "timestamp"
    if isinstance(column.type, Numeric):
        return "numeric"
    if isinstance(column.type, Enum):
        return str(column.type.name)
    return str(column.type).lower()


def keys_of(column: Column[object]) -> Iterator[str]:
    if column.primary_key:
        yield "PK"
    if column.foreign_keys:
        yield "FK"
    if not column.primary_key and {column.name} in unique_columns(column.table):
        yield "UK"
