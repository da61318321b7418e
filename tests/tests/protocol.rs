//! The order of the protocol's replies is PostgreSQL's: traces recorded there, played here.

use std::fs;
use std::path::Path;
use toroid_tests::server::Toroid;
use toroid_tests::trace;

fn plays(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("protocol").join(name);
    let groups = trace::parse(&fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
    assert!(!groups.is_empty(), "{name} is empty");
    let toroid = Toroid::start(&[]);
    let mut client = toroid.connect();
    let mut found = Vec::new();
    for group in &groups {
        let replies = match trace::run(&mut client, group) {
            Ok(replies) => replies,
            Err(what) => {
                client = toroid.connect();
                vec![what]
            }
        };
        if replies != group.replies {
            found.push(format!(
                "{}\n  expected\n    {}\n  got\n    {}",
                group.sent.join("\n"),
                group.replies.join("\n    "),
                replies.join("\n    ")
            ));
        }
    }
    assert!(found.is_empty(), "{name}: {} of {} groups differ:\n\n{}", found.len(), groups.len(), found.join("\n\n"));
}

#[test]
fn extended_queries_answer_in_order() {
    plays("extended.trace");
}

#[test]
fn errors_skip_to_the_next_sync() {
    plays("errors.trace");
}

#[test]
fn portals_give_rows_in_portions() {
    plays("portals.trace");
}

#[test]
fn pipelines_answer_in_order() {
    plays("pipeline.trace");
}

#[test]
fn copies_answer_in_order() {
    plays("copy.trace");
}
