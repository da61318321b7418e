CREATE TABLE ss (id int PRIMARY KEY, v text, n int);
CREATE TABLE st (k int PRIMARY KEY, m int);
INSERT INTO ss VALUES (1, 'a', 10), (2, 'b', 20), (3, 'c', 30);
INSERT INTO st VALUES (1, 100), (2, 200);
-- Where there is a value.
SELECT id, (SELECT max(m) FROM st) AS top FROM ss ORDER BY id;
SELECT v, (SELECT count(*) FROM st) FROM ss WHERE id = 2;
SELECT v FROM ss WHERE id = (SELECT min(k) FROM st);
SELECT v FROM ss WHERE n > (SELECT min(m) FROM st) - 85 ORDER BY id;
SELECT v FROM ss WHERE id IN (SELECT k FROM st) ORDER BY v;
SELECT v FROM ss WHERE id = ANY (SELECT k FROM st WHERE m > 100);
SELECT v FROM ss WHERE id <> ALL (SELECT k FROM st);
SELECT v FROM ss WHERE EXISTS (SELECT 1 FROM st WHERE m > 150) AND id = 1;
SELECT (SELECT 1), (SELECT 'x'), (SELECT m FROM st WHERE k = 5);
SELECT (SELECT m FROM st);
SELECT v FROM ss WHERE id = (SELECT k FROM st);
SELECT v FROM ss ORDER BY id LIMIT (SELECT 2);
SELECT v FROM ss ORDER BY id OFFSET (SELECT count(*) FROM st) LIMIT (SELECT min(k) FROM st);
SELECT v FROM ss ORDER BY id LIMIT (SELECT m FROM st);
SELECT CASE WHEN (SELECT count(*) FROM st) = 2 THEN 'two' ELSE 'other' END;
SELECT ARRAY(SELECT k FROM st ORDER BY k DESC);
VALUES ((SELECT max(k) FROM st)), ((SELECT 7));
-- INSERT.
INSERT INTO ss VALUES ((SELECT max(id) + 1 FROM ss), 'd', (SELECT max(m) FROM st)) RETURNING *;
INSERT INTO ss VALUES (5, (SELECT v FROM ss WHERE id = 1), 50), (6, 'f', (SELECT m FROM st WHERE k = 9)) RETURNING *;
INSERT INTO ss VALUES (7, 'g', (SELECT m FROM st));
INSERT INTO ss (id, n) SELECT 8, (SELECT sum(m) FROM st) RETURNING *;
INSERT INTO ss VALUES (1, 'x', 1) ON CONFLICT (id) DO UPDATE SET n = (SELECT max(m) FROM st), v = (SELECT 'y' || count(*) FROM ss) RETURNING *;
INSERT INTO ss VALUES (1, 'x', 1) ON CONFLICT (id) DO UPDATE SET n = 3 WHERE EXISTS (SELECT 1 FROM st WHERE k = 9) RETURNING *;
INSERT INTO ss VALUES (1, 'x', 1) ON CONFLICT (id) DO UPDATE SET n = (SELECT m FROM st);
-- UPDATE and DELETE.
UPDATE ss SET n = (SELECT min(m) FROM st) WHERE id = 2 RETURNING *;
UPDATE ss SET n = (SELECT m FROM st) WHERE id = 2;
UPDATE ss SET n = 0 WHERE id IN (SELECT k FROM st) RETURNING id;
UPDATE ss SET (v, n) = (SELECT 'both', m FROM st WHERE k = 2) WHERE id = 3 RETURNING *;
UPDATE ss SET (v, n) = (SELECT 'none', m FROM st WHERE k = 9) WHERE id = 3 RETURNING *;
UPDATE ss SET (v, n) = (SELECT 'many', m FROM st) WHERE id = 3;
UPDATE ss SET (v, n) = (SELECT 1) WHERE id = 3;
UPDATE ss SET v = 'e' WHERE EXISTS (SELECT 1 FROM st WHERE m > 1000);
-- unordered
UPDATE ss SET v = 'all' WHERE n >= ALL (SELECT m FROM st) RETURNING id;
DELETE FROM ss WHERE id = (SELECT max(k) + 6 FROM st) RETURNING *;
DELETE FROM ss WHERE n = ANY (SELECT m FROM st) RETURNING id;
DELETE FROM ss WHERE NOT EXISTS (SELECT 1 FROM st);
UPDATE ss SET v = 'r' WHERE id = 1 RETURNING id, (SELECT max(k) FROM st) AS top;
DELETE FROM ss WHERE id = 1 RETURNING v || (SELECT count(*) FROM st);
INSERT INTO ss VALUES (20, 't', 1) RETURNING id + (SELECT max(k) FROM st);
-- params: 2
INSERT INTO ss VALUES (21, (SELECT m::text FROM st WHERE k = $1), $1) RETURNING *;
-- params: 1 | 21
UPDATE ss SET n = (SELECT m FROM st WHERE k = $1) WHERE id = $2 RETURNING *;
SELECT * FROM ss ORDER BY id;
-- A key that is equal to nothing: there is no partition to ask, and still an aggregate's row.
SELECT count(*), max(n) FROM ss WHERE id = (SELECT k FROM st WHERE k = 99);
SELECT count(*) FROM ss WHERE id = (SELECT 5 WHERE false);
SELECT max(n) FROM ss WHERE id = (SELECT k FROM st WHERE k = 99) HAVING count(*) = 0;
SELECT max(n) FROM ss WHERE id = (SELECT k FROM st WHERE k = 99) GROUP BY v;
SELECT (SELECT count(*) FROM ss WHERE id = (SELECT k FROM st WHERE k = 99)) AS none;
SELECT count(*) FROM ss WHERE id = 1 AND id = 2;
SELECT count(*) FROM st LEFT JOIN ss ON ss.id = (SELECT k FROM st WHERE k = 99);
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT count(DISTINCT n), sum(n) FROM ss WHERE id = (SELECT k FROM st WHERE k = 99);
COMMIT;
DROP TABLE ss, st;
