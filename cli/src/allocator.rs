//! The allocator of the process, tuned to give memory back.

use std::ffi::{c_int, c_long};
use std::thread::Builder;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` in `mi_option_e` of mimalloc 3: after how many milliseconds freed memory may go back to the system.
const PURGE_DELAY: c_int = 15;
/// Long enough that what a thread frees and takes again goes on being its own: given back at once it is zeroed anew at each turn, page by page.
const DELAY_MS: c_long = 500;
/// How often what is free goes back.
const ROUND: Duration = Duration::from_millis(500);
const STACK_BYTES: usize = 64 << 10;

/// Freed memory goes back to the system soon, also where the thread that freed it does not allocate any more: a worker that dropped a table may be idle then.
///
/// Measured with `pgbench -i -s 10`, whose tables move when they get their keys: 81 to 99 instead of 146 resident bytes per row and copy, together with the feature
/// `no_thp` (huge pages hold on to what is free inside them).
pub fn give_back() -> std::io::Result<()> {
    // SAFETY: the option is read by later purges only, and no other thread runs yet.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, DELAY_MS) };
    let rounds = || {
        loop {
            std::thread::sleep(ROUND);
            // SAFETY: any thread may call it; what others have freed is shared by all.
            unsafe { libmimalloc_sys::mi_collect(false) };
        }
    };
    Builder::new().name("memory".into()).stack_size(STACK_BYTES).spawn(rounds).map(drop)
}
