-- COPY in and out: text, csv, errors with line and column.
DROP TABLE IF EXISTS c1, c2;
CREATE TABLE c1 (id int PRIMARY KEY, t text, n numeric(6,2), d date DEFAULT '2024-01-01');
COPY c1 FROM STDIN;
1	one	1.5	2024-02-01
2	\N	\N	\N
3	tab\there\nand \\ newline	-3	1999-12-31
\.
COPY c1 (id, t) FROM STDIN;
4	four
5	
\.
COPY c1 (id, t, n) FROM STDIN WITH (FORMAT csv);
6,"quoted, ""text""",6
7,,7.25
8,"",
9,"two
lines",9
\.
COPY c1 (id, t) FROM STDIN WITH (FORMAT csv, HEADER, DELIMITER ';', NULL 'none');
id;t
10;ten
11;none
\.
COPY c1 (t, id) FROM STDIN WITH (DELIMITER '|', NULL '');
twelve|12
|13
\.
COPY c1 FROM STDIN;
nonsense
\.
COPY c1 FROM STDIN;
14	x
\.
COPY c1 (t, id) FROM STDIN WITH (FORMAT csv);
x
\.
SELECT * FROM c1 ORDER BY id;
COPY (SELECT * FROM c1 WHERE id <= 5 ORDER BY id) TO STDOUT;
COPY (SELECT * FROM c1 WHERE id BETWEEN 6 AND 9 ORDER BY id) TO STDOUT WITH (FORMAT csv);
COPY (SELECT id, t FROM c1 WHERE id < 4 ORDER BY id) TO STDOUT WITH (FORMAT csv, HEADER, FORCE_QUOTE *);
COPY (SELECT id, t FROM c1 WHERE id IN (2, 4) ORDER BY id) TO STDOUT WITH (NULL 'nil', DELIMITER ',');
COPY (VALUES (1, 'a'), (2, NULL)) TO STDOUT;
CREATE TABLE c2 (a int, b text);
INSERT INTO c2 VALUES (1, 'only');
COPY c2 TO STDOUT;
COPY c2 (b) TO STDOUT;
COPY c2 FROM STDIN;
\.
COPY c1 (id) FROM STDIN;
20
x
\.
COPY c1 (id, t) FROM STDIN;
21
\.
COPY c1 (id, t) FROM STDIN;
22	a	b
\.
COPY c1 (id, n) FROM STDIN;
23	123456
\.
COPY c1 (id, d) FROM STDIN;
24	2024-02-30
\.
COPY c1 (id, t) FROM STDIN;
1	dup
\.
COPY c1 (t) FROM STDIN;
nokey
\.
COPY c1 (id, t) FROM STDIN WITH (FORMAT csv);
25,"unended
\.
COPY nosuch FROM STDIN;
\.
COPY c1 (nope) FROM STDIN;
\.
COPY c1 FROM STDIN WITH (FORMAT nonsense);
\.
COPY c1 TO STDOUT WITH (DELIMITER 'ab');
COPY nosuch TO STDOUT;
SELECT count(*), max(id) FROM c1;
DROP TABLE c1, c2;
