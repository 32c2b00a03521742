"""Index the orders to ship, while others write.

CREATE INDEX keeps writers out until it is done; CONCURRENTLY does not, takes longer, and runs in no transaction. When
interrupted it leaves an index that is invalid: kept up to date, used by nobody. IF NOT EXISTS would be content with it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

NAME = "ix_orders_to_ship"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index(NAME, if_exists=True, postgresql_concurrently=True)
        to_ship = sa.text("status = 'paid'")
        op.create_index(NAME, "orders", ["created_at"], postgresql_where=to_ship, postgresql_concurrently=True)


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index(NAME, if_exists=True, postgresql_concurrently=True)
