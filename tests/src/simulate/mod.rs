//! A whole cluster in one thread, on virtual clocks and a virtual network, from one seed: what real processes rarely show.
//!
//! Real: the engine's workers, the wire format, the proxy's table of open requests with its routing and retry decisions, the coordinator of
//! transactions, and the metadata group's pure modules with the cut service and the deadlock detector. Virtual: everything they stand on.
//!
//! - `clock`: true time, the agenda of what is to happen, and nodes' own clocks
//! - `network`: connections between hosts that may be split, slow or gone
//! - `disk`: a journal of which a crash leaves what was synced, and any part of the rest
//! - `workload`: what clients do, and the table and plans that they do it on
//! - `faults`: what goes wrong, and when
//! - `errands`: what operators ask for meanwhile
//! - `scenario`: everything that a seed decides before a run
//! - `sabotage`: guards that are turned off from outside, to show that the checks see it
//! - `trace`: what happened, line by line
//! - `history`: what clients saw
//! - `context`: what all parts of a run reach for
//! - `observe`: what must hold at every moment, judged from outside
//! - `node`: a storage node's process: its workers in their loops (`seat`), what runs beside them (`pool`), and its control task
//! - `proxy`: a proxy's process: its sessions' statements, scans and transactions over virtual connections
//! - `group`: the metadata group's members, which agree by a small Raft over disks
//! - `check`: histories against a register or against what isolation levels allow, replicas against each other
//! - `world`: one run
//! - `shrink`: a failing scenario made as small as it still fails
//!
//! Where each invariant of the design (section 6) is asserted:
//!
//! | invariant | where |
//! | --- | --- |
//! | 1 entries of the own epoch, in order, without gaps | the engine's own `Report`s (`node::seat`), entries on the wire (`observe::entries`), epochs never go back (`check::state`) |
//! | 2 acknowledged by all; the sets are nested | `check::state`, every few turns; lost writes in `check::linear` |
//! | 3 a backup applies what is acknowledged | `check::state` (a follower's acknowledged is what it has applied); `check::agree` at the end |
//! | 4 a new primary was a backup, and serves once its log is acknowledged | `observe::mapped` (succession), `check::state` (nested while it serves) |
//! | 5 epochs only by the group, by compare-and-set | `observe::mapped`: one epoch after the other, replicas change with it alone; `group::judge`: one log |
//! | 6 answers only under lease, a partition given away only after grace | `observe::answers`, `check::state` (at most one may answer), reads in `check::linear` |
//! | 7 what was not acknowledged is discarded or cut | entries of equal place and epoch are equal (`observe::entries`), `check::agree` |
//! | 8 every process is a new incarnation | `node` (one process, one incarnation), epochs per life in `check::state` |
//! | 9 prepared transactions keep their locks | writes between prepare and outcome in `check::isolation` |
//! | 10 a catalog change is an entry of every log | `check::agree` compares catalogs; statements of all versions in `check::linear`; by the menu `schema` what is below |
//!
//! And of section 7, all in `check::isolation` over what clients saw:
//!
//! | rule | how it would be seen |
//! | --- | --- |
//! | transactions are atomic, whatever dies | a value that replaces what another transaction that committed had replaced; half of one seen |
//! | strict serializability of SERIALIZABLE, of statements by themselves and of scans | a circle among what was seen, what replaced it, and true time |
//! | REPEATABLE READ reads one cut, and the first updater wins | the same with two instants for each transaction |
//! | READ COMMITTED: G0, G1 | the same with an instant for each statement; values of aborted transactions, values between |
//! | rows that were locked stay as they are | a value that was replaced before the end of who had locked it |
//! | a dead proxy is fenced | answers and outcomes that are kept for it at the end (`world::stages`) |
//! | deadlocks are broken, locks let go, outcomes forgotten | nothing open, locked, prepared, waiting or remembered at the end (`world::stages`) |
//!
//! Of what sessions do beside tables, by the menu `sessions`:
//!
//! | rule | how it would be seen |
//! | --- | --- |
//! | an advisory lock keeps others away as long as its client has it, whatever dies; that of a transaction, if it is committed | two clients have it (`check::advisory`) |
//! | it is taken and given back once, however often that is asked for | a refusal where nobody stands in the way, an unlock that tells of another count |
//! | a notification of a committed transaction is heard once by who listens, in the order of commitment; none of others; a gap is told | numbers that go back, payloads that nobody committed, one that is lacking in the end (`check::notices`); the rows of a transaction that somebody heard of must be there (`check::isolation`) |
//! | nothing of a session outlives it, or its proxy | advisory locks that are held at the end (`world::stages`) |
//!
//! Of a table whose columns and indexes come and go, by the menu `schema`:
//!
//! | rule | how it would be seen |
//! | --- | --- |
//! | rows, and write sets that were begun before a change, fit the columns after it | an added column that has neither its default nor what was written with the counter: in answers, now and then in all replicas (`workload::table`) |
//! | an index has every row, whoever wrote it while it was being built | rows that it does not find, entries too many (`workload::table`); statements that go through it miss their row |
//! | a change is made once, or not at all, as its client is told, whoever leads the group | what it makes is there not once, or is there after all (`check::schema`) |
//! | a statement that is planned again has not happened before | as one that happens twice: `check::linear`, `check::isolation` |
//!
//! A partition is given up only when the processes of all its replicas have ended, and begins again only by an operator's word (`observe::mapped`). At the
//! end everything must be answered, every partition have its copies where the ring may have them, all members of the group vote, and nothing be left in
//! gates, pools or tables of open requests (`world::stages`).
//!
//! What can go wrong, and by which fault:
//!
//! | what | by |
//! | --- | --- |
//! | bytes dropped | `Reset` (the tail of a connection), messages of the group one by one |
//! | delayed | `SlowLink`, spikes on every connection |
//! | doubled | requests that are sent again after `Reset`, `Split` and `Crash`; messages of the group one by one |
//! | reordered between connections | each connection has delays of its own |
//! | split, also one way | `Split`, `Isolate` |
//! | crash with the memory lost, restart | `Crash`, `Leave`; all replicas of a partition at once: `Disaster` |
//! | crash with the disk kept, or lost | `Crash` of a member of the group, `LoseDisk` |
//! | pauses longer than the lease | `Pause` |
//! | clocks within the bound, and beyond it | `Drift`, `LawlessClock` |
//! | a proxy dies at any point of a transaction, or comes back after its fence | `Crash`, `Pause` and `Isolate` of proxies |
//! | a coordinator dies or stands still between two steps of a commitment | `Halfway` |
//! | slow node, slow disk | `SlowNode`, `SlowDisk` |

pub mod clock;
pub mod network;
pub mod disk;
pub mod workload;
pub mod faults;
pub mod errands;
pub mod scenario;
pub mod sabotage;
pub mod trace;
pub mod history;
pub mod context;
pub mod observe;
pub mod node;
pub mod proxy;
pub mod group;
pub mod check;
pub mod world;
pub mod shrink;
