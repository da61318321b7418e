//! Simple-protocol statements that differ only in constants share a plan: a pass over the bytes lifts constants to parameters where that
//! cannot change meaning.
//!
//! Only constants that are operands in WHERE, in VALUES of an INSERT and in SET of an UPDATE are lifted; numbers only if they are `int4` or `int8`, since
//! as parameters they keep that type; strings only where they stand alone beside a comparison, so that their type comes from the other side, as
//! the parameter's will. Whatever looks unusual (comments, dollar signs, prefixes of strings, subqueries) makes [`normalize`] answer `None`, and the statement is bound
//! as it is. A statement whose normalized form fails to bind, or whose lifted text is refused by its type, must be bound as it was written, for the error's position.

use smallvec::SmallVec;
use std::borrow::Cow;

/// A statement with `$1`, `$2`, … in place of lifted constants: the key and the source of a shared plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalized<'a> {
    pub text: String,
    pub literals: SmallVec<[Literal<'a>; 8]>,
}

/// A lifted constant.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal<'a> {
    Int4(i32),
    Int8(i64),
    /// Of unknown type: takes the type that its parameter was inferred to have.
    Text(Cow<'a, str>),
}

/// More constants than this are not worth a shared plan: the next statement will have another number of them.
const MOST_LITERALS: usize = 128;

/// The shared form of a statement; `None` if it must be taken as it is.
pub fn normalize(text: &str) -> Option<Normalized<'_>> {
    let mut pass = Pass::new(text);
    pass.run()?;
    if pass.literals.is_empty() {
        return None;
    }
    pass.text.push_str(text.get(pass.copied..)?);
    Some(Normalized { text: pass.text, literals: pass.literals })
}

/// Which part of the statement the pass is in.
#[derive(Clone, Copy, PartialEq)]
enum Region {
    /// Nothing is lifted here.
    Other,
    Where,
    Set,
    Values,
}

#[derive(Clone, Copy, PartialEq)]
enum Paren {
    /// A list after IN, or a row of VALUES: its elements are lifted.
    List,
    Other,
}

/// What the last token was, as far as the next one's rôle depends on it.
#[derive(Clone, Copy, PartialEq)]
enum Before {
    Start,
    /// A comparison operator, BETWEEN or AND.
    Comparison,
    /// `+ - * / %` between two operands.
    Arithmetic,
    /// A minus with an operand to come, where the whole would be lifted; it began at this byte.
    Sign(usize),
    /// The opening of a list, or a comma in it.
    ListItem,
    Operand,
    In,
    Values,
    Other,
}

struct Pass<'a> {
    source: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// Up to here the source stands in `text`.
    copied: usize,
    text: String,
    literals: SmallVec<[Literal<'a>; 8]>,
    region: Region,
    parens: SmallVec<[Paren; 16]>,
    before: Before,
    verb: Verb,
}

#[derive(Clone, Copy, PartialEq)]
enum Verb {
    None,
    Select,
    Insert,
    Update,
    Delete,
}

impl<'a> Pass<'a> {
    fn new(source: &'a str) -> Pass<'a> {
        Pass {
            source,
            bytes: source.as_bytes(),
            at: 0,
            copied: 0,
            text: String::with_capacity(source.len() + 8),
            literals: SmallVec::new(),
            region: Region::Other,
            parens: SmallVec::new(),
            before: Before::Start,
            verb: Verb::None,
        }
    }

    fn run(&mut self) -> Option<()> {
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' | 0x0c => self.at += 1,
                b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => self.word()?,
                b'0'..=b'9' => self.number()?,
                b'\'' => self.string()?,
                b'"' => self.quoted_identifier()?,
                b'(' => self.open(),
                b')' => {
                    self.parens.pop()?;
                    self.step(Before::Operand);
                }
                b',' => {
                    let listed = self.parens.last() == Some(&Paren::List);
                    self.step(if listed { Before::ListItem } else { Before::Other });
                }
                b'.' => self.step(Before::Other),
                b';' => return self.only_blanks_follow(),
                b'=' | b'<' | b'>' | b'!' | b'+' | b'-' | b'*' | b'/' | b'%' => self.operator()?,
                b'[' | b']' | b':' => self.step(Before::Other),
                b'^' | b'|' | b'&' | b'~' | b'@' | b'#' | b'?' => self.step(Before::Other),
                _ => return None,
            }
        }
        Some(())
    }

    fn step(&mut self, before: Before) {
        self.at += 1;
        self.before = before;
    }

    /// A second statement in the text is not looked at.
    fn only_blanks_follow(&self) -> Option<()> {
        self.bytes.get(self.at + 1..)?.iter().all(u8::is_ascii_whitespace).then_some(())
    }

    fn open(&mut self) {
        let listed = matches!(self.before, Before::In | Before::Values)
            || (self.region == Region::Values && self.parens.is_empty());
        self.parens.push(if listed { Paren::List } else { Paren::Other });
        self.step(if listed { Before::ListItem } else { Before::Other });
    }

    fn word(&mut self) -> Option<()> {
        let start = self.at;
        while self.bytes.get(self.at).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_' || *b >= 0x80) {
            self.at += 1;
        }
        match self.bytes.get(self.at) {
            // A prefix of a string, or an identifier with a dollar sign.
            Some(b'\'' | b'$') => return None,
            Some(b'&') if self.at - start == 1 => return None,
            _ => {}
        }
        let word = self.bytes.get(start..self.at)?;
        if self.verb == Verb::None {
            return self.first_word(word);
        }
        self.before = self.meaning(word)?;
        Some(())
    }

    fn first_word(&mut self, word: &[u8]) -> Option<()> {
        self.verb = match word.to_ascii_lowercase().as_slice() {
            b"select" => Verb::Select,
            b"insert" => Verb::Insert,
            b"update" => Verb::Update,
            b"delete" => Verb::Delete,
            _ => return None,
        };
        self.before = Before::Other;
        Some(())
    }

    /// Keywords move the pass to another region; `None` gives up.
    fn meaning(&mut self, word: &[u8]) -> Option<Before> {
        if word.len() > 9 {
            return Some(Before::Operand);
        }
        let mut lower = [0u8; 9];
        let lower = lower.get_mut(..word.len())?;
        lower.copy_from_slice(word);
        lower.make_ascii_lowercase();
        let outside = self.parens.is_empty();
        Some(match &*lower {
            b"select" | b"with" | b"union" | b"intersect" | b"except" => return None,
            b"where" if outside && self.verb != Verb::Insert => {
                self.region = Region::Where;
                Before::Other
            }
            b"set" if outside && self.verb == Verb::Update => {
                self.region = Region::Set;
                Before::Other
            }
            b"values" if outside && self.verb == Verb::Insert => {
                self.region = Region::Values;
                Before::Values
            }
            b"group" | b"order" | b"having" | b"limit" | b"offset" | b"fetch" | b"for" | b"window" | b"returning"
            | b"from" | b"on"
                if outside =>
            {
                self.region = Region::Other;
                Before::Other
            }
            b"between" | b"and" => Before::Comparison,
            b"in" => Before::In,
            b"or" | b"not" | b"then" | b"else" | b"when" | b"case" | b"like" | b"is" | b"any" | b"all" | b"by"
            | b"as" | b"for" | b"from" | b"interval" | b"date" | b"time" | b"timestamp" => Before::Other,
            _ => Before::Operand,
        })
    }

    fn operator(&mut self) -> Option<()> {
        let start = self.at;
        while self.bytes.get(self.at).is_some_and(|b| b"=<>!+-*/%^|&~@#?`".contains(b)) {
            self.at += 1;
        }
        let full = self.bytes.get(start..self.at)?;
        if full.windows(2).any(|pair| pair == b"--" || pair == b"/*") {
            return None;
        }
        let sign = if full.len() > 1 && matches!(full.last(), Some(b'-' | b'+')) { 1 } else { 0 };
        if sign == 1 && full.iter().any(|b| b"~!@#%^&|`?".contains(b)) {
            return None;
        }
        let own = full.get(..full.len() - sign)?;
        self.before = match own {
            b"=" | b"<" | b">" | b"<=" | b">=" | b"<>" | b"!=" => Before::Comparison,
            b"-" => self.minus(start),
            b"+" | b"*" | b"/" | b"%" if self.before == Before::Operand => Before::Arithmetic,
            _ => Before::Other,
        };
        if sign == 1 {
            self.before = if full.last() == Some(&b'-') { self.minus(self.at - 1) } else { Before::Other };
        }
        Some(())
    }

    fn minus(&self, at: usize) -> Before {
        match self.before {
            Before::Operand => Before::Arithmetic,
            Before::Comparison | Before::ListItem => Before::Sign(at),
            _ => Before::Other,
        }
    }

    fn number(&mut self) -> Option<()> {
        let start = self.at;
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        if self.bytes.get(self.at).is_some_and(|b| b.is_ascii_alphabetic() || matches!(b, b'.' | b'_' | b'$' | 0x80..))
        {
            while self.bytes.get(self.at).is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_')) {
                self.at += 1;
            }
            self.before = Before::Operand;
            return Some(());
        }
        let from = match self.before {
            Before::Comparison | Before::Arithmetic | Before::ListItem => Some(start),
            Before::Sign(at) => Some(at),
            Before::Start | Before::Operand | Before::In | Before::Values | Before::Other => None,
        };
        self.before = Before::Operand;
        let Some(from) = from.filter(|_| self.region != Region::Other && self.number_may_end()) else {
            return Some(());
        };
        let digits = self.source.get(start..self.at)?;
        let Ok(value) = digits.parse::<i128>() else { return Some(()) };
        let value = if from < start { -value } else { value };
        let literal = match (i32::try_from(value), i64::try_from(value)) {
            (Ok(small), _) => Literal::Int4(small),
            (_, Ok(large)) => Literal::Int8(large),
            _ => return Some(()),
        };
        self.lift(from, literal)
    }

    /// What binds tighter than a sign keeps a number from being lifted.
    fn number_may_end(&self) -> bool {
        !matches!(self.next_byte(), Some(b':' | b'^' | b'[' | b'.'))
    }

    fn next_byte(&self) -> Option<u8> {
        self.bytes.get(self.at..)?.iter().copied().find(|b| !b.is_ascii_whitespace())
    }

    fn string(&mut self) -> Option<()> {
        let start = self.at;
        let mut doubled = false;
        loop {
            self.at += 1 + self.bytes.get(self.at + 1..)?.iter().position(|b| *b == b'\'')?;
            if self.bytes.get(self.at + 1) != Some(&b'\'') {
                break;
            }
            doubled = true;
            self.at += 1;
        }
        self.at += 1;
        let liftable = self.region != Region::Other && self.string_stands_alone();
        self.before = Before::Operand;
        if !liftable {
            return Some(());
        }
        let inside = self.source.get(start + 1..self.at - 1)?;
        let value = if doubled { Cow::Owned(inside.replace("''", "'")) } else { Cow::Borrowed(inside) };
        self.lift(start, Literal::Text(value))
    }

    fn string_stands_alone(&self) -> bool {
        let before = match self.before {
            Before::Comparison => true,
            Before::ListItem => self.parens.len() == 1 || self.region != Region::Values,
            _ => false,
        };
        before && self.string_may_end()
    }

    fn string_may_end(&self) -> bool {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let rest = rest.trim_ascii_start();
        match rest.first() {
            None | Some(b')' | b',' | b';') => true,
            Some(b) if b.is_ascii_alphabetic() => {
                let word = rest.split(|b| !b.is_ascii_alphanumeric() && *b != b'_').next().unwrap_or_default();
                let ends: [&[u8]; 7] = [b"and", b"or", b"where", b"returning", b"order", b"group", b"limit"];
                ends.iter().any(|end| word.eq_ignore_ascii_case(end))
            }
            _ => false,
        }
    }

    fn lift(&mut self, from: usize, literal: Literal<'a>) -> Option<()> {
        if self.literals.len() == MOST_LITERALS {
            return None;
        }
        self.literals.push(literal);
        self.text.push_str(self.source.get(self.copied..from)?);
        self.text.push('$');
        push_number(&mut self.text, self.literals.len());
        self.copied = self.at;
        Some(())
    }

    fn quoted_identifier(&mut self) -> Option<()> {
        self.at += 2 + self.bytes.get(self.at + 1..)?.iter().position(|b| *b == b'"')?;
        self.before = Before::Operand;
        Some(())
    }
}

fn push_number(text: &mut String, number: usize) {
    if number >= 10 {
        push_number(text, number / 10);
    }
    text.push(char::from(b'0' + (number % 10) as u8));
}
