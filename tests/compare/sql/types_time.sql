-- Dates, times, timestamps and intervals: input, output, arithmetic, errors.
SELECT '2024-02-29'::date, 'January 8, 1999'::date, '1999-01-08'::date, '1/8/1999'::date, '19990108'::date, '1999-Jan-08'::date;
SELECT '0001-01-01'::date, '9999-12-31'::date, '10000-01-01'::date, '0044-03-15 BC'::date;
SELECT 'infinity'::date, '-infinity'::timestamp, 'epoch'::date;
SELECT '2023-02-29'::date;
SELECT '2023-13-01'::date;
SELECT 'not a date'::date;
SELECT ''::date;
SELECT '04:05:06'::time, '04:05'::time, '04:05:06.789'::time, '040506'::time, '04:05 PM'::time, '23:59:60'::time, '24:00:00'::time;
SELECT '25:00:00'::time;
SELECT '12:60:00'::time;
SELECT 'x'::time;
SELECT '2024-01-02 03:04:05'::timestamp, '2024-01-02T03:04:05.678'::timestamp, '2024-01-02'::timestamp, '2024-01-02 03:04:05.123456789'::timestamp;
SELECT '2024-01-02 03:04:05+02'::timestamptz, '2024-01-02 03:04:05 UTC'::timestamptz, '2024-01-02 03:04:05'::timestamptz, '2024-01-02 03:04:05Z'::timestamptz;
SELECT '2024-01-02 03:04:05 America/New_York'::timestamptz, '2024-07-02 03:04:05 Europe/Berlin'::timestamptz;
SELECT '2024-01-02 25:00:00'::timestamp;
SELECT 'junk'::timestamptz;
SELECT '2024-01-02 03:04:05 Nowhere/Land'::timestamptz;
SELECT '2024-01-02 03:04:05.678'::timestamp(0), '2024-01-02 03:04:05.678'::timestamp(1), '03:04:05.6789'::time(2);
SELECT '1 day'::interval, '1 year 2 months 3 days 04:05:06'::interval, '-1 day'::interval, '1-2'::interval, '3 4:05:06'::interval;
SELECT 'P1Y2M3DT4H5M6S'::interval, '1.5 hours'::interval, '1 week'::interval, '100 minutes'::interval, '1 day ago'::interval, '0'::interval;
SELECT interval '1 month', interval '2' day, interval '1:30' hour to minute, '1.5 months'::interval, '-1 month +3 days'::interval;
SELECT 'x days'::interval;
SELECT '1 fortnight'::interval;
SELECT date '2024-01-31' + 1, date '2024-01-31' - 31, date '2024-03-01' - date '2024-02-01';
SELECT date '2024-01-31' + interval '1 month', date '2024-01-31' - interval '1 day', date '2024-01-01' + time '03:04';
SELECT timestamp '2024-01-31 10:00' + interval '1 month', timestamp '2024-03-31 10:00' - interval '1 month 1 day';
SELECT timestamp '2024-03-01 00:00' - timestamp '2024-02-01 12:30', timestamptz '2024-03-01 00:00+00' - timestamptz '2024-03-01 00:00+02';
SELECT interval '1 day' + interval '2 hours', interval '1 day' * 2.5, interval '1 day' / 4, -interval '1 day', 2 * interval '1 hour';
SELECT interval '1 day' / 0;
SELECT time '10:00' + interval '15 hours', time '10:00' - time '08:30', time '01:00' - interval '2 hours';
SELECT interval '1 month' = interval '30 days', interval '24 hours' = interval '1 day', interval '1 year' > interval '11 months';
SELECT date '2024-01-01' < date '2024-01-02', date '2024-01-01' = timestamp '2024-01-01 00:00', date '2024-01-01' < timestamptz '2024-01-01 00:00:01+00';
SELECT '2024-01-02'::date::text, '2024-01-02 03:04:05'::timestamp::date, '2024-01-02 03:04:05'::timestamp::time, '2024-01-02 03:04:05+00'::timestamptz::date;
SELECT timestamp '2024-01-02 03:04:05' AT TIME ZONE 'America/New_York', timestamptz '2024-01-02 03:04:05+00' AT TIME ZONE 'Asia/Tokyo';
SELECT date '5874897-12-31' + 1;
SELECT '294277-01-01'::timestamp;
SELECT date '2024-01-01' + date '2024-01-01';
DROP TABLE IF EXISTS td;
CREATE TABLE td (id int PRIMARY KEY, d date, t time, ts timestamp, tz timestamptz, i interval);
INSERT INTO td VALUES (1, '2024-02-29', '12:34:56.789', '2024-02-29 12:34:56', '2024-02-29 12:34:56+01', '1 day 02:03:04');
INSERT INTO td VALUES (2, '1999-12-31', '23:59:59.999999', '1999-12-31 23:59:59.999999', '1999-12-31 23:59:59.999999-08', '-1 year'), (3, NULL, NULL, NULL, NULL, NULL);
INSERT INTO td VALUES (4, 'infinity', '00:00', '-infinity', 'infinity', '0');
INSERT INTO td (id, d) VALUES (5, '2024-02-30');
INSERT INTO td (id, ts) VALUES (5, 12);
SELECT * FROM td ORDER BY id;
SELECT id, d + 1 AS next, ts + i AS later, tz - interval '1 hour' AS earlier FROM td WHERE id < 3 ORDER BY id;
SELECT id FROM td WHERE d > '2000-01-01' ORDER BY id;
SELECT id FROM td WHERE tz < '2024-01-01 00:00+00' ORDER BY id;
SELECT id FROM td ORDER BY ts NULLS FIRST;
SELECT id FROM td ORDER BY i DESC NULLS LAST;
SELECT min(d), max(ts), min(t), max(i) FROM td WHERE id < 3;
SELECT sum(i), avg(i) FROM td WHERE id < 3;
SET TimeZone = 'America/New_York';
SELECT tz, tz::date, ts::timestamptz FROM td WHERE id = 1;
SELECT '2024-07-01 12:00'::timestamptz, '2024-03-10 02:30'::timestamptz;
SET TimeZone = 'Nowhere/Land';
SET TimeZone = 'UTC';
SELECT tz FROM td WHERE id = 1;
-- batch
SET DateStyle = 'SQL, DMY'; SELECT d, ts, tz FROM td WHERE id = 1; SELECT '31/12/2024'::date;
-- end
-- batch
SET DateStyle = 'German'; SELECT d, ts FROM td WHERE id = 1;
-- end
SET DateStyle = 'ISO, DMY';
SELECT '31/12/2024'::date, '01-02-2024'::date;
SET DateStyle = 'ISO, MDY';
-- batch
SET IntervalStyle = 'iso_8601'; SELECT i FROM td WHERE id < 3 ORDER BY id;
-- end
-- batch
SET IntervalStyle = 'postgres_verbose'; SELECT i FROM td WHERE id < 3 ORDER BY id;
-- end
SET IntervalStyle = 'postgres';
DROP TABLE td;
