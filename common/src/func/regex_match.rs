//! Compiled regular expressions, and where they match: the `regex` crate finds the place, PostgreSQL's rules settle the end.

use super::regex_order::{groups_in_order, is_first, outlives_rounds, preference, quantifies_a_quantifier};
use super::regex_syntax::{Flags, translate};
use crate::datum::Datum;
use crate::error::{SqlError, SqlResult, SqlState};
use regex::{Regex, RegexBuilder};
use regex_automata::dfa::onepass;
use regex_automata::nfa::thompson::pikevm::{self, PikeVM};
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, MatchKind};
use regex_syntax::ast::parse::ParserBuilder;
use std::cell::RefCell;
use std::rc::Rc;

/// A compiled pattern.
pub(super) struct Pattern {
    regex: Regex,
    /// Set when the first match in the order written need not be the one that PostgreSQL takes.
    end: Option<End>,
    /// Whether the groups of the first match are PostgreSQL's when it ends where PostgreSQL's does.
    groups_agree: bool,
}

/// Finds the end that a pattern as a whole prefers.
struct End {
    longest: bool,
    machine: PikeVM,
    cache: RefCell<pikevm::Cache>,
}

/// Where a match is, and its groups.
pub(super) struct Match {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) groups: Vec<Option<(usize, usize)>>,
}

/// Patterns kept compiled, most recently used last, as each backend of PostgreSQL keeps them.
const CACHED: usize = 32;

struct Cached {
    source: String,
    flags: String,
    pattern: Rc<Pattern>,
}

thread_local! {
    /// Compiling costs a hundred times what matching does, and kernels are called once per row without a place of their own to keep anything. The
    /// cache changes no answer: what it holds is a function of pattern and flags alone. Each thread has its own, bounded in number; the patterns'
    /// size is bounded by the crate's limit.
    static CACHE: RefCell<Vec<Cached>> = const { RefCell::new(Vec::new()) };
}

/// The pattern compiled, from the cache if it is there.
pub(super) fn pattern(source: &str, flags: &str) -> SqlResult<Rc<Pattern>> {
    let known = CACHE.with_borrow_mut(|cache| {
        let at = cache.iter().rposition(|c| c.source == source && c.flags == flags)?;
        if let Some(newer) = cache.get_mut(at..) {
            newer.rotate_left(1);
        }
        cache.last().map(|c| Rc::clone(&c.pattern))
    });
    if let Some(pattern) = known {
        return Ok(pattern);
    }
    let pattern = Rc::new(compile(source, flags)?);
    CACHE.with_borrow_mut(|cache| {
        if cache.len() == CACHED {
            cache.remove(0);
        }
        cache.push(Cached { source: source.to_owned(), flags: flags.to_owned(), pattern: Rc::clone(&pattern) });
    });
    Ok(pattern)
}

fn compile(source: &str, letters: &str) -> SqlResult<Pattern> {
    let mut flags = Flags::parse(letters)?;
    let translated = translate(source, &mut flags)?;
    let regex = RegexBuilder::new(&translated)
        .case_insensitive(flags.ignore_case)
        .dot_matches_new_line(!flags.dot_stops_at_newline)
        .multi_line(flags.lines)
        .ignore_whitespace(flags.expanded)
        .build()
        .map_err(|error| invalid(&error))?;
    let ast = ParserBuilder::new().ignore_whitespace(flags.expanded).build().parse(&translated);
    let ast = ast.map_err(|_| refused("invalid regexp (reg version 0.8)"))?;
    if quantifies_a_quantifier(&ast) {
        return Err(refused("quantifier operand invalid"));
    }
    let rules = syntax::Config::new()
        .case_insensitive(flags.ignore_case)
        .dot_matches_new_line(!flags.dot_stops_at_newline)
        .multi_line(flags.lines)
        .ignore_whitespace(flags.expanded);
    let groups = regex.captures_len() > 1;
    // Where only one way leads through the pattern for each text, no rule is needed to choose one.
    let only_one_way = || onepass::DFA::builder().syntax(rules).build(&translated).is_ok();
    let groups_agree = groups && !outlives_rounds(&ast) && (groups_in_order(&ast) || only_one_way());
    let end = match is_first(&ast) {
        true => None,
        false => {
            let config = PikeVM::config().match_kind(MatchKind::All);
            let machine = PikeVM::builder().configure(config).syntax(rules).build(&translated);
            let machine = machine.map_err(|_| refused("regular expression is too complex"))?;
            let cache = RefCell::new(machine.create_cache());
            Some(End { longest: preference(&ast).unwrap_or(true), machine, cache })
        }
    };
    Ok(Pattern { regex, end, groups_agree })
}

/// 2201B in PostgreSQL's words for the usual mistakes.
fn invalid(error: &regex::Error) -> SqlError {
    let detail = error.to_string();
    let found = |part: &str| detail.contains(part);
    refused(if matches!(error, regex::Error::CompiledTooBig(_)) {
        "regular expression is too complex"
    } else if found("unclosed group") || found("unopened group") {
        "parentheses () not balanced"
    } else if found("unclosed character class") {
        "brackets [] not balanced"
    } else if found("repetition operator missing") || found("unsupported repetition") {
        "quantifier operand invalid"
    } else if found("character class range") {
        "invalid character range"
    } else if found("repetition quantifier") || found("repetition count") {
        "invalid repetition count(s)"
    } else if found("incomplete escape") {
        "invalid escape \\ sequence"
    } else {
        "invalid regexp (reg version 0.8)"
    })
}

fn refused(reason: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_REGULAR_EXPRESSION, format!("invalid regular expression: {reason}"))
}

impl End {
    fn find(&self, value: &str, start: usize) -> Option<usize> {
        let input = Input::new(value).range(start..).anchored(Anchored::Yes).earliest(!self.longest);
        let mut slots = [None; 2];
        self.machine.search_slots(&mut self.cache.borrow_mut(), &input, &mut slots)?;
        let [_, end] = slots;
        end.map(|end| end.get())
    }
}

impl Pattern {
    pub(super) fn is_match(&self, value: &str) -> bool {
        self.regex.is_match(value)
    }

    pub(super) fn has_groups(&self) -> bool {
        self.regex.captures_len() > 1
    }

    /// The first match at or after a byte position, without groups.
    pub(super) fn find(&self, value: &str, from: usize) -> Option<Match> {
        let found = self.regex.find_at(value, from)?;
        let end = self.end.as_ref().and_then(|end| end.find(value, found.start()));
        Some(Match { start: found.start(), end: end.unwrap_or(found.end()), groups: Vec::new() })
    }

    /// The first match at or after a byte position with its groups; 0A000 where they may be others than PostgreSQL's.
    pub(super) fn find_groups(&self, value: &str, from: usize) -> SqlResult<Option<Match>> {
        let Some(found) = self.find(value, from) else { return Ok(None) };
        if !self.has_groups() {
            return Ok(Some(found));
        }
        let captures = self.regex.captures_at(value, from);
        let agrees = |captures: &regex::Captures<'_>| captures.get(0).is_some_and(|whole| whole.end() == found.end);
        let Some(captures) = captures.filter(|captures| self.groups_agree && agrees(captures)) else {
            return Err(SqlError::unsupported(
                "a regular expression whose groups depend on the order in which its alternatives and repetitions are tried",
            ));
        };
        let range = |index| captures.get(index).map(|m| (m.start(), m.end()));
        Ok(Some(Match { groups: (1..captures.len()).map(range).collect(), ..found }))
    }

    /// All matches from a byte position on that do not overlap, with groups if asked for.
    pub(super) fn matches(&self, value: &str, from: usize, groups: bool) -> SqlResult<Vec<Match>> {
        let mut all = Vec::new();
        let mut from = from;
        while from <= value.len() {
            let found = if groups { self.find_groups(value, from)? } else { self.find(value, from) };
            let Some(found) = found else { break };
            let after = value.get(found.end..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8);
            from = if found.end > found.start { found.end } else { found.end + after };
            all.push(found);
        }
        Ok(all)
    }
}

impl Match {
    /// The whole match.
    pub(super) fn text<'a>(&self, value: &'a str) -> &'a str {
        value.get(self.start..self.end).unwrap_or_default()
    }

    pub(super) fn group(&self, value: &str, index: usize) -> Datum {
        match self.groups.get(index).copied().flatten().and_then(|(start, end)| value.get(start..end)) {
            Some(group) => Datum::Text(group.to_owned()),
            None => Datum::Null,
        }
    }

    /// What `regexp_match` gives: the groups, or the whole match where there are none.
    pub(super) fn array(&self, value: &str) -> Datum {
        Datum::Array(match self.groups.len() {
            0 => vec![Datum::Text(self.text(value).to_owned())],
            groups => (0..groups).map(|i| self.group(value, i)).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_that_may_differ_are_refused() {
        for (value, source) in
            [("abcd", "(a|ab)(c|bcd)(d*)"), ("ab", "((a)|b)*"), ("xyy", "(x+?)(y*)"), ("ab", "(a?)((?:ab)?)")]
        {
            let found = pattern(source, "").unwrap().find_groups(value, 0);
            assert_eq!(found.err().map(|error| error.state()), Some(SqlState::FEATURE_NOT_SUPPORTED), "{source}");
        }
    }

    #[test]
    fn the_whole_match_is_as_long_as_the_pattern_prefers() {
        for (value, source, expected) in [
            ("abcd", "(a|ab)(c|bcd)(d*)", "abcd"),
            ("xyy", "x*?y*", ""),
            ("xyy", "x+?y*", "x"),
            ("xyy", "(?:x|y)y*?", "xyy"),
        ] {
            assert_eq!(pattern(source, "").unwrap().find(value, 0).unwrap().text(value), expected, "{source}");
        }
    }
}
