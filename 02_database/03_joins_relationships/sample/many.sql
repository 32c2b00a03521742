-- As many customers as the setting sample.customers says, ten orders each, three items an order; always the same rows.
INSERT INTO customers (id, name, referred_by)
    SELECT id, 'Customer ' || id, CASE WHEN id > 10 THEN id / 10 END
    FROM generate_series(1, current_setting('sample.customers')::bigint) AS id;
INSERT INTO profiles (customer_id, city)
    SELECT id, (ARRAY['Lima', 'Oslo', 'Quito', 'Riga'])[1 + id % 4] FROM customers WHERE id % 5 > 0;
INSERT INTO products (id, sku) SELECT id, 'P-' || id FROM generate_series(1, 200) AS id;
INSERT INTO tags (id, name) SELECT id, CASE WHEN id = 1 THEN 'gift' ELSE 'tag ' || id END FROM generate_series(1, 20) AS id;
INSERT INTO product_tags (product_id, tag_id)
    SELECT id, 1 + (id * 7 + step * 3) % 20 FROM products, generate_series(1, 3) AS step;
INSERT INTO orders (id, customer_id, status, placed_on)
    SELECT (step - 1) * current_setting('sample.customers')::bigint + customers.id, customers.id,
        CASE WHEN step > 8 THEN 'open' ELSE 'shipped' END, date '2026-01-01' + (step * 30 + customers.id % 30)::int
    FROM customers, generate_series(1, 10) AS step
    WHERE customers.id % 10 > 0;
INSERT INTO order_items (order_id, product_id, quantity, unit_price)
    SELECT id, 1 + (id * 13 + step * 17) % 200, 1 + id % 3, 5 + (id * 13 + step * 17) % 200
    FROM orders, generate_series(1, 3) AS step;
INSERT INTO payments (id, order_number, amount)
    SELECT (step - 1) * current_setting('sample.customers')::bigint * 10 + orders.id, orders.id, 40
    FROM orders, generate_series(1, 2) AS step
    WHERE status = 'shipped';

-- The rows came with ids, so the sequences behind the tables have not moved.
SELECT setval(pg_get_serial_sequence('customers', 'id'), (SELECT max(id) FROM customers)),
    setval(pg_get_serial_sequence('products', 'id'), 200), setval(pg_get_serial_sequence('tags', 'id'), 20),
    setval(pg_get_serial_sequence('orders', 'id'), (SELECT max(id) FROM orders)),
    setval(pg_get_serial_sequence('payments', 'id'), (SELECT max(id) FROM payments));
ANALYZE;
