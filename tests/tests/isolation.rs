//! What several sessions see of each other at every isolation level, and who waits or fails: scenes with what was recorded of them.
//!
//! `NAME.scene` is the scene, `NAME.out` what Toroid does, `NAME.postgres` what PostgreSQL does (checked by tests/external/run). They differ where Toroid
//! is serializable by locks: it waits, or finds a deadlock, where PostgreSQL lets go on and fails at COMMIT.

use std::fs;
use std::path::{Path, PathBuf};
use toroid_tests::isolation::play_all;
use toroid_tests::server::Toroid;

#[test]
fn scenes_go_as_recorded() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/isolation");
    let mut scenes: Vec<PathBuf> = fs::read_dir(&directory)
        .expect("scenes")
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "scene"))
        .collect();
    scenes.sort();
    assert!(scenes.len() >= 15, "only {} scenes", scenes.len());
    // One thread, so that sessions begin in one order of transactions everywhere: a deadlock's victim is the youngest.
    let toroid = Toroid::start(&["--proxy-threads", "1"]);
    let mut differ = Vec::new();
    for path in scenes {
        let text = fs::read_to_string(&path).expect("a scene");
        let recorded = fs::read_to_string(path.with_extension("out")).unwrap_or_default();
        let play = || play_all(&toroid.address, &text).unwrap_or_else(|error| error);
        let played = play();
        if played != recorded {
            // A machine that stood still for a moment makes a statement look as if it waited.
            eprintln!("{} went another way:\n{played}", path.display());
            let again = play();
            if again != recorded {
                differ.push(format!("{}:\n{again}", path.display()));
            }
        }
    }
    assert!(differ.is_empty(), "{} scenes go another way:\n{}", differ.len(), differ.join("\n"));
}
