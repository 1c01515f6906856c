//! Ceph's configuration files.

use core::fmt;
use core::str::FromStr;
use std::collections::BTreeMap;

mod grammar;

/// A configuration file: sections with keys and values.
///
/// Keys are kept with underscores for blanks, so `mon host` and `mon_host` are one key; `mon-host` is another one
/// that no Ceph tool looks at. Of several lines with one key in sections of one name, the last counts.
///
/// Read as Ceph reads it, with two exceptions: the last line may lack its line break (Ceph refuses the whole file),
/// and a key before the first section is always an error (Ceph ignores a file that is one such line).
///
/// Source: `ceph/ceph:src/common/ConfUtils.cc`, `IniGrammer`; each rule compared with `ceph-conf` 16.2.15.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conf {
    sections: BTreeMap<String, BTreeMap<String, String>>,
}

/// A configuration file that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
#[non_exhaustive]
pub struct ParseError {
    /// Number of the line, from 1.
    pub line: usize,
    /// What was expected there.
    pub what: &'static str,
}

/// How often values may refer to values that refer to values.
const DEPTH_MAX: usize = 8;
/// Longest value that expansion may produce, in bytes.
const VALUE_BYTES_MAX: usize = 64 * 1024;

impl Conf {
    /// The value of `key` in the first of these sections that has it.
    pub fn get<'a>(&self, sections: impl IntoIterator<Item = &'a str>, key: &str) -> Option<&str> {
        let key = grammar::normal(key);
        sections.into_iter().find_map(|name| Some(self.sections.get(name)?.get(&key)?.as_str()))
    }

    /// The names of all sections, sorted.
    pub fn sections(&self) -> impl Iterator<Item = &str> {
        self.sections.keys().map(String::as_str)
    }

    /// `value` with `$name` and `${name}` replaced by what `variable` answers, and what those values refer to.
    ///
    /// Unknown names stay as they are, and so does what refers to itself.
    pub fn expand(value: &str, variable: &dyn Fn(&str) -> Option<String>) -> String {
        let mut expanded = String::new();
        Self::expand_into(&mut expanded, value, variable, DEPTH_MAX);
        expanded
    }

    fn expand_into(into: &mut String, value: &str, variable: &dyn Fn(&str) -> Option<String>, depth: usize) {
        let mut rest = value;
        while let Some((before, after)) = rest.split_once('$') {
            into.push_str(before);
            let in_braces = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
            let (name, behind) = in_braces.unwrap_or_else(|| {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                after.split_at(end.unwrap_or(after.len()))
            });
            match variable(name).filter(|_| depth > 0 && into.len() < VALUE_BYTES_MAX) {
                Some(text) => Self::expand_into(into, &text, variable, depth - 1),
                None => into.push_str(&rest[before.len()..rest.len() - behind.len()]),
            }
            rest = behind;
        }
        into.push_str(rest);
    }
}

impl FromStr for Conf {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut conf = Self::default();
        for (name, lines) in grammar::file(text)? {
            let section = conf.sections.entry(name).or_default();
            section.extend(lines);
        }
        Ok(conf)
    }
}

impl fmt::Display for Conf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, lines) in &self.sections {
            writeln!(f, "[{}]", grammar::escaped(name))?;
            for (key, value) in lines {
                writeln!(f, "{key} = {}", grammar::escaped(value))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_and_circles_end() {
        let variable = |name: &str| match name {
            "name" => Some("client.admin".into()),
            "a" => Some("<$b>".into()),
            "b" => Some("$a".into()),
            "c" => Some("$c$c".into()),
            _ => None,
        };
        assert_eq!(
            Conf::expand("x.$name.y ${name}z $$ $none", &variable),
            "x.client.admin.y client.adminz $$ $none"
        );
        assert!(Conf::expand("$a", &variable).starts_with("<<<"));
        assert!(Conf::expand(&"$c".repeat(1000), &variable).len() < 2 * VALUE_BYTES_MAX);
    }

    #[test]
    fn what_is_printed_reads_the_same() {
        let text = "[global]\nmon host = a # b\nk = \" x \\# \\\\ y\"\n[client.a b]\nz=1\n";
        let conf: Conf = text.parse().unwrap();
        assert_eq!(conf.get(["global"], "k"), Some("x # \\ y"));
        assert_eq!(conf.to_string().parse(), Ok(conf));
    }
}
