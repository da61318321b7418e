//! A proxy's life as a process: it says when it is ready, and serves until it is told to end.

use crate::process;
use crate::stop::Stop;
use std::io;
use std::time::Duration;
use tokio::runtime::Runtime;
use toroid_proxy::proxy::Proxy;

/// How often the main thread looks whether the proxy has started.
const LOOK: Duration = Duration::from_millis(2);
/// How often it looks whether lost partitions were made anew.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Starts a proxy on a thread of its own, since that waits for the cluster, which may take for ever; a signal ends the waiting, too.
pub fn until_stopped(
    runtime: &Runtime,
    stop: &mut Stop,
    start: impl FnOnce() -> io::Result<Proxy> + Send + 'static,
) -> Result<(), String> {
    let starting = std::thread::spawn(start);
    let proxy = runtime.block_on(async {
        while !starting.is_finished() {
            tokio::select! {
                () = stop.wait() => return Ok(None),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        match starting.join() {
            Ok(Ok(proxy)) => Ok(Some(proxy)),
            Ok(Err(error)) => Err(format!("cannot start the proxy: {error}")),
            Err(_) => Err("the proxy panicked at its start".to_owned()),
        }
    })?;
    if let Some(proxy) = proxy {
        if runtime.block_on(until_whole(&proxy, stop)) {
            process::print(&format!("ready: postgresql://{}/toroid\n", proxy.address()))?;
            runtime.block_on(stop.wait());
        }
        proxy.stop();
    }
    Ok(())
}

/// Until no partition is lost; false when the process is to end. What can be served is served meanwhile.
async fn until_whole(proxy: &Proxy, stop: &mut Stop) -> bool {
    let mut said = Vec::new();
    loop {
        let lost = proxy.lost();
        if lost.is_empty() {
            return true;
        }
        if said != lost {
            let partitions = lost.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let address = proxy.address();
            tracing::error!(%address, partitions, "not ready: no replica is left of these partitions (see toroid recover)");
            said = lost;
        }
        tokio::select! {
            () = stop.wait() => return false,
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
}
