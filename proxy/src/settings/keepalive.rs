//! How a session's settings want it noticed that the client's machine is gone.

use super::{Settings, number};

/// Of what is 0 the system's own measure holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keepalive {
    /// `tcp_keepalives_idle`, in seconds.
    pub idle: u64,
    /// `tcp_keepalives_interval`, in seconds.
    pub interval: u64,
    /// `tcp_keepalives_count`.
    pub count: u32,
    /// `tcp_user_timeout`, in milliseconds.
    pub user_timeout: u64,
}

impl Keepalive {
    pub(super) fn of(settings: &Settings) -> Keepalive {
        let milliseconds = |name: &str| settings.get(name).map_or(0, number::milliseconds);
        Keepalive {
            idle: milliseconds("tcp_keepalives_idle") / 1_000,
            interval: milliseconds("tcp_keepalives_interval") / 1_000,
            count: settings.get("tcp_keepalives_count").and_then(|count| count.parse().ok()).unwrap_or(0),
            user_timeout: milliseconds("tcp_user_timeout"),
        }
    }
}
