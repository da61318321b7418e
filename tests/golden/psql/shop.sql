-- A session of ordinary use: a small shop.
\pset null '(null)'
CREATE TABLE customers (
    id int PRIMARY KEY,
    name varchar(40) NOT NULL,
    city text,
    since date DEFAULT '2024-01-01'
);
CREATE TABLE orders (
    customer int,
    no int,
    placed timestamp NOT NULL,
    total numeric(10,2) DEFAULT 0,
    paid boolean,
    PRIMARY KEY (customer, no)
);
\dt
\d customers
\d orders
INSERT INTO customers (id, name, city) VALUES (1, 'Ada', 'London'), (2, 'Grace', 'New York'), (4, 'Barbara', NULL);
INSERT INTO customers VALUES (3, 'Edsger', 'Rotterdam', '2023-05-11');
INSERT INTO orders SELECT c, n, timestamp '2024-03-01 09:00' + n * interval '1 day 90 minutes', c * n * 1.25, n % 2 = 0 FROM generate_series(1, 3) c, generate_series(1, 4) n;
SELECT * FROM customers ORDER BY id;
SELECT * FROM customers WHERE id = 3;
SELECT name, coalesce(city, 'unknown') AS city FROM customers ORDER BY name;
SELECT count(*) AS orders, sum(total), avg(total), min(placed), max(placed) FROM orders;
SELECT c.name, count(o.no) AS orders, sum(o.total) AS spent FROM customers c LEFT JOIN orders o ON o.customer = c.id GROUP BY c.name ORDER BY spent DESC NULLS LAST;
SELECT c.name, o.no, o.total FROM customers c JOIN orders o ON o.customer = c.id WHERE NOT o.paid AND o.total > 2 ORDER BY o.total DESC, c.name;
SELECT paid, count(*), round(avg(total), 2) FROM orders GROUP BY paid HAVING count(*) > 1 ORDER BY paid;
SELECT date_trunc('day', placed) AS day, sum(total) FROM orders GROUP BY 1 ORDER BY 1;
\x
SELECT * FROM orders WHERE customer = 2 AND no = 3;
\x
UPDATE customers SET city = 'Cambridge' WHERE id = 4;
UPDATE orders SET paid = true, total = total * 1.1 WHERE customer = 1 AND no = 1 RETURNING *;
UPDATE orders SET paid = NULL WHERE total > 10;
SELECT customer, no, paid FROM orders WHERE paid IS NULL ORDER BY customer, no;
DELETE FROM orders WHERE customer = 3 AND no = 4;
DELETE FROM orders WHERE total < 2 RETURNING customer, no, total;
INSERT INTO customers VALUES (1, 'Again');
INSERT INTO customers VALUES (5, NULL);
INSERT INTO customers VALUES (5, 'A name that is longer than forty characters are');
SELECT nickname FROM customers;
SELECT * FROM custmers;
SELEC 1;
SELECT total / 0 FROM orders;
SELECT name FROM customers WHERE id = 'one';
SELECT name FROM customers WHERE id IN (SELECT customer FROM orders WHERE paid) ORDER BY name;
WITH big AS (SELECT customer, max(total) AS top FROM orders GROUP BY customer) SELECT c.name, b.top FROM big b JOIN customers c ON c.id = b.customer ORDER BY b.top;
SELECT name FROM customers WHERE name LIKE '%a' UNION SELECT city FROM customers WHERE city LIKE '%o%' ORDER BY 1;
SELECT CASE WHEN total > 5 THEN 'large' ELSE 'small' END AS size, count(*) FROM orders GROUP BY 1 ORDER BY 1;
SELECT name, length(name), upper(left(name, 3)) || '…' AS short FROM customers ORDER BY id OFFSET 1 LIMIT 2;
ALTER TABLE customers ADD COLUMN points int DEFAULT 10;
UPDATE customers SET points = points + id WHERE id > 2;
SELECT id, points FROM customers ORDER BY id;
CREATE INDEX customers_city ON customers (city);
\d customers
SELECT id FROM customers WHERE city = 'London';
COPY customers (id, name, city) FROM STDIN WITH (FORMAT csv);
6,Donald,"Stanford, CA"
7,"Alan ""T""",
\.
COPY (SELECT id, name, city FROM customers WHERE id > 5 ORDER BY id) TO STDOUT;
\copy (SELECT id, name FROM customers WHERE id < 3 ORDER BY id) TO STDOUT WITH CSV HEADER
PREPARE by_id (int) AS SELECT name FROM customers WHERE id = $1;
EXECUTE by_id (6);
DEALLOCATE by_id;
SELECT 1 AS one \; SELECT 2 AS two;
\set who 2
SELECT name FROM customers WHERE id = :who;
SELECT count(*) FROM customers \gset
\echo :count customers
SHOW server_encoding;
SET TimeZone = 'Europe/Berlin';
SELECT timestamptz '2024-07-01 12:00+00';
TRUNCATE orders;
SELECT count(*) FROM orders;
DROP TABLE customers, orders;
\dt
