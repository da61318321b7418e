//! SQL scripts: statements with the directives that say how to run and compare them.
//!
//! A directive is a comment line of its own before a statement:
//! `-- unordered` (its rows may come in any order), `-- toroid: text` (Toroid runs this text instead), `-- params: 1 | NULL` (parameters,
//! as text, through the extended protocol), and `-- batch` … `-- end` (all statements between go in one query string).
//! COPY … FROM STDIN takes the lines after it, up to `\.`, as its data.

/// One exchange with a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Where it begins in the script, from 1.
    pub line: usize,
    pub sql: String,
    pub toroid: Option<String>,
    pub unordered: bool,
    pub params: Option<Vec<Option<String>>>,
    /// What COPY FROM STDIN is fed.
    pub copy: Option<Vec<u8>>,
    /// Several statements in one string: only a simple query can carry them.
    pub batch: bool,
}

/// Reads a script.
pub fn parse(text: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut step = Step::default();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if step.sql.is_empty() && !step.batch && (line.trim().is_empty() || line.starts_with("--")) {
            directive(line, &mut step).map_err(|what| format!("line {}: {what}", number + 1))?;
            continue;
        }
        if step.line == 0 {
            step.line = number + 1;
        }
        if step.batch && line == "-- end" {
            steps.push(std::mem::take(&mut step));
            continue;
        }
        step.sql.push_str(if step.sql.is_empty() { "" } else { "\n" });
        step.sql.push_str(line);
        if step.batch || !is_complete(&step.sql) {
            continue;
        }
        step.sql = step.sql.trim_end().trim_end_matches(';').to_owned();
        if is_copy_in(&step.sql) {
            let data = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "\\.");
            step.copy = Some(data.flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect());
        }
        steps.push(std::mem::take(&mut step));
    }
    match step.sql.is_empty() {
        true => Ok(steps),
        false => Err(format!("line {}: the statement has no end", step.line)),
    }
}

fn directive(line: &str, step: &mut Step) -> Result<(), String> {
    let Some(text) = line.strip_prefix("-- ") else { return Ok(()) };
    match text.split_once(':').map_or((text, ""), |(name, rest)| (name, rest.trim())) {
        ("unordered", "") => step.unordered = true,
        ("batch", "") => step.batch = true,
        ("toroid", sql) => step.toroid = Some(sql.trim_end_matches(';').to_owned()),
        ("params", values) => {
            let value = |text: &str| (text != "NULL").then(|| text.to_owned());
            step.params = Some(values.split('|').map(str::trim).filter(|v| !v.is_empty()).map(value).collect());
        }
        ("end", _) => return Err("-- end without -- batch".to_owned()),
        _ => {}
    }
    Ok(())
}

fn is_copy_in(sql: &str) -> bool {
    let upper = sql.to_uppercase();
    upper.starts_with("COPY ") && upper.contains("FROM STDIN")
}

/// Whether a statement ends with the text: a semicolon at its end, outside of quotes and comments.
fn is_complete(sql: &str) -> bool {
    if !sql.trim_end().ends_with(';') {
        return false;
    }
    let bytes = sql.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &sql[at..];
        let skipped = match bytes[at] {
            quote @ (b'\'' | b'"') => rest[1..].find(quote as char).map(|end| end + 2),
            b'-' if rest.starts_with("--") => rest.find('\n').map(|end| end + 1),
            b'/' if rest.starts_with("/*") => rest.find("*/").map(|end| end + 2),
            b'$' => dollar_quoted(rest),
            _ => Some(1),
        };
        match skipped {
            Some(length) => at += length,
            None => return false,
        }
        while !sql.is_char_boundary(at) {
            at += 1;
        }
    }
    true
}

/// The length of the dollar-quoted string at the start of `text`, 1 when there is none, nothing when it does not end.
fn dollar_quoted(text: &str) -> Option<usize> {
    let tag = text[1..].find('$').map(|end| &text[..end + 2]);
    let is_tag = |tag: &&str| {
        let name = &tag[1..tag.len() - 1];
        name.chars().all(|c| c.is_alphanumeric() || c == '_') && !name.starts_with(|c: char| c.is_ascii_digit())
    };
    match tag.filter(is_tag) {
        Some(tag) => text[tag.len()..].find(tag).map(|end| end + 2 * tag.len()),
        None => Some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_end_at_semicolons_outside_of_quotes() {
        let text = "SELECT 1;\n\nSELECT 'a;\n;' AS \"b;\",\n $x$;$x$; -- ;\nSELECT $1;\n";
        let steps = parse(text).expect("a script");
        let seen: Vec<_> = steps.iter().map(|step| (step.line, step.sql.as_str())).collect();
        assert_eq!(seen, [(1, "SELECT 1"), (3, "SELECT 'a;\n;' AS \"b;\",\n $x$;$x$; -- ;\nSELECT $1")]);
        assert!(parse("SELECT 'a;\n").is_err());
    }

    #[test]
    fn directives_belong_to_the_next_statement() {
        let text =
            "-- unordered\n-- toroid: CREATE X;\n-- params: 1 | NULL | a b\n-- A remark.\nSELECT 1;\nSELECT 2;\n";
        let steps = parse(text).expect("a script");
        assert!(steps[0].unordered && !steps[1].unordered);
        assert_eq!(steps[0].toroid.as_deref(), Some("CREATE X"));
        assert_eq!(steps[0].params, Some(vec![Some("1".into()), None, Some("a b".into())]));
        assert_eq!(steps[1], Step { line: 6, sql: "SELECT 2".into(), ..Step::default() });
    }

    #[test]
    fn batches_and_copies_take_what_follows() {
        let steps = parse("-- batch\nSELECT 1;\nSELECT 2;\n-- end\nCOPY t FROM STDIN;\n1\ta\n\\N\tb\n\\.\nSELECT 3;\n")
            .expect("a script");
        assert_eq!(steps[0].sql, "SELECT 1;\nSELECT 2;");
        assert_eq!(steps[1].copy.as_deref(), Some(b"1\ta\n\\N\tb\n".as_slice()));
        assert_eq!(steps[2].sql, "SELECT 3");
    }
}
