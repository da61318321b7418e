//! The source tree keeps its own rules; what they are stands in `toroid_tests::tidy`, each with a test that shows it failing.

use std::path::Path;
use toroid_tests::tidy::Tree;

#[test]
fn the_tree_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests stand in the workspace");
    let violations = Tree::read(root).expect("the source tree can be read").violations();
    let lines: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{} breaches of the rules in toroid_tests::tidy:\n{}", lines.len(), lines.join("\n"));
}
