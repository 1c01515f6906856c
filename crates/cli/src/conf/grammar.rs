use nom::branch::alt;
use nom::bytes::complete::{is_not, take_till};
use nom::character::complete::{anychar, char, line_ending, none_of, space0};
use nom::combinator::{eof, opt, recognize, value, verify};
use nom::multi::{fold_many0, many0, many1_count};
use nom::sequence::{delimited, preceded, terminated};
use nom::{IResult, Parser};

use super::ParseError;

/// A section's name and its lines, in the order of the file.
type Section = (String, Vec<(String, String)>);

/// What ends the text of a line unless a backslash is before it.
const SPECIAL: &str = "#;\\\r\n";

/// The whole file.
pub(super) fn file(text: &str) -> Result<Vec<Section>, ParseError> {
    let mut sections: Vec<Section> = Vec::new();
    let mut rest = skip_blank_lines(text);
    while !rest.is_empty() {
        let error = |what| ParseError { line: line_of(text, rest), what };
        let behind = if rest.starts_with('[') {
            let (behind, name) =
                heading(rest).map_err(|_| error("expected [a section's name] alone on a line"))?;
            sections.push((name, Vec::new()));
            behind
        } else {
            let (behind, (key, equals)) = key(rest).map_err(|_| error("expected key = value"))?;
            if equals.is_none() {
                return Err(error("expected `=` behind the key"));
            }
            let (behind, value) = value_to_end(behind).map_err(|_| {
                error("expected the end of the line behind a quoted value, or its closing quote")
            })?;
            let Some((_, lines)) = sections.last_mut() else {
                return Err(error("a key before the first [section]"));
            };
            lines.push((key, value));
            behind
        };
        rest = skip_blank_lines(behind);
    }
    Ok(sections)
}

/// The key as it is stored: without blanks around it, underscores for those inside.
pub(super) fn normal(key: &str) -> String {
    key.split_whitespace().collect::<Vec<_>>().join("_")
}

/// A value or section's name in the form in which the grammar gives it back.
pub(super) fn escaped(value: &str) -> String {
    let mut escaped = String::new();
    for c in value.chars() {
        if matches!(c, '#' | ';' | '\\' | '"' | '\'' | ']') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

fn line_of(text: &str, rest: &str) -> usize {
    text[..text.len() - rest.len()].matches('\n').count() + 1
}

/// Passes over blanks, comments and line breaks, and what a line ends with.
fn skip_blank_lines(text: &str) -> &str {
    let skipped: IResult<&str, usize> =
        many1_count(alt((recognize(is_not_empty_blank), comment, continuation, line_ending))).parse(text);
    skipped.map_or(text, |(rest, _)| rest)
}

fn is_not_empty_blank(text: &str) -> IResult<&str, &str> {
    verify(space0, |blank: &str| !blank.is_empty()).parse(text)
}

fn comment(text: &str) -> IResult<&str, &str> {
    recognize((alt((char('#'), char(';'))), take_till(|c| c == '\n'))).parse(text)
}

/// A backslash at the end of a line joins it with the next one.
fn continuation(text: &str) -> IResult<&str, &str> {
    recognize((char('\\'), line_ending)).parse(text)
}

/// Blanks, perhaps a comment, and the end of the line or file.
fn end_of_line(text: &str) -> IResult<&str, ()> {
    value((), (space0, opt(comment), alt((line_ending, eof)))).parse(text)
}

fn heading(text: &str) -> IResult<&str, String> {
    let name = verify(characters("]"), |name: &String| !name.is_empty());
    terminated(delimited(char('['), name, char(']')), end_of_line).parse(text)
}

/// A key, and the `=` behind it if it is there.
fn key(text: &str) -> IResult<&str, (String, Option<char>)> {
    let (rest, key) = is_not("=[#;\r\n").parse(text)?;
    let key = normal(key);
    if key.is_empty() {
        return Err(nom::Err::Error(nom::error::make_error(text, nom::error::ErrorKind::Verify)));
    }
    opt(char('=')).map(|equals| (key.clone(), equals)).parse(rest)
}

/// The value behind `=`, up to and with the end of its line.
fn value_to_end(text: &str) -> IResult<&str, String> {
    let (text, _) = many0(alt((is_not_empty_blank, continuation))).parse(text)?;
    let quoted = |quote: char, name: &'static str| delimited(char(quote), characters(name), char(quote));
    let value = match text.chars().next() {
        Some('"') => terminated(quoted('"', "\""), end_of_line).parse(text),
        Some('\'') => terminated(quoted('\'', "'"), end_of_line).parse(text),
        _ => terminated(unquoted, end_of_line).parse(text),
    };
    value.map(|(rest, value)| (rest, value.trim().into()))
}

/// Text in which a backslash takes the meaning from the next character; it ends before any of `end`, a comment and
/// the end of the line.
fn characters(end: &'static str) -> impl Fn(&str) -> IResult<&str, String> {
    move |text| {
        let plain = verify(none_of(SPECIAL), |c| !end.contains(*c));
        let escaped = preceded(char('\\'), verify(anychar, |c| *c != '\n' && *c != '\r'));
        fold_many0(alt((plain, escaped)), String::new, |mut text, c| {
            text.push(c);
            text
        })
        .parse(text)
    }
}

/// As [`characters`], over as many lines as continuations join.
fn unquoted(text: &str) -> IResult<&str, String> {
    let piece = alt((characters_once, value(String::new(), continuation)));
    fold_many0(piece, String::new, |text, piece| text + &piece).parse(text)
}

fn characters_once(text: &str) -> IResult<&str, String> {
    verify(characters(""), |piece: &String| !piece.is_empty()).parse(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&[(&str, &str)], (usize, &str)>) {
        match (file(text), expected) {
            (Ok(sections), Ok(expected)) => {
                let lines: Vec<_> = sections.iter().flat_map(|(_, lines)| lines).collect();
                let expected: Vec<_> =
                    expected.iter().map(|(k, v)| (String::from(*k), String::from(*v))).collect();
                assert_eq!(lines, expected.iter().collect::<Vec<_>>(), "{text:?}");
            }
            (Err(error), Err((line, what))) => {
                assert!(error.line == line && error.what.contains(what), "{text:?}: {error}");
            }
            (got, expected) => panic!("{text:?}: {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn errors_name_their_line() {
        check("[global]\nfoo\n", Err((2, "`=`")));
        check("\n\n[global\nfoo = 1\n", Err((3, "section")));
        check("[global] x\n", Err((1, "alone")));
        check("[global]\n\n = 1\n", Err((3, "key = value")));
        check("# c\nfoo = 1\n[global]\n", Err((2, "before the first")));
        check("[global]\nfoo = \"a\nb = 1\n", Err((2, "quote")));
        check("[global]\nfoo = 'a' b\n", Err((2, "quote")));
        check("[]\n", Err((1, "section")));
    }

    #[test]
    fn an_empty_file_and_one_without_a_last_line_break_are_read() {
        check("", Ok(&[]));
        check(" # c", Ok(&[]));
        check("[g]\na = 1", Ok(&[("a", "1")]));
        check("[g]\na = \\", Err((2, "")));
    }
}
