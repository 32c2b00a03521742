"""Expand: order items get a column for their product's name at the time of order.

It stands on the invoice, and products are renamed. The column may be NULL for now: the application that runs does not
know it, and goes on inserting without it. To add a column that may be NULL, or has a constant default, PostgreSQL
writes to its catalog only, however long the table is. After this, release the application that fills the column.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("order_items", sa.Column("product_name", sa.Text))


def downgrade() -> None:
    op.drop_column("order_items", "product_name")
