-- SET, SHOW, RESET, session functions, empty and multi-statement strings.
SHOW server_encoding;
SHOW client_encoding;
SHOW standard_conforming_strings;
SHOW DateStyle;
SHOW TimeZone;
SHOW integer_datetimes;
SHOW transaction_isolation;
SHOW TRANSACTION ISOLATION LEVEL;
SHOW extra_float_digits;
SHOW search_path;
SHOW application_name;
SET application_name = 'compare';
SHOW application_name;
SET application_name TO 'other';
SELECT current_setting('application_name');
RESET application_name;
SET extra_float_digits = 3;
SHOW extra_float_digits;
SET extra_float_digits = 99;
SET client_encoding = 'UTF8';
SET NAMES 'UTF8';
SET statement_timeout = 0;
SET statement_timeout = '5s';
SHOW statement_timeout;
RESET statement_timeout;
SET client_min_messages = warning;
SET client_min_messages = notice;
SET search_path = public;
SHOW search_path;
SET search_path TO DEFAULT;
SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED;
SET default_transaction_read_only = off;
SET nosuchsetting = 1;
SHOW nosuchsetting;
SET my.custom = 'x';
SHOW my.custom;
SELECT current_setting('nosuch.setting', true), current_setting('my.custom');
SELECT current_setting('nosuchsetting');
SELECT set_config('application_name', 'byfunction', false);
SHOW application_name;
SET TIME ZONE 'Europe/Berlin';
SHOW TimeZone;
SET TIME ZONE LOCAL;
SET TIME ZONE INTERVAL '+02:00' HOUR TO MINUTE;
RESET TIME ZONE;
SET lc_monetary = 'C';
SET server_version = '1';
SELECT version() LIKE 'PostgreSQL %', current_database() IS NOT NULL, current_user = session_user, current_schema, current_schema();
SELECT pg_backend_pid() > 0, pg_is_in_recovery(), has_table_privilege('pg_class', 'select'), pg_encoding_to_char(6);
SELECT current_catalog = current_database(), user = current_user;
SELECT format_type(23, NULL), format_type(1043, 14), format_type(1700, 655366), to_regclass('nosuch') IS NULL;
-- batch
-- end
-- batch
SELECT 1; SELECT 'two' AS b;
-- end
-- batch
SELECT 1; SELECT 1 / 0; SELECT 3;
-- end
-- batch
;;SELECT 1;;
-- end
-- batch
SELECT 1; SELEC 2;
-- end
-- batch
-- only a comment
-- end
-- batch
DROP TABLE IF EXISTS g1; CREATE TABLE g1 (id int PRIMARY KEY); INSERT INTO g1 VALUES (1), (2); SELECT count(*) FROM g1; DROP TABLE g1;
-- end
PREPARE p1 AS SELECT 1 + 1;
EXECUTE p1;
PREPARE p1 AS SELECT 2;
PREPARE p2 (int, text) AS SELECT $1 + 1, $2 || '!';
EXECUTE p2 (41, 'x');
EXECUTE p2 (1);
EXECUTE p2 ('x', 'y');
EXECUTE nosuch;
DEALLOCATE p1;
DEALLOCATE p1;
DEALLOCATE ALL;
DISCARD ALL;

-- set_config changes settings from within a query.
SELECT set_config('search_path', '', false);
SELECT set_config('search_path', 'public', false);
SELECT set_config('TimeZone', 'Europe/Berlin', false), set_config('extra_float_digits', '0', false) AS digits;
SHOW TimeZone;
SELECT set_config('TimeZone', 'UTC', false), set_config('extra_float_digits', '1', false);
SHOW search_path;
SELECT set_config('application_name', 'abc', true);
SHOW application_name;
SELECT pg_catalog.set_config('search_path', 'public', false);
SELECT set_config('nosuch', '1', false);
SELECT set_config('my.var', 'x', false);
SELECT current_setting('my.var');
SELECT set_config('my.var', NULL, false);
SELECT set_config('bytea_output', 'nonsense', false);
SELECT set_config(name, 'x', false) FROM (VALUES ('my.a'), ('my.b')) s(name);
SELECT current_setting('my.b');
SELECT set_config(NULL, 'x', false);
SELECT set_config('my.c', 'x', NULL);
SELECT set_config(name, 'view, foreign-table', false) FROM pg_settings WHERE name = 'no_such_setting';
SELECT set_config('my.d');
-- An application's setting is known from its first SET on.
SELECT current_setting('hunt.a', true) IS NULL;
SELECT set_config('hunt.a', '5', true);
SELECT current_setting('hunt.a');
BEGIN;
SET hunt.b = 'x';
SAVEPOINT s;
SET LOCAL hunt.c = 'y';
SET LOCAL hunt.b = 'z';
ROLLBACK TO s;
SHOW hunt.c;
SHOW hunt.b;
ROLLBACK;
SHOW hunt.b;
SELECT current_setting('hunt.c', true);
RESET ALL;
SHOW hunt.c;
SHOW hunt.d;
-- Tools that restore schemas take their own role.
SET ROLE postgres;
SELECT current_user = session_user;
SET ROLE NONE;
SHOW role;
SET SESSION AUTHORIZATION postgres;
RESET ROLE;
SET ROLE "no such role";
RESET SESSION AUTHORIZATION;
