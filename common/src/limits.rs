//! Every bound of the system in one place, with the relations between them checked at compile time.

/// Rows in one column chunk: the unit of copy-on-write and of an Arrow batch.
pub const CHUNK_ROWS: usize = 4096;
/// Most columns of a table (PostgreSQL allows 1,600).
pub const MAX_COLUMNS: usize = 1_600;
/// Most columns of an index or a distribution key (PostgreSQL: `INDEX_MAX_KEYS`).
pub const MAX_KEY_COLUMNS: usize = 32;
/// Most bytes of an identifier; longer ones are cut with a notice (PostgreSQL: `NAMEDATALEN - 1`).
pub const MAX_IDENTIFIER_BYTES: usize = 63;
/// Most parameters of a statement (the protocol counts them in 16 bits).
pub const MAX_PARAMETERS: usize = 65_535;
/// Most bytes of one memcomparable key.
pub const MAX_KEY_BYTES: usize = 2_704;
/// Most bytes of one value.
pub const MAX_VALUE_BYTES: usize = 256 << 20;
/// Most bytes of texts or byte strings in one column of a batch.
pub const MAX_BATCH_COLUMN_BYTES: usize = 512 << 20;
/// Most bytes of one frame between proxies and storage nodes.
pub const MAX_FRAME_BYTES: usize = 320 << 20;
/// Most bytes of changes and answer in one log entry: an entry is sent whole, in one frame with a few megabytes of others.
pub const MAX_ENTRY_BYTES: usize = MAX_FRAME_BYTES - (16 << 20);
/// Most bytes of one message from a PostgreSQL client.
pub const MAX_CLIENT_MESSAGE_BYTES: usize = 256 << 20;
/// How long a node's lease runs, in microseconds from when its renewal was sent.
pub const LEASE_MICROS: u64 = 400_000;
/// Between processes of a cluster: after so many seconds without a byte a side asks whether the other's machine is still there, then every
/// [`PEER_PROBE_SECONDS`] again, and gives it up after [`PEER_PROBES`] questions without an answer.
pub const PEER_IDLE_SECONDS: u64 = 5;
pub const PEER_PROBE_SECONDS: u64 = 2;
pub const PEER_PROBES: u32 = 3;
/// So long bytes may be on their way to another process of the cluster before its machine has taken them.
pub const PEER_TAKING_SECONDS: u64 = 10;
/// Rows' bytes that a sender gathers before it sends one frame of a bulk write.
pub const BULK_FRAME_BYTES: usize = 256 << 10;
/// Plans that one proxy may have registered on one connection to a worker: the proxy forgets the oldest, the worker closes on more.
pub const MAX_PLANS_PER_CONNECTION: usize = 16_384;
/// Most partitions of a cluster.
pub const MAX_PARTITIONS: u16 = 4_096;
/// Partitions of a cluster unless told otherwise.
pub const DEFAULT_PARTITIONS: u16 = 64;
/// Most copies of a partition.
pub const MAX_COPIES: usize = 8;
/// Deepest nesting of an expression or a query that is accepted.
pub const MAX_EXPRESSION_DEPTH: usize = 1_000;
/// Deepest nesting of values in what proxies and nodes send each other: several levels (an enum, its list, a tuple) for each of an expression's, whose depth
/// the evaluator checks again.
pub const MAX_ENCODED_DEPTH: usize = 12 * MAX_EXPRESSION_DEPTH;
/// Stack of threads that decode, parse, bind, plan or evaluate what clients send: room for [`MAX_EXPRESSION_DEPTH`] also without optimization. Address space;
/// memory is taken only as deep as a statement goes.
pub const STATEMENT_STACK_BYTES: usize = 256 << 20;
/// Most digits of a numeric before and after its decimal point (PostgreSQL, "Numeric Types").
pub const MAX_NUMERIC_INTEGRAL_DIGITS: usize = 131_072;
/// Largest scale of a numeric.
pub const MAX_NUMERIC_SCALE: usize = 16_383;

const _: () = assert!(MAX_VALUE_BYTES < MAX_FRAME_BYTES);
const _: () = assert!(MAX_VALUE_BYTES < MAX_ENTRY_BYTES);
const _: () = assert!(MAX_VALUE_BYTES <= MAX_BATCH_COLUMN_BYTES);
const _: () = assert!(MAX_CLIENT_MESSAGE_BYTES < MAX_FRAME_BYTES);
const _: () = assert!(BULK_FRAME_BYTES < MAX_FRAME_BYTES);
const _: () = assert!(MAX_PARTITIONS.is_power_of_two() && DEFAULT_PARTITIONS.is_power_of_two());
const _: () = assert!(CHUNK_ROWS.is_power_of_two());
