use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use nom::branch::alt;
use nom::bytes::complete::tag;
use nom::character::complete::{anychar, char, none_of};
use nom::combinator::{map, opt, value, verify};
use nom::multi::{fold_many0, many1};
use nom::sequence::{delimited, preceded};
use nom::{IResult, Parser};

use crate::name::{ELEMENTS_MAX, NAME_BYTES_MAX, check_element};
use crate::{Name, NameError};

/// A glob over names: elements with `*`, `?`, `[a-c]`, `[^a-c]` and `\` escapes, and a tail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    elements: Vec<Element>,
    tail: Tail,
}

/// What a pattern says about everything below its elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "whoever walks a tree has to know all of them")]
pub enum Tail {
    /// Nothing: the elements end the name.
    Exact,
    /// `...`: any number of further elements, across mount tables.
    Recursive,
    /// `***`: the same, but never asking a plain server.
    TablesOnly,
}

/// One element of a [`Pattern`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    Fixed(String),
    Wild(Vec<Token>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// `*`: any run of characters, also none.
    Run,
    /// `?`: one character.
    One,
    /// `[…]`: one character in, or with `^` outside, these ranges.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    Literal(char),
}

impl Pattern {
    /// Reads a pattern; slashes are cleaned as in a name.
    ///
    /// # Errors
    ///
    /// An unclosed class, a class without characters or with a range that runs backwards, a trailing backslash, a
    /// limit of names.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.len() > NAME_BYTES_MAX {
            return Err(PatternError::Name(NameError::TooLong { bytes: text.len() }));
        }
        let mut parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
        let tail = match parts.last() {
            Some(&"...") => Tail::Recursive,
            Some(&"***") => Tail::TablesOnly,
            _ => Tail::Exact,
        };
        if tail != Tail::Exact {
            parts.pop();
        }
        if parts.len() > ELEMENTS_MAX {
            return Err(PatternError::Name(NameError::TooDeep { elements: parts.len() }));
        }
        let elements = parts.into_iter().map(Element::parse).collect::<Result<_, _>>()?;
        Ok(Self { elements, tail })
    }

    /// The pattern that matches everything below the root, the root included.
    pub fn everything() -> Self {
        Self { elements: Vec::new(), tail: Tail::Recursive }
    }

    /// How many elements come before the tail.
    pub fn depth(&self) -> usize {
        self.elements.len()
    }

    /// What it says about everything below its elements.
    pub fn tail(&self) -> Tail {
        self.tail
    }

    /// Whether `name` matches.
    pub fn matches(&self, name: &Name) -> bool {
        let mut elements = name.elements();
        let head = self.elements.iter().all(|pattern| elements.next().is_some_and(|e| pattern.matches(e)));
        head && (self.tail != Tail::Exact || elements.next().is_none())
    }

    /// Whether `name` is the beginning of names that match, so that a mount there leads on to them.
    pub fn leads_through(&self, name: &Name) -> bool {
        let mut patterns = self.elements.iter();
        for element in name.elements() {
            match patterns.next() {
                Some(pattern) if pattern.matches(element) => {}
                Some(_) => return false,
                None => return self.tail != Tail::Exact,
            }
        }
        patterns.next().is_some() || self.tail != Tail::Exact
    }

    pub(crate) fn element(&self, at: usize) -> Option<&Element> {
        self.elements.get(at)
    }

    /// The pattern of the same names seen from above `base`.
    ///
    /// # Errors
    ///
    /// When it has more elements than a name may have.
    pub fn below(&self, base: &Name) -> Result<Self, PatternError> {
        let depth = base.depth() + self.elements.len();
        if depth > ELEMENTS_MAX {
            return Err(PatternError::Name(NameError::TooDeep { elements: depth }));
        }
        let base = base.elements().map(|element| Element::Fixed(element.into()));
        Ok(Self { elements: base.chain(self.elements.iter().cloned()).collect(), tail: self.tail })
    }

    /// What it asks for below a name of so many elements that it has matched so far; `None` if nothing.
    pub fn rest(&self, elements: usize) -> Option<Self> {
        let rest = self.elements.get(elements..).unwrap_or_default();
        let wanted = !rest.is_empty() || self.tail != Tail::Exact;
        wanted.then(|| Self { elements: rest.to_vec(), tail: self.tail })
    }

    /// The longest name that everything this matches lies at or below.
    pub fn fixed_prefix(&self) -> Name {
        let mut text = String::new();
        for element in &self.elements {
            let Element::Fixed(element) = element else { break };
            crate::name::push(&mut text, element);
        }
        Name::from_clean(&text)
    }
}

impl Element {
    fn parse(text: &str) -> Result<Self, PatternError> {
        check_element(text)?;
        let (rest, tokens) = many1(token).parse(text).map_err(|_| PatternError::Syntax)?;
        if !rest.is_empty() {
            return Err(PatternError::Syntax);
        }
        let fixed: Option<String> =
            tokens.iter().map(|token| if let Token::Literal(c) = token { Some(*c) } else { None }).collect();
        Ok(fixed.map_or(Self::Wild(tokens), Self::Fixed))
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        match self {
            Self::Fixed(fixed) => fixed == text,
            Self::Wild(tokens) => wild(tokens, text),
        }
    }
}

/// Goes back to the last `*` only, so that the time is at most the product of both lengths.
fn wild(tokens: &[Token], text: &str) -> bool {
    let (mut tokens, mut text) = (tokens, text.chars());
    let mut retry: Option<(&[Token], core::str::Chars<'_>)> = None;
    loop {
        match tokens.split_first() {
            Some((Token::Run, after)) => {
                retry = Some((after, text.clone()));
                tokens = after;
                continue;
            }
            Some((token, after)) => {
                let mut ahead = text.clone();
                if ahead.next().is_some_and(|c| token.matches(c)) {
                    (tokens, text) = (after, ahead);
                    continue;
                }
            }
            None if text.as_str().is_empty() => return true,
            None => {}
        }
        let Some((after, from)) = &mut retry else { return false };
        if from.next().is_none() {
            return false;
        }
        (tokens, text) = (after, from.clone());
    }
}

impl Token {
    fn matches(&self, c: char) -> bool {
        match self {
            Self::Run | Self::One => true,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated
            }
            Self::Literal(literal) => *literal == c,
        }
    }
}

fn token(input: &str) -> IResult<&str, Token> {
    alt((
        value(Token::Run, char('*')),
        value(Token::One, char('?')),
        class,
        map(preceded(char('\\'), anychar), Token::Literal),
        map(none_of("*?[\\"), Token::Literal),
    ))
    .parse(input)
}

fn class(input: &str) -> IResult<&str, Token> {
    let one = || alt((preceded(char('\\'), anychar), none_of("]\\")));
    let range = map((one(), opt(preceded(tag("-"), one()))), |(low, high)| (low, high.unwrap_or(low)));
    let ranges = verify(
        fold_many0(range, Vec::new, |mut ranges, range| {
            ranges.push(range);
            ranges
        }),
        |ranges: &Vec<(char, char)>| !ranges.is_empty() && ranges.iter().all(|(low, high)| low <= high),
    );
    let body = map((opt(char('^')), ranges), |(negated, ranges)| Token::Class {
        negated: negated.is_some(),
        ranges,
    });
    delimited(char('['), body, char(']')).parse(input)
}

/// Why text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// A limit of names.
    #[error("not a pattern")]
    Name(#[from] NameError),
    /// A class or an escape that is not complete.
    #[error(
        "not a pattern: a class needs characters in order and a closing bracket, a backslash something after it"
    )]
    Syntax,
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        Self::parse(text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for element in &self.elements {
            f.write_str(separator)?;
            separator = "/";
            match element {
                // Without the escape it would read as the tail.
                Element::Fixed(text) if text == "..." => f.write_str("\\...")?,
                Element::Fixed(text) => text.chars().try_for_each(|c| literal(f, c, "*?[\\"))?,
                Element::Wild(tokens) => tokens.iter().try_for_each(|token| fmt::Display::fmt(token, f))?,
            }
        }
        match self.tail {
            Tail::Exact => Ok(()),
            Tail::Recursive => write!(f, "{separator}..."),
            Tail::TablesOnly => write!(f, "{separator}***"),
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run => f.write_str("*"),
            Self::One => f.write_str("?"),
            Self::Literal(c) => literal(f, *c, "*?[\\"),
            Self::Class { negated, ranges } => {
                f.write_str(if *negated { "[^" } else { "[" })?;
                for (low, high) in ranges {
                    literal(f, *low, "]\\-^")?;
                    if low != high {
                        f.write_str("-")?;
                        literal(f, *high, "]\\-^")?;
                    }
                }
                f.write_str("]")
            }
        }
    }
}

fn literal(f: &mut fmt::Formatter<'_>, c: char, special: &str) -> fmt::Result {
    if special.contains(c) {
        f.write_str("\\")?;
    }
    write!(f, "{c}")
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn patterns_match_what_they_say() {
        for (pattern, yes, no) in [
            ("*", "one two", "a/b"),
            ("o*", "one of o", "no"),
            ("j?ke1/level1/*", "joke1/level1/x", "jooke1/level1/x joke1/level1"),
            ("mt[2,3]", "mt2 mt3 mt,", "mt4 mt23"),
            ("[^a-c]x", "dx", "ax cx x"),
            ("*z", "z xyz zzz", "za"),
            ("a*b*c", "abc axxbyyc abcbc", "ab acb"),
            ("\\*", "*", "x"),
            ("[\\]]", "]", "["),
            ("a/...", "a a/b a/b/c", "b ab"),
            ("...", "a a/b", ""),
            ("\\...", "...", "a"),
            ("", "", "a"),
        ] {
            let pattern = Pattern::parse(pattern).unwrap();
            for name in yes.split(' ') {
                assert!(pattern.matches(&Name::parse(name).unwrap()), "{pattern} {name}");
            }
            for name in no.split(' ').filter(|no| !no.is_empty()) {
                assert!(!pattern.matches(&Name::parse(name).unwrap()), "{pattern} {name}");
            }
            assert_eq!(Pattern::parse(&pattern.to_string()).as_ref(), Ok(&pattern));
        }
    }

    #[test]
    fn broken_classes_and_escapes_are_no_patterns() {
        for text in ["[", "[]", "[c-a]", "a[b", "\\", "x/\\"] {
            assert_eq!(Pattern::parse(text), Err(PatternError::Syntax), "{text}");
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = Pattern::parse(&"*a".repeat(200)).unwrap();
        assert!(!pattern.matches(&Name::parse(&"a".repeat(199)).unwrap()));
    }

    #[test]
    fn a_pattern_is_seen_from_above_and_from_below_and_says_what_leads_on() {
        let name = |text| Name::parse(text).unwrap();
        let seen = |text| Pattern::parse(text).unwrap().below(&name("x/[*")).unwrap().to_string();
        assert_eq!((seen("a*/..."), seen("")), ("x/\\[\\*/a*/...".into(), "x/\\[\\*".into()));
        assert!(Pattern::parse(&"a/".repeat(63)).unwrap().below(&name("x/y")).is_err());
        let rest = |text, depth| Pattern::parse(text).unwrap().rest(depth).map(|rest| rest.to_string());
        assert_eq!(rest("a/b*/c", 1).as_deref(), Some("b*/c"));
        assert_eq!((rest("a", 1), rest("a", 2)), (None, None));
        assert_eq!((rest("a/...", 1).as_deref(), rest("a/***", 9).as_deref()), (Some("..."), Some("***")));
        for (text, through, not) in
            [("a*/b/c", " a ax a/b", "b a/c a/b/c a/b/c/d"), ("a/...", " a a/b/c", "b")]
        {
            let pattern = Pattern::parse(text).unwrap();
            assert!(through.split(' ').all(|at| pattern.leads_through(&name(at))), "{text}");
            assert!(!not.split(' ').any(|at| pattern.leads_through(&name(at))), "{text}");
        }
    }

    #[test]
    fn the_fixed_prefix_ends_at_the_first_wildcard() {
        for (pattern, prefix) in [("a/b/*/c", "a/b"), ("...", ""), ("a/\\*/...", "a/*"), ("*", "")] {
            assert_eq!(Pattern::parse(pattern).unwrap().fixed_prefix().as_str(), prefix);
        }
    }
}
