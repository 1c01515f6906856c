use nom::branch::alt;
use nom::bytes::complete::{tag, take};
use nom::character::complete::one_of;
use nom::combinator::{map, opt, value};
use nom::multi::{many_till, many0};
use nom::sequence::preceded;
use nom::{IResult, Parser};

/// A pattern for one name, as a shell has it: `*`, `?`, `[a-z]`, `[!x]`, and `\` before a character that stands for
/// itself. It sees bytes, as names are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glob(Vec<Token>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Byte(u8),
    Any,
    Run,
    Set { negated: bool, ranges: Vec<(u8, u8)> },
}

impl Glob {
    /// The pattern that `text` is. Every text is one: an opening bracket without its other half stands for itself.
    pub(crate) fn new(text: &str) -> Self {
        // The grammar takes every byte as itself when nothing else fits, so nothing can be left over.
        let parsed = tokens(text.as_bytes());
        Self(parsed.map(|(_, tokens)| tokens).unwrap_or_default())
    }

    /// Whether a name has to be looked for in a listing.
    pub(crate) fn is_pattern(&self) -> bool {
        self.0.iter().any(|token| !matches!(token, Token::Byte(_)))
    }

    /// The name, if it is one and no pattern.
    pub(crate) fn literal(&self) -> Option<Vec<u8>> {
        let byte = |token: &Token| if let Token::Byte(byte) = token { Some(*byte) } else { None };
        self.0.iter().map(byte).collect()
    }

    /// Whether `name` is one of those meant. A leading dot has to be written out, as in a shell.
    pub(crate) fn matches(&self, name: &[u8]) -> bool {
        let hidden = name.first() == Some(&b'.') && self.0.first() != Some(&Token::Byte(b'.'));
        !hidden && self.fits(name)
    }

    /// Whether `name` is one of those meant, dots or not: what `find --glob` does.
    pub(crate) fn fits(&self, name: &[u8]) -> bool {
        // The classic two-pointer walk: on a mismatch the latest run swallows one byte more. Linear memory, and at
        // most pattern times name steps.
        let (mut token, mut at) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        while at < name.len() {
            match (self.0.get(token), name.get(at)) {
                (Some(Token::Run), _) => {
                    retry = Some((token, at));
                    token += 1;
                }
                (Some(one), Some(byte)) if one.takes(*byte) => {
                    token += 1;
                    at += 1;
                }
                _ => {
                    let Some((run, from)) = retry else { return false };
                    retry = Some((run, from + 1));
                    token = run + 1;
                    at = from + 1;
                }
            }
        }
        self.0.iter().skip(token).all(|token| *token == Token::Run)
    }
}

impl Token {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Byte(own) => *own == byte,
            Self::Any => true,
            Self::Run => false,
            Self::Set { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&byte)) != *negated
            }
        }
    }
}

fn tokens(text: &[u8]) -> IResult<&[u8], Vec<Token>> {
    let byte = |taken: &[u8]| Token::Byte(taken.first().copied().unwrap_or_default());
    many0(alt((
        value(Token::Run, tag("*")),
        value(Token::Any, tag("?")),
        set,
        map(preceded(tag("\\"), take(1usize)), byte),
        map(take(1usize), byte),
    )))
    .parse(text)
}

/// `[a-z_]`, `[!0-9]`, `[]x]`: a closing bracket in front stands for itself.
fn set(text: &[u8]) -> IResult<&[u8], Token> {
    let (text, (_, negated)) = (tag("["), opt(one_of("!^"))).parse(text)?;
    let (text, first) = range(text)?;
    let (text, (mut ranges, _)) = many_till(range, tag("]")).parse(text)?;
    ranges.insert(0, first);
    Ok((text, Token::Set { negated: negated.is_some(), ranges }))
}

fn range(text: &[u8]) -> IResult<&[u8], (u8, u8)> {
    let one = |taken: &[u8]| taken.first().copied().unwrap_or_default();
    let (rest, low) = map(take(1usize), one).parse(text)?;
    // A dash in front of the closing bracket is a dash.
    let mut to = preceded(tag("-"), take(1usize));
    match to.parse(rest) {
        Ok((behind, high)) if high != b"]" => Ok((behind, (low, one(high)))),
        Ok(_) | Err(nom::Err::Error(_) | nom::Err::Incomplete(_)) => Ok((rest, (low, low))),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        let glob = Glob::new(pattern);
        for name in yes {
            assert!(glob.matches(name.as_bytes()), "{pattern} {name}");
        }
        for name in no {
            assert!(!glob.matches(name.as_bytes()), "{pattern} {name}");
        }
    }

    #[test]
    fn patterns_mean_what_they_mean_in_a_shell() {
        check("*.txt", &["a.txt", "b.c.txt"], &["a.txt2", ".txt", "txt"]);
        check("a?c", &["abc", "a.c"], &["ac", "abbc"]);
        check("[a-c]*[!0-9]", &["ax", "b1x"], &["a1", "dx", "a"]);
        check("[]x]", &["]", "x"], &["[", ""]);
        check("[a-]", &["a", "-"], &["b"]);
        check("[abc", &["[abc"], &["a"]);
        check(r"\*", &["*"], &["a"]);
        check(".*", &[".a"], &["a"]);
        check("*a*b*c*", &["abc", "xaybzc1"], &["acb"]);
        check("", &[""], &["a"]);
    }

    #[test]
    fn a_name_without_magic_is_a_literal() {
        assert_eq!(Glob::new(r"a\*b").literal(), Some(b"a*b".to_vec()));
        assert_eq!(Glob::new("a*b").literal(), None);
    }

    #[test]
    fn many_runs_on_a_long_name_take_no_time_to_speak_of() {
        assert!(!Glob::new(&"*a".repeat(100)).matches(&[b'b'; 255]));
    }
}
