//! How the system's scheduler treats threads: those that answer requests by key come before those that scan and merge.
//!
//! All of it is a wish (sched_setattr(2)). Where the system does not grant it, or whoever started the process has chosen a policy, threads run as they are.

use libc::sched_attr;

/// How far threads that scan and merge stand back, see nice(2): their work is long, and waits more easily.
const BACKGROUND_NICENESS: i32 = 10;
/// The farthest that a thread can stand back.
const MOST_NICENESS: i32 = 19;
/// Processor time that a thread which answers requests asks for at once: from Linux 6.12 on it may interrupt who asks for longer.
const PROMPT_SLICE_NANOS: u64 = 100_000;
/// As much as others.
const DEFAULT_SLICE: u64 = 0;

/// For the calling thread, which answers requests: what it does at once is short, and clients wait for it.
pub fn prompt() {
    change(|attributes| attributes.sched_runtime = PROMPT_SLICE_NANOS);
}

/// For the calling thread, which scans or merges. Unless its work is said to be of the kind that waits it interrupts whoever wakes it, also where another
/// processor idles: mostly the thread that answers requests.
pub fn background() {
    change(|attributes| {
        attributes.sched_policy = libc::SCHED_BATCH as u32;
        attributes.sched_nice = (attributes.sched_nice + BACKGROUND_NICENESS).min(MOST_NICENESS);
        attributes.sched_runtime = DEFAULT_SLICE;
    });
}

fn change(alter: impl FnOnce(&mut sched_attr)) {
    let Some(mut attributes) = attributes().filter(|now| now.sched_policy == libc::SCHED_OTHER as u32) else { return };
    alter(&mut attributes);
    // SAFETY: the pointer is to a value of the type that the call reads.
    unsafe { libc::syscall(libc::SYS_sched_setattr, CALLING_THREAD, &raw const attributes, NO_FLAGS) };
}

/// How the calling thread is treated, if the system tells.
fn attributes() -> Option<sched_attr> {
    let size = size_of::<sched_attr>() as u32;
    let mut attributes = sched_attr {
        size,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the pointer is to a value of the type, and of the size, that the call fills in.
    let done = unsafe { libc::syscall(libc::SYS_sched_getattr, CALLING_THREAD, &raw mut attributes, size, NO_FLAGS) };
    (done == 0).then_some(attributes)
}

const CALLING_THREAD: libc::pid_t = 0;
const NO_FLAGS: libc::c_uint = 0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_scan_stand_back_and_others_ask_for_little() {
        let seen = |role: fn()| {
            let thread = std::thread::spawn(move || {
                let before = attributes();
                role();
                before.zip(attributes())
            });
            thread.join().unwrap()
        };
        // Whoever runs the tests may have chosen a policy for them, or forbidden the calls.
        let Some((before, scanning)) = seen(background).filter(|(now, _)| now.sched_policy == 0) else { return };
        assert_eq!(scanning.sched_policy, libc::SCHED_BATCH as u32);
        assert_eq!(scanning.sched_nice, (before.sched_nice + BACKGROUND_NICENESS).min(MOST_NICENESS));
        let (before, prompt) = seen(prompt).unwrap();
        assert_eq!((prompt.sched_policy, prompt.sched_nice), (before.sched_policy, before.sched_nice));
        // Older kernels know no slices.
        assert!([0, PROMPT_SLICE_NANOS].contains(&prompt.sched_runtime), "{}", prompt.sched_runtime);
        // Nobody takes a chosen policy away.
        let kept = std::thread::spawn(|| {
            background();
            let chosen = attributes();
            super::prompt();
            chosen.zip(attributes())
        });
        let (chosen, after) = kept.join().unwrap().unwrap();
        assert_eq!((chosen.sched_policy, chosen.sched_runtime), (after.sched_policy, after.sched_runtime));
    }
}
