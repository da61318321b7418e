//! A proxy's life as a process: it says when it is ready, and serves until it is told to end.

use crate::process;
use crate::stop::Stop;
use std::io;
use std::time::Duration;
use tokio::runtime::Runtime;
use toroid_proxy::proxy::Proxy;

/// How often the main thread looks whether the proxy has started.
const LOOK: Duration = Duration::from_millis(2);

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
        process::print(&format!("ready: postgresql://{}/toroid\n", proxy.address()))?;
        runtime.block_on(stop.wait());
        proxy.stop();
    }
    Ok(())
}
