//! What this machine has.

pub const MIB: usize = 1 << 20;
/// Taken where the system does not say how much memory there is.
const UNKNOWN_MEMORY: usize = 4096 * MIB;

/// Processors that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Bytes of memory that this machine has, or that the process may use.
pub fn memory() -> usize {
    let total = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        line.split_whitespace().nth(1)?.parse::<usize>().ok()
    });
    let total = total.map_or(UNKNOWN_MEMORY, |kib| kib * 1024);
    let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    limit.map_or(total, |limit: usize| limit.min(total))
}

/// Raises the number of files and connections that the process may have open to what it may raise it to; returns that, if the system tells.
pub fn open_files() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a value of the type that the call fills in.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return None;
    }
    let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
    // SAFETY: the pointer is to a value of the type that the call reads.
    let done = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0;
    Some(if done { raised.rlim_cur } else { limit.rlim_cur })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_files_may_be_open_as_the_system_allows() {
        let raised = open_files().unwrap();
        assert_eq!(open_files(), Some(raised));
        let text = std::fs::read_to_string("/proc/self/limits").unwrap();
        let line = text.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let mut fields = line.split_whitespace().skip(3);
        let soft = fields.next().unwrap();
        assert_eq!(Some(soft), fields.next());
        assert!(soft == "unlimited" || soft == raised.to_string());
    }
}
