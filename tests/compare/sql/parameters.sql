-- Statements with parameters: inferred types, NULLs, wrong counts and texts.
DROP TABLE IF EXISTS p1;
CREATE TABLE p1 (id int PRIMARY KEY, b bigint, n numeric(10,2), t text, d date, ts timestamptz, ok bool, u uuid, v varchar(5), y bytea, j jsonb);
-- params: 1 | 10 | 1.5 | text | 2024-01-01 | 2024-01-01 00:00+00 | t | 00000000-0000-0000-0000-000000000001 | abc | \x01 | {"a": 1}
INSERT INTO p1 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11);
-- params: 2 | NULL | NULL | NULL | NULL | NULL | NULL | NULL | NULL | NULL | NULL
INSERT INTO p1 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING *;
-- params: 1
SELECT * FROM p1 WHERE id = $1;
-- params: 1
SELECT t, n FROM p1 WHERE $1 = id;
-- params: NULL
SELECT t FROM p1 WHERE id = $1;
-- params: 1 | text
SELECT id FROM p1 WHERE id = $1 AND t = $2;
-- params: 5 | 3
SELECT $1 + 1, $2::text || 'x', $1::int * 2;
-- params: 5
SELECT $1;
-- params: x
SELECT $1::text, upper($1), length($1);
-- params: 2.5
SELECT $1 * 2.0, $1 + n FROM p1 WHERE id = 1;
-- params: 1
SELECT id FROM p1 WHERE b > $1 AND n > $1;
-- params: 2024-01-01
SELECT id FROM p1 WHERE d = $1;
-- params: 2023-12-31
SELECT id, d - $1 AS days FROM p1 WHERE d > $1::date;
-- params: 1 | 2 | 3
SELECT id FROM p1 WHERE id IN ($1, $2, $3) ORDER BY id;
-- params: a | b
SELECT CASE WHEN $1 = 'a' THEN $2 ELSE 'c' END, coalesce($2, 'x');
-- params: 1
SELECT id FROM p1 ORDER BY id LIMIT $1;
-- params: 1 | 1
SELECT id FROM p1 ORDER BY id LIMIT $1 OFFSET $2;
-- params: %ex%
SELECT id FROM p1 WHERE t LIKE $1;
-- params: 1 | new
UPDATE p1 SET t = $2, b = b + $1 WHERE id = $1 RETURNING t, b;
-- params: 1 | 10
UPDATE p1 SET n = n + $2 WHERE id = $1;
-- params: 9
DELETE FROM p1 WHERE id = $1;
-- params: 1 | 3
SELECT count(*), sum(x) FROM generate_series($1::int, $2) x;
-- params: 3
SELECT x FROM (VALUES (1), (2), (3)) v (x) WHERE x >= $1;
-- params: x
SELECT id FROM p1 WHERE id = $1;
-- params: 3000000000
SELECT id FROM p1 WHERE id = $1;
-- params: toolong
UPDATE p1 SET v = $1 WHERE id = 1;
-- params: not json
UPDATE p1 SET j = $1 WHERE id = 1;
-- params: 1
SELECT $1 + $2;
-- params: 1 | 2
SELECT id FROM p1 WHERE id = $1;
-- params:
SELECT id FROM p1 WHERE id = 1;
-- params: 1
SELECT $1 || 'x', $1 + 1;
-- params: 1
SELECT id FROM p1 WHERE nope = $1;
-- params: 1
SELEC $1;
-- params: a
SELECT $1 IS NULL;
-- params: 1
SELECT pg_typeof($1 + 1);
-- params: 1
DROP TABLE p1;
DROP TABLE p1;
-- Nobody brings values for the parameters of a simple query.
-- batch
CREATE TABLE pa9 (id int PRIMARY KEY, v int);
INSERT INTO pa9 VALUES (1, 1);
UPDATE pa9 SET v = $1;
-- end
CREATE TABLE pa9 (id int PRIMARY KEY, v int);
-- batch
INSERT INTO pa9 VALUES (1, 1);
INSERT INTO pa9 VALUES (2, $1) ON CONFLICT (id) DO UPDATE SET v = $2;
-- end
-- batch
SELECT '$1', 1; SELECT v FROM pa9 WHERE id = $2;
-- end
-- batch
PREPARE pa9 AS SELECT $1 + 1; EXECUTE pa9 (41); EXECUTE pa9 ($1);
-- end
SELECT * FROM pa9;
DROP TABLE pa9;
DEALLOCATE pa9;
