//! The command's contract: versions, help, a port already taken, signals. Also makes `cargo test` build the binary for all black-box tests.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

fn toroid(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_toroid")).args(arguments).stdin(Stdio::null()).output().expect("the command runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn version_and_help_are_told() {
    let version = toroid(&["--version"]);
    assert!(version.status.success());
    assert_eq!(text(&version.stdout).trim(), format!("toroid {}", env!("CARGO_PKG_VERSION")));
    let commands = ["dev", "storage-node", "proxy", "status", "copies", "recover"];
    let one = commands.iter().map(|command| vec![*command, "--help"]);
    let two = ["drain", "remove"].iter().map(|command| vec!["node", *command, "--help"]);
    for arguments in std::iter::once(vec!["--help"]).chain(one).chain(two) {
        let arguments = &arguments[..];
        let help = toroid(arguments);
        assert!(help.status.success(), "{arguments:?}");
        let help = text(&help.stdout);
        assert!(help.contains("Examples"), "{arguments:?}: {help}");
    }
    for flag in ["--listen", "--nodes", "--workers", "--copies", "--partitions", "--metrics"] {
        assert!(text(&toroid(&["dev", "--help"]).stdout).contains(flag), "{flag}");
    }
}

#[test]
fn a_taken_port_is_one_line_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its number").to_string();
    for flag in ["--listen", "--metrics"] {
        let other = if flag == "--listen" { ["--metrics", "off"] } else { ["--listen", "127.0.0.1:0"] };
        let output = toroid(&["dev", flag, &address, other[0], other[1]]);
        assert!(!output.status.success(), "{flag}");
        let error = text(&output.stderr);
        assert!(error.contains(&address) && error.contains(flag), "{flag}: {error}");
        assert_eq!(error.trim().lines().count(), 1, "{flag}: {error}");
    }
}

#[test]
fn bad_arguments_are_told() {
    for arguments in [
        &["dev", "--copies", "4", "--nodes", "3"][..],
        &["dev", "--partitions", "3"],
        &["dev", "--nodes", "0"],
        &["dev", "--min-copies", "3"],
        &["dev", "--memory", "0"],
        &["dev", "--proxy-threads", "0"],
        &["proxy", "--join", "127.0.0.1:1", "--listen", "127.0.0.1:0", "--threads", "0"],
        &["proxy", "--join", "127.0.0.1:1", "--listen", "127.0.0.1:0", "--merge-memory", "0"],
        &["dev", "--min-copies", "0"],
        &["copies", "2", "--min-copies", "3", "--join", "127.0.0.1:1"],
        &["nonsense"],
    ] {
        let output = toroid(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn signals_end_it_cleanly() {
    for signal in ["TERM", "INT"] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_toroid"))
            .args(["dev", "--listen", "127.0.0.1:0", "--metrics", "off", "--partitions", "4"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the command starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let ready = lines.next().expect("a first line").expect("a line");
        assert!(ready.starts_with("ready: postgresql://127.0.0.1:") && ready.ends_with("/toroid"), "{ready}");
        let sent =
            Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status().expect("kill runs");
        assert!(sent.success());
        let status = child.wait().expect("it ends");
        assert!(status.success(), "SIG{signal}: {status:?}");
    }
}

#[test]
fn settings_that_make_no_sense_are_told_in_one_line() {
    let folder = std::env::temp_dir().join(format!("toroid-settings-{}", std::process::id()));
    let data = folder.display().to_string();
    let node = |flags: &[&'static str]| {
        let mut arguments = vec!["storage-node", "--data-dir", &data];
        arguments.extend(flags);
        let output = toroid(&arguments);
        assert!(!output.status.success(), "{flags:?}");
        text(&output.stderr)
    };
    let some = "127.0.0.1:0";
    for (flags, told) in [
        (&[][..], "--listen is missing"),
        (&["--listen", some], "--join is missing"),
        (&["--listen", "nowhere", "--join", some], "--listen nowhere"),
        (&["--listen", "0.0.0.0:0", "--join", some], "--advertise"),
        (&["--listen", some, "--join", "127.0.0.1"], "--join 127.0.0.1"),
        (&["--listen", some, "--join", some, "--copies", "2"], "--copies"),
        (&["--listen", some, "--bootstrap", "--partitions", "48"], "--partitions 48"),
        (&["--listen", some, "--bootstrap", "--copies", "9"], "--copies 9"),
        (&["--listen", some, "--bootstrap", "--copies", "2", "--min-copies", "3"], "--min-copies 3"),
        (&["--listen", some, "--join", some, "--min-copies", "2"], "--min-copies"),
        (&["--listen", some, "--join", some, "--workers", "0"], "--workers 0"),
        (&["--listen", some, "--join", some, "--worker-ports", "65535", "--workers", "2"], "--worker-ports"),
        (&["--listen", some, "--join", some, "--cluster-key-file", "/nowhere"], "--cluster-key-file /nowhere"),
        (&["--config", "/nowhere"], "--config /nowhere"),
    ] {
        let error = node(flags);
        assert!(error.starts_with("toroid: ") && error.lines().count() == 1, "{flags:?}: {error}");
        assert!(error.contains(told), "{flags:?}: {error}");
    }
    assert!(text(&toroid(&["recover", "--join", some]).stderr).contains("--accept-loss"));
    assert!(text(&toroid(&["proxy"]).stderr).contains("--join is missing"));
    let none = text(&toroid(&["proxy", "--join", some, "--max-connections", "0"]).stderr);
    assert!(none.contains("--max-connections 0"), "{none}");
}
