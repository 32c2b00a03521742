-- A shop small enough to check every report by hand.
INSERT INTO customers (id, name, referred_by) VALUES
    (1, 'Ada', NULL), (2, 'Barbara', 1), (3, 'Grace', 1), (4, 'Radia', 3), (5, 'Ada', NULL);
INSERT INTO profiles (customer_id, city) VALUES (1, 'Lima'), (2, 'Oslo'), (3, 'Lima'), (5, 'Quito');
INSERT INTO products (id, sku) VALUES (1, 'KEYBOARD'), (2, 'MOUSE'), (3, 'MUG'), (4, 'LAMP');
INSERT INTO tags (id, name) VALUES (1, 'desk'), (2, 'gift'), (3, 'garden');
INSERT INTO product_tags (product_id, tag_id) VALUES (1, 1), (2, 1), (2, 2), (3, 2);
INSERT INTO orders (id, customer_id, status, placed_on) VALUES
    (1, 1, 'shipped', '2026-01-05'), (2, 1, 'open', '2026-01-05'), (3, 1, 'shipped', '2026-01-03'),
    (4, 2, 'shipped', '2026-01-09'), (5, 3, 'open', '2026-01-10'), (6, 5, 'open', '2026-01-11');
INSERT INTO order_items (order_id, product_id, quantity, unit_price) VALUES
    (1, 1, 1, 50.00), (1, 2, 2, 20.00), (2, 3, 1, 8.50), (3, 2, 1, 19.00), (4, 1, 1, 49.00), (4, 2, 1, 20.00),
    (4, 3, 3, 8.00), (5, 3, 2, 8.50);
-- Order 1 was paid in two parts, order 2 not at all; 44 is no order, and one payer wrote no number.
INSERT INTO payments (id, order_number, amount) VALUES
    (1, 1, 60.00), (2, 1, 30.00), (3, 3, 19.00), (4, 4, 90.00), (5, 44, 17.00), (6, NULL, 5.00);

-- The rows came with ids, so the sequences behind the tables have not moved.
SELECT setval(pg_get_serial_sequence('customers', 'id'), 5), setval(pg_get_serial_sequence('products', 'id'), 4),
    setval(pg_get_serial_sequence('tags', 'id'), 3), setval(pg_get_serial_sequence('orders', 'id'), 6),
    setval(pg_get_serial_sequence('payments', 'id'), 6);
ANALYZE;
