"""Contract: no order item without a product's name any more.

SET NOT NULL reads the whole table while nobody may use it, unless a valid CHECK promises the same. And a CHECK need not
be checked at once: NOT VALID holds for new rows from now on, and VALIDATE reads the old ones while others write. Each
commits by itself, or the strong lock of the first would be held for as long as the second reads.
"""

from contextlib import suppress

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError, OperationalError

revision = "0004"
down_revision = "0003"

RULES = {
    "ck_order_items_product_name_not_null": "product_name IS NOT NULL",
    "ck_order_items_product_name": r"product_name ~ '\S' AND length(product_name) <= 100",
}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        undo()  # what a run that was interrupted has left
        refuse_while_names_are_missing()
        add = ", ".join(f"ADD CONSTRAINT {name} CHECK ({rule}) NOT VALID" for name, rule in RULES.items())
        op.execute(f"ALTER TABLE order_items {add}")
        try:
            for name in RULES:
                op.execute(f"ALTER TABLE order_items VALIDATE CONSTRAINT {name}")
            op.alter_column("order_items", "product_name", nullable=False)
            op.execute("ALTER TABLE order_items DROP CONSTRAINT ck_order_items_product_name_not_null")
        except DBAPIError:
            undo_patiently()
            raise


def downgrade() -> None:
    undo()


def refuse_while_names_are_missing() -> None:
    """Rows that came in after the backfill: the application from before still runs, so let it."""
    missing = r"SELECT EXISTS (SELECT FROM order_items WHERE product_name IS NULL OR product_name !~ '\S')"
    if op.get_bind().scalar(sa.text(missing)):
        raise CommandError(
            "there are order items without a product's name: once the new application writes all of them, "
            "run `downgrade 0002`, which keeps the names, and `upgrade`"
        )


def undo_patiently() -> None:
    """Rules that stay would stop the application from before: try again while somebody is in the way."""
    for _ in range(20):
        with suppress(OperationalError):
            undo()
            break


def undo() -> None:
    drop = ", ".join(f"DROP CONSTRAINT IF EXISTS {name}" for name in RULES)
    op.execute(f"ALTER TABLE order_items {drop}, ALTER COLUMN product_name DROP NOT NULL")
