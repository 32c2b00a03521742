"""Backfill: the order items from before get their product's name.

It is today's, the best that is known. A thousand rows a transaction: one UPDATE of everything would keep all rows
locked until its end, and an error in the last one would undo it. Interrupted, it is run again and fills what is left.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Go along the primary key, batch by batch. A name that the application has written stays."""
    fill_the_next = sa.text("""
        WITH batch AS (
            SELECT order_id, product_id FROM order_items
            WHERE (order_id, product_id) > (:order_id, :product_id)
            ORDER BY order_id, product_id LIMIT 1000
        ), filled AS (
            UPDATE order_items SET product_name = products.name
            FROM batch JOIN products ON products.id = batch.product_id
            WHERE (order_items.order_id, order_items.product_id) = (batch.order_id, batch.product_id)
            AND order_items.product_name IS NULL
        )
        SELECT order_id, product_id FROM batch ORDER BY order_id DESC, product_id DESC LIMIT 1
    """)
    last = {"order_id": -(2**63), "product_id": 0}
    with op.get_context().autocommit_block():
        while row := op.get_bind().execute(fill_the_next, last).mappings().first():
            last = dict(row)


def downgrade() -> None:
    """Nothing to undo: which names were filled in here is not known, and none of them is in the way."""
