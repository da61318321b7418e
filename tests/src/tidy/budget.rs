//! How long a file and a function may be. Tests are not counted: a table of cases is long by nature.

use super::Violation;
use super::scan::{Source, item_end};

const FILE: &str = "file budget";
const FUNCTION: &str = "function budget";

pub const FILE_LINES: usize = 800;
pub const FUNCTION_LINES: usize = 70;

pub fn check(source: &Source, found: &mut Vec<Violation>) {
    let lines = (1..=source.text.lines().count()).filter(|line| !source.is_test(*line)).count();
    if lines > FILE_LINES {
        found.push(Violation::new(source, 1, FILE, format!("{lines} lines without tests, {FILE_LINES} allowed")));
    }
    let tokens = source.tokens();
    for (at, pair) in tokens.windows(2).enumerate() {
        if pair[0].text != "fn" || !pair[1].is_word() || source.is_test(pair[0].line) {
            continue;
        }
        let last = item_end(&tokens, at + 2).map_or(pair[0].line, |end| tokens[end].line);
        let length = last + 1 - pair[0].line;
        if length > FUNCTION_LINES {
            let what = format!("{} has {length} lines, {FUNCTION_LINES} allowed", pair[1].text);
            found.push(Violation::new(source, pair[0].line, FUNCTION, what));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::broken;

    #[test]
    fn files_have_a_budget() {
        assert_eq!(broken("proxy/src/a.rs", &"const A: u8 = 1;\n".repeat(FILE_LINES)), ["file budget"]);
        assert_eq!(broken("proxy/src/a.rs", &"const A: u8 = 1;\n".repeat(FILE_LINES - 1)), [""; 0]);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "const A: u8 = 1;\n".repeat(FILE_LINES));
        assert_eq!(broken("proxy/src/a.rs", &tests), [""; 0]);
    }

    #[test]
    fn functions_have_a_budget() {
        let function = |lines: usize| {
            format!(
                "pub fn f<'a>(x: &'a [u8; 3]) -> u8\nwhere\n    u8: Copy,\n{{\n{}}}\n",
                "    g('{', \"}\");\n".repeat(lines - 5)
            )
        };
        assert_eq!(broken("proxy/src/a.rs", &function(FUNCTION_LINES + 1)), ["function budget"]);
        assert_eq!(broken("proxy/src/a.rs", &function(FUNCTION_LINES)), [""; 0]);
        assert_eq!(broken("proxy/tests/a.rs", &function(FUNCTION_LINES + 1)), [""; 0]);
    }
}
