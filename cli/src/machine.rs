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
