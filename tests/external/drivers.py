"""Ordinary use through one Python driver: drivers.py psycopg|asyncpg|pg8000 PORT. Fails with an assertion."""

import asyncio
import datetime
import decimal
import sys
import uuid

ROW = (
    1,
    "é text",
    decimal.Decimal("12345.67"),
    2.5,
    True,
    datetime.date(2024, 2, 29),
    datetime.datetime(2024, 2, 29, 12, 34, 56, 789000),
    uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    b"\x00\x01\xff",
)
TABLE = "id int PRIMARY KEY, t text, n numeric(10,2), f float8, o bool, d date, ts timestamp, u uuid, b bytea"


def check(got, expected):
    assert got == expected, f"expected {expected!r}, got {got!r}"


def psycopg(port):
    import psycopg

    with psycopg.connect(f"host=127.0.0.1 port={port} user=postgres dbname=toroid", autocommit=True) as connection:
        cursor = connection.cursor()
        cursor.execute("DROP TABLE IF EXISTS drv")
        cursor.execute(f"CREATE TABLE drv ({TABLE})")
        marks = ", ".join(["%s"] * len(ROW))
        cursor.execute(f"INSERT INTO drv VALUES ({marks})", ROW)
        cursor.execute("INSERT INTO drv (id) VALUES (%s)", (2,))
        for binary in (False, True):
            cursor = connection.cursor(binary=binary)
            cursor.execute("SELECT * FROM drv WHERE id = %s", (1,))
            check(cursor.fetchone(), ROW)
            cursor.execute("SELECT * FROM drv WHERE id = %s", (2,))
            check(cursor.fetchone(), (2,) + (None,) * 8)
        for number in range(10):
            cursor.execute("SELECT %s::int + 1", (number,), prepare=True)
            check(cursor.fetchone(), (number + 1,))
        with connection.pipeline():
            cursors = [connection.cursor().execute("SELECT count(*) FROM drv WHERE id >= %s", (n,)) for n in range(3)]
        check([c.fetchone()[0] for c in cursors], [2, 2, 1])
        with cursor.copy("COPY drv (id, t) FROM STDIN") as copy:
            for number in range(10, 1010):
                copy.write_row((number, f"row {number}"))
        with cursor.copy("COPY (SELECT id, t FROM drv WHERE id IN (10, 11) ORDER BY id) TO STDOUT") as copy:
            check(list(copy.rows()), [("10", "row 10"), ("11", "row 11")])
        try:
            cursor.execute("INSERT INTO drv (id) VALUES (1)")
            raise AssertionError("a duplicate key was taken")
        except psycopg.errors.UniqueViolation:
            pass
        cursor.executemany("INSERT INTO drv (id, t) VALUES (%s, %s)", [(n, "many") for n in range(2000, 2100)])
        cursor.execute("SELECT count(*), min(id), max(id) FROM drv")
        check(cursor.fetchone(), (1102, 1, 2099))
        cursor.execute("DROP TABLE drv")


async def asyncpg(port):
    import asyncpg

    connection = await asyncpg.connect(host="127.0.0.1", port=port, user="postgres", database="toroid")
    await connection.execute("DROP TABLE IF EXISTS drv")
    await connection.execute(f"CREATE TABLE drv ({TABLE})")
    marks = ", ".join(f"${n + 1}" for n in range(len(ROW)))
    await connection.execute(f"INSERT INTO drv VALUES ({marks})", *ROW)
    check(tuple(await connection.fetchrow("SELECT * FROM drv WHERE id = $1", 1)), ROW)
    await connection.executemany("INSERT INTO drv (id, t) VALUES ($1, $2)", [(n, "many") for n in range(10, 110)])
    check(await connection.fetchval("SELECT count(*) FROM drv"), 101)
    check([r["id"] for r in await connection.fetch("SELECT id FROM drv WHERE id > $1 ORDER BY id LIMIT 3", 10)], [11, 12, 13])
    await connection.copy_records_to_table("drv", records=[(n, "copied") for n in range(200, 300)], columns=["id", "t"])
    check(await connection.fetchval("SELECT count(*) FROM drv WHERE t = 'copied'"), 100)
    try:
        await connection.execute("INSERT INTO drv (id) VALUES (1)")
        raise AssertionError("a duplicate key was taken")
    except asyncpg.exceptions.UniqueViolationError:
        pass
    await connection.execute("DROP TABLE drv")
    await connection.close()


def pg8000(port):
    import pg8000.native

    connection = pg8000.native.Connection("postgres", host="127.0.0.1", port=port, database="toroid")
    connection.run("DROP TABLE IF EXISTS drv")
    connection.run(f"CREATE TABLE drv ({TABLE})")
    names = "id t n f o d ts u b".split()
    connection.run("INSERT INTO drv VALUES (" + ", ".join(f":{name}" for name in names) + ")", **dict(zip(names, ROW)))
    check(tuple(connection.run("SELECT * FROM drv WHERE id = :id", id=1)[0]), ROW)
    try:
        connection.run("SELECT nope FROM drv")
        raise AssertionError("an unknown column was found")
    except pg8000.native.DatabaseError as error:
        check(error.args[0]["C"], "42703")
    check(connection.run("SELECT count(*) FROM drv"), [[1]])
    connection.run("DROP TABLE drv")
    connection.close()


if __name__ == "__main__":
    name, port = sys.argv[1], int(sys.argv[2])
    driver = {"psycopg": psycopg, "asyncpg": asyncpg, "pg8000": pg8000}[name]
    result = driver(port)
    if result is not None:
        asyncio.run(result)
    print(f"{name}: ok")
