"""The schema that the shop opened with.

A migration never imports the models: they go on changing, and what this one did is history.
"""

from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    create_people()
    create_catalogue()
    create_sales()


def downgrade() -> None:
    for table in ["payments", "order_items", "orders", "reviews", "product_categories", "products", "categories"]:
        op.drop_table(table)
    for table in ["addresses", "profiles", "users"]:
        op.drop_table(table)
    op.execute("DROP TYPE order_status")  # goes with no table: it is an object of its own


def identity() -> sa.Column[int]:
    return sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False)


def created_at() -> sa.Column[datetime]:
    return sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False)


def create_people() -> None:
    op.create_table(
        "users",
        identity(),
        sa.Column("email", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        created_at(),
        sa.CheckConstraint(r"email ~ '^[^@\s]+@[^@\s]+$' AND length(email) <= 254", name=op.f("ck_users_email")),
        sa.CheckConstraint(r"name ~ '\S' AND length(name) <= 100", name=op.f("ck_users_name")),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
    )
    op.create_index("uq_users_email", "users", [sa.literal_column("lower(email)")], unique=True)
    op.create_table(
        "profiles",
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("phone", sa.Text, nullable=True),
        sa.Column("birth_date", sa.Date, nullable=True),
        sa.CheckConstraint(r"phone ~ '^\+[1-9][0-9]{6,14}$'", name=op.f("ck_profiles_phone")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_profiles_user_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", name="pk_profiles"),
    )
    op.create_table(
        "addresses",
        identity(),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("street", sa.Text, nullable=False),
        sa.Column("postal_code", sa.Text, nullable=False),
        sa.Column("city", sa.Text, nullable=False),
        sa.Column("country", sa.Text, nullable=False),
        sa.Column("is_default", sa.Boolean, server_default=sa.text("false"), nullable=False),
        sa.CheckConstraint(r"city ~ '\S' AND length(city) <= 100", name=op.f("ck_addresses_city")),
        sa.CheckConstraint("country ~ '^[A-Z]{2}$'", name=op.f("ck_addresses_country")),
        sa.CheckConstraint(r"postal_code ~ '\S' AND length(postal_code) <= 20", name=op.f("ck_addresses_postal_code")),
        sa.CheckConstraint(r"street ~ '\S' AND length(street) <= 200", name=op.f("ck_addresses_street")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_addresses_user_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_addresses"),
    )
    op.create_index("ix_addresses_user_id", "addresses", ["user_id"])
    op.create_index(
        "uq_addresses_default", "addresses", ["user_id"], unique=True, postgresql_where=sa.text("is_default")
    )


def create_catalogue() -> None:
    op.create_table(
        "categories",
        identity(),
        sa.Column("parent_id", sa.BigInteger, nullable=True),
        sa.Column("slug", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.CheckConstraint(r"name ~ '\S' AND length(name) <= 100", name=op.f("ck_categories_name")),
        sa.CheckConstraint("slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$' AND length(slug) <= 50", name=op.f("ck_categories_slug")),
        sa.CheckConstraint("parent_id <> id", name=op.f("ck_categories_parent")),
        sa.ForeignKeyConstraint(["parent_id"], ["categories.id"], name="fk_categories_parent_id", ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name="pk_categories"),
        sa.UniqueConstraint("slug", name="uq_categories_slug"),
    )
    op.create_index("ix_categories_parent_id", "categories", ["parent_id"])
    op.create_table(
        "products",
        identity(),
        sa.Column("sku", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=True),
        sa.Column("price", sa.Numeric(12, 2), nullable=False),
        sa.Column("stock", sa.Integer, server_default=sa.text("0"), nullable=False),
        created_at(),
        sa.CheckConstraint(r"name ~ '\S' AND length(name) <= 100", name=op.f("ck_products_name")),
        sa.CheckConstraint("sku ~ '^[A-Z0-9-]{1,32}$'", name=op.f("ck_products_sku")),
        sa.CheckConstraint("price BETWEEN 0 AND 9999999999.99", name=op.f("ck_products_price")),
        sa.CheckConstraint("stock >= 0", name=op.f("ck_products_stock")),
        sa.PrimaryKeyConstraint("id", name="pk_products"),
        sa.UniqueConstraint("sku", name="uq_products_sku"),
    )
    op.create_table(
        "product_categories",
        sa.Column("product_id", sa.BigInteger, nullable=False),
        sa.Column("category_id", sa.BigInteger, nullable=False),
        sa.ForeignKeyConstraint(
            ["category_id"], ["categories.id"], name="fk_product_categories_category_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["product_id"], ["products.id"], name="fk_product_categories_product_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("product_id", "category_id", name="pk_product_categories"),
    )
    op.create_index("ix_product_categories_category_id", "product_categories", ["category_id"])
    op.create_table(
        "reviews",
        identity(),
        sa.Column("product_id", sa.BigInteger, nullable=False),
        sa.Column("user_id", sa.BigInteger, nullable=True),
        sa.Column("rating", sa.SmallInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=True),
        created_at(),
        sa.CheckConstraint("length(body) <= 5000", name=op.f("ck_reviews_body")),
        sa.CheckConstraint("rating BETWEEN 1 AND 5", name=op.f("ck_reviews_rating")),
        sa.ForeignKeyConstraint(["product_id"], ["products.id"], name="fk_reviews_product_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_reviews_user_id", ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id", name="pk_reviews"),
        sa.UniqueConstraint("user_id", "product_id", name="uq_reviews_user_id_product_id"),
    )
    op.create_index("ix_reviews_product_id_created_at", "reviews", ["product_id", "created_at"])


def create_sales() -> None:
    op.create_table(
        "orders",
        identity(),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column(
            "status",
            sa.Enum("pending", "paid", "shipped", "delivered", "cancelled", name="order_status"),
            server_default="pending",
            nullable=False,
        ),
        sa.Column("shipping_address", sa.Text, nullable=False),
        created_at(),
        sa.CheckConstraint(
            r"shipping_address ~ '\S' AND length(shipping_address) <= 500", name=op.f("ck_orders_shipping_address")
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_orders_user_id", ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name="pk_orders"),
    )
    op.create_index("ix_orders_user_id_created_at", "orders", ["user_id", "created_at"])
    op.create_table(
        "order_items",
        sa.Column("order_id", sa.BigInteger, nullable=False),
        sa.Column("product_id", sa.BigInteger, nullable=False),
        sa.Column("unit_price", sa.Numeric(12, 2), nullable=False),
        sa.Column("quantity", sa.Integer, nullable=False),
        sa.CheckConstraint("quantity > 0", name=op.f("ck_order_items_quantity")),
        sa.CheckConstraint("unit_price BETWEEN 0 AND 9999999999.99", name=op.f("ck_order_items_unit_price")),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name="fk_order_items_order_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["product_id"], ["products.id"], name="fk_order_items_product_id", ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("order_id", "product_id", name="pk_order_items"),
    )
    op.create_index("ix_order_items_product_id", "order_items", ["product_id"])
    op.create_table(
        "payments",
        identity(),
        sa.Column("order_id", sa.BigInteger, nullable=False),
        sa.Column("reference", sa.Text, nullable=False),
        sa.Column("amount", sa.Numeric(12, 2), nullable=False),
        sa.Column("status", sa.Text, server_default="pending", nullable=False),
        created_at(),
        sa.CheckConstraint(r"reference ~ '\S' AND length(reference) <= 100", name=op.f("ck_payments_reference")),
        sa.CheckConstraint("status IN ('pending', 'succeeded', 'failed', 'refunded')", name=op.f("ck_payments_status")),
        sa.CheckConstraint("amount BETWEEN 0.01 AND 9999999999.99", name=op.f("ck_payments_amount")),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name="fk_payments_order_id", ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name="pk_payments"),
        sa.UniqueConstraint("reference", name="uq_payments_reference"),
    )
    op.create_index("ix_payments_order_id", "payments", ["order_id"])
    op.create_index(
        "uq_payments_succeeded", "payments", ["order_id"], unique=True, postgresql_where=sa.text("status = 'succeeded'")
    )
