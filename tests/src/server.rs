//! A `toroid dev` of one's own to test against, ended when it goes out of scope.

use crate::client::{Address, Client};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// How long a start or an end may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running cluster in one process.
pub struct Toroid {
    child: Child,
    log: PathBuf,
    pub address: Address,
}

/// The command's binary: where `TOROID_BIN` says, else beside this program's or its folder, where cargo builds it.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("TOROID_BIN") {
        return path.into();
    }
    let own = std::env::current_exe().expect("a test knows its own path");
    // Tests are built in deps/, programs beside the command.
    let beside = own.ancestors().skip(1).take(2).map(|folder| folder.join("toroid")).find(|path| path.is_file());
    beside.unwrap_or_else(|| panic!("toroid is not built beside {}: run cargo build first", own.display()))
}

impl Toroid {
    /// Starts `toroid dev` on free ports with these further arguments and waits until it is ready.
    pub fn start(arguments: &[&str]) -> Toroid {
        let log = log_file();
        let mut command = Command::new(binary());
        command.args(["dev", "--listen", "127.0.0.1:0"]);
        if !arguments.contains(&"--metrics") {
            command.args(["--metrics", "off"]);
        }
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.stderr(File::create(&log).expect("a log file")).spawn().expect("the command starts");
        let lines = lines_of(child.stdout.take().expect("its output is piped"));
        let url = loop {
            match lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    if let Some(url) = line.strip_prefix("ready: ") {
                        break url.to_owned();
                    }
                }
                Err(error) => {
                    let end = child.kill();
                    panic!(
                        "toroid dev is not ready ({error}, {end:?}): {}",
                        fs::read_to_string(&log).unwrap_or_default()
                    );
                }
            }
        };
        Toroid { child, log, address: Address::parse(&url).expect("the ready line names an address") }
    }

    /// A session on it.
    pub fn connect(&self) -> Client {
        Client::connect(&self.address).expect("a session")
    }

    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("its state can be asked").is_none()
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a signal by name and waits for the end; gives the exit code, or none when the signal itself ended it.
    pub fn end(mut self, signal: &str) -> Option<i32> {
        let sent = Command::new("kill").args([format!("-{signal}"), self.process().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "the signal was not sent");
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().expect("its state can be asked") {
                return status.code();
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("still running after SIG{signal}: {}", self.log());
    }
}

impl Drop for Toroid {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("toroid dev logged:\n{}", self.log());
        }
        let _ = fs::remove_file(&self.log);
    }
}

fn log_file() -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("toroid-test-{}-{number}.log", std::process::id()))
}

/// The lines of the child's output; reading goes on to its end, so that the child never waits for a reader.
fn lines_of(output: ChildStdout) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || -> io::Result<()> {
        for line in BufReader::new(output).lines() {
            // After the ready line nobody listens any more.
            let _ = sender.send(line?);
        }
        Ok(())
    });
    receiver
}
