//! The functions that read and write each type, as pg_type refers to them and pg_proc lists them; clients tell arrays by theirs.

use super::{Definition, Row};
use toroid_common::datum::Datum;

/// Oids and names of a type's input, output, receive and send functions; `typalign`, `typstorage`.
pub(super) struct Functions {
    pub(super) of: &'static str,
    pub(super) all: [(u32, &'static str); 4],
    pub(super) align: &'static str,
    pub(super) storage: &'static str,
}

/// All arrays have the same.
pub(super) const ARRAY: [(u32, &str); 4] =
    [(750, "array_in"), (751, "array_out"), (2400, "array_recv"), (2401, "array_send")];

const fn of(of: &'static str, all: [(u32, &'static str); 4], align: &'static str, storage: &'static str) -> Functions {
    Functions { of, all, align, storage }
}

const TYPES: &[Functions] = &[
    of("bool", [(1242, "boolin"), (1243, "boolout"), (2436, "boolrecv"), (2437, "boolsend")], "c", "p"),
    of("bytea", [(1244, "byteain"), (31, "byteaout"), (2412, "bytearecv"), (2413, "byteasend")], "i", "x"),
    of("char", [(1245, "charin"), (33, "charout"), (2434, "charrecv"), (2435, "charsend")], "c", "p"),
    of("name", [(34, "namein"), (35, "nameout"), (2422, "namerecv"), (2423, "namesend")], "c", "p"),
    of("int8", [(460, "int8in"), (461, "int8out"), (2408, "int8recv"), (2409, "int8send")], "d", "p"),
    of("int2", [(38, "int2in"), (39, "int2out"), (2404, "int2recv"), (2405, "int2send")], "s", "p"),
    of("int4", [(42, "int4in"), (43, "int4out"), (2406, "int4recv"), (2407, "int4send")], "i", "p"),
    of("text", [(46, "textin"), (47, "textout"), (2414, "textrecv"), (2415, "textsend")], "i", "x"),
    of("oid", [(1798, "oidin"), (1799, "oidout"), (2418, "oidrecv"), (2419, "oidsend")], "i", "p"),
    of("json", [(321, "json_in"), (322, "json_out"), (323, "json_recv"), (324, "json_send")], "i", "x"),
    of("float4", [(200, "float4in"), (201, "float4out"), (2424, "float4recv"), (2425, "float4send")], "i", "p"),
    of("float8", [(214, "float8in"), (215, "float8out"), (2426, "float8recv"), (2427, "float8send")], "d", "p"),
    of("unknown", [(109, "unknownin"), (110, "unknownout"), (2416, "unknownrecv"), (2417, "unknownsend")], "c", "p"),
    of("bpchar", [(1044, "bpcharin"), (1045, "bpcharout"), (2430, "bpcharrecv"), (2431, "bpcharsend")], "i", "x"),
    of("varchar", [(1046, "varcharin"), (1047, "varcharout"), (2432, "varcharrecv"), (2433, "varcharsend")], "i", "x"),
    of("date", [(1084, "date_in"), (1085, "date_out"), (2468, "date_recv"), (2469, "date_send")], "i", "p"),
    of("time", [(1143, "time_in"), (1144, "time_out"), (2470, "time_recv"), (2471, "time_send")], "d", "p"),
    of(
        "timestamp",
        [(1312, "timestamp_in"), (1313, "timestamp_out"), (2474, "timestamp_recv"), (2475, "timestamp_send")],
        "d",
        "p",
    ),
    of(
        "timestamptz",
        [(1150, "timestamptz_in"), (1151, "timestamptz_out"), (2476, "timestamptz_recv"), (2477, "timestamptz_send")],
        "d",
        "p",
    ),
    of(
        "interval",
        [(1160, "interval_in"), (1161, "interval_out"), (2478, "interval_recv"), (2479, "interval_send")],
        "d",
        "p",
    ),
    of(
        "numeric",
        [(1701, "numeric_in"), (1702, "numeric_out"), (2460, "numeric_recv"), (2461, "numeric_send")],
        "i",
        "m",
    ),
    of(
        "regclass",
        [(2218, "regclassin"), (2219, "regclassout"), (2452, "regclassrecv"), (2453, "regclasssend")],
        "i",
        "p",
    ),
    of("regtype", [(2220, "regtypein"), (2221, "regtypeout"), (2454, "regtyperecv"), (2455, "regtypesend")], "i", "p"),
    of("void", [(2298, "void_in"), (2299, "void_out"), (3120, "void_recv"), (3121, "void_send")], "i", "p"),
    of("uuid", [(2952, "uuid_in"), (2953, "uuid_out"), (2961, "uuid_recv"), (2962, "uuid_send")], "c", "p"),
    of("jsonb", [(3806, "jsonb_in"), (3804, "jsonb_out"), (3805, "jsonb_recv"), (3803, "jsonb_send")], "i", "x"),
];

/// Those of the type with this `typname`.
pub(super) fn by_type(name: &str) -> Option<&'static Functions> {
    TYPES.iter().find(|functions| functions.of == name)
}

/// All of them, as regproc knows them.
pub fn functions() -> impl Iterator<Item = (u32, &'static str)> {
    TYPES.iter().flat_map(|functions| functions.all).chain(ARRAY)
}

/// The rows of pg_proc.
pub(super) fn rows(table: &Definition, namespace: u32, owner: u32) -> Vec<Vec<Datum>> {
    functions()
        .map(|(oid, name)| {
            Row::catalog(table)
                .set("oid", Datum::Oid(oid))
                .set("proname", name)
                .set("pronamespace", Datum::Oid(namespace))
                .set("proowner", Datum::Oid(owner))
                .set("prokind", "f")
                .set("proisstrict", Datum::Bool(true))
                .set("provolatile", "i")
                .set("proparallel", "s")
                .set("prosrc", name)
                .done()
        })
        .collect()
}
