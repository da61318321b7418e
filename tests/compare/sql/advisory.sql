-- Advisory locks of one session.
SELECT pg_advisory_lock(101), pg_advisory_lock(101), pg_try_advisory_lock(1, 2) AS got, 3 AS three;
SELECT pg_advisory_unlock(101) AS first, pg_advisory_unlock(101) AS second;
SELECT pg_advisory_unlock(101);
SELECT pg_advisory_unlock_shared(1, 2);
SELECT pg_advisory_unlock(1, 2);
SELECT pg_try_advisory_lock_shared(-5), pg_advisory_unlock(-5), pg_advisory_unlock_shared(-5);
SELECT pg_advisory_lock(NULL), pg_try_advisory_lock(NULL) IS NULL AS nothing;
SELECT pg_advisory_lock(1, NULL::int);
SELECT NOT pg_try_advisory_lock(102) AS busy, pg_typeof(pg_try_advisory_lock(102)) AS type;
SELECT pg_try_advisory_lock(abs(-103)::bigint + 1) AS sum;
SELECT pg_advisory_unlock(104), pg_advisory_unlock(102);
SELECT pg_advisory_lock(9223372036854775807), pg_advisory_unlock(9223372036854775807);
SELECT pg_advisory_lock(9223372036854775808);
SELECT pg_advisory_unlock_all();
-- Those of transactions end with them, those of sessions do not.
BEGIN;
SELECT pg_advisory_xact_lock(105), pg_advisory_lock(106), pg_try_advisory_xact_lock_shared(107) AS shared;
SELECT pg_advisory_unlock(105);
SELECT pg_advisory_unlock(106), pg_advisory_lock(106);
ROLLBACK;
SELECT pg_advisory_unlock(105), pg_advisory_unlock(106);
SELECT pg_advisory_xact_lock(105), pg_try_advisory_xact_lock(1, 1);
BEGIN READ ONLY;
SELECT pg_try_advisory_lock(108), pg_advisory_xact_lock(109);
COMMIT;
SELECT pg_advisory_unlock(108), pg_advisory_unlock(109);
-- An error behind it leaves it held.
SELECT pg_advisory_lock(110), 1 / (pg_backend_pid() - pg_backend_pid());
SELECT pg_advisory_unlock(110);
SELECT pg_try_advisory_lock(111);
DISCARD ALL;
SELECT pg_advisory_unlock(111);
PREPARE lock AS SELECT pg_try_advisory_lock($1) AS got;
EXECUTE lock (112);
SELECT pg_advisory_unlock(112);
SELECT pg_advisory_unlock('x');
