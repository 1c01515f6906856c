//! A TOML document whose values are taken out one by one; what is left over is a fault.

use core::fmt::Display;
use core::ops::Range;
use core::str::FromStr;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Fault;

/// The longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A key that is set elsewhere than in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a plain record")]
pub struct Override {
    /// Where: `environment CUTTLEBONE_NODE_NAME`, `--set`.
    pub at: String,
    /// The key, with dots.
    pub key: String,
    /// The value: TOML, or else text as it is.
    pub value: String,
}

impl Override {
    /// Those in the environment: `CUTTLEBONE_BUCKET_DIR` is `bucket.dir`, and `CUTTLEBONE_SOURCE_FOLLOW_ORIGIN` is
    /// `source.follow.origin`. Variables that are no key are left to whoever else reads them.
    pub fn of_environment(variables: impl IntoIterator<Item = (String, String)>) -> Vec<Self> {
        let known = |name: &str| super::schema::KEYS.iter().find(|key| variable(key) == name);
        let all = variables.into_iter().filter_map(|(name, value)| {
            let key = (*known(&name)?).to_owned();
            Some(Self { at: format!("environment {name}"), key, value })
        });
        all.collect()
    }
}

/// The variable that overrides a key.
fn variable(key: &str) -> String {
    format!("CUTTLEBONE_{}", key.replace('.', "_").to_uppercase())
}

/// The file's text.
pub(super) fn text(file: &Path) -> Result<String, Fault> {
    let fault = |what: String, hint: &str| Fault {
        at: file.display().to_string(),
        key: String::new(),
        what,
        hint: hint.into(),
    };
    let read = || {
        let mut text = String::new();
        std::fs::File::open(file)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
        Ok(text)
    };
    let text = read().map_err(|error: std::io::Error| {
        fault(format!("cannot be read: {error}"), "give the file with --config")
    })?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(fault(format!("longer than {FILE_BYTES_MAX} bytes"), "this is hardly a configuration"));
    }
    Ok(text)
}

/// What was not taken yet, by key, and what was found wrong on the way.
pub(super) struct Document {
    left: BTreeMap<String, Entry>,
    faults: Vec<Fault>,
    values: BTreeMap<String, String>,
    places: BTreeMap<String, String>,
    name: String,
}

struct Entry {
    at: String,
    value: Plain,
}

/// A value without its spans.
enum Plain {
    Text(String),
    Number(i64),
    Bool(bool),
    List(Vec<Plain>),
    Other(&'static str),
}

impl Document {
    pub(super) fn parse(text: &str, name: &str, overrides: &[Override]) -> Result<Self, Fault> {
        let lines = Lines::new(text, name);
        let table = DeTable::parse(text).map_err(|error| Fault {
            at: error.span().map_or_else(|| name.to_owned(), |span| lines.at(&span)),
            key: String::new(),
            what: format!("not TOML: {}", error.message()),
            hint: "see https://toml.io".into(),
        })?;
        let mut left = BTreeMap::new();
        flatten("", table.get_ref(), &lines, &mut left);
        let (faults, values, places) = Default::default();
        let mut document = Self { left, faults, values, places, name: name.into() };
        for Override { at, key, value } in overrides {
            let entry = Entry { at: at.clone(), value: plain_override(value) };
            document.left.insert(key.clone(), entry);
        }
        Ok(document)
    }

    /// What is wrong, what was taken, and where it was.
    pub(super) fn finish(mut self) -> (Vec<Fault>, BTreeMap<String, String>, BTreeMap<String, String>) {
        for (key, entry) in core::mem::take(&mut self.left) {
            let hint = match nearest(&key) {
                Some(known) => format!("did you mean {known}?"),
                None => "docs/node.md has every key".into(),
            };
            self.faults.push(Fault { at: entry.at, key, what: "there is no such key".into(), hint });
        }
        self.faults.sort_by_key(|fault| line_of(&fault.at));
        (self.faults, self.values, self.places)
    }

    /// Whether a key of the section is set.
    pub(super) fn has(&self, section: &str) -> bool {
        self.left.keys().any(|key| key.strip_prefix(section).is_some_and(|rest| rest.starts_with('.')))
    }

    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        let entry = self.take(key)?;
        match entry.value {
            Plain::Text(text) => {
                self.note(key, &entry.at, &text);
                Some(text)
            }
            other => self.wrong(key, &entry.at, &other, "text in quotes"),
        }
    }

    pub(super) fn flag(&mut self, key: &str, default: bool) -> bool {
        let Some(entry) = self.take(key) else { return default };
        match entry.value {
            Plain::Bool(value) => {
                self.note(key, &entry.at, &value);
                value
            }
            other => self.wrong(key, &entry.at, &other, "true or false").unwrap_or(default),
        }
    }

    /// A number within `range`; the hint says its unit.
    pub(super) fn number(&mut self, key: &str, range: Range<u64>, unit: &str) -> Option<u64> {
        let entry = self.take(key)?;
        let Plain::Number(number) = entry.value else {
            return self.wrong(key, &entry.at, &entry.value, "a number");
        };
        let number = u64::try_from(number).ok().filter(|number| range.contains(number));
        if let Some(number) = number {
            self.note(key, &entry.at, &number);
        } else {
            let hint = format!("from {} to {} {unit}", range.start, range.end - 1);
            self.fault(key, &entry.at, "outside its range", &hint);
        }
        number
    }

    /// Text that means something.
    pub(super) fn parsed<T: FromStr>(&mut self, key: &str, hint: &str) -> Option<T>
    where
        T::Err: Display,
    {
        let text = self.text(key)?;
        self.read(key, &text, hint)
    }

    /// A list of texts that mean something.
    pub(super) fn list<T: FromStr>(&mut self, key: &str, hint: &str) -> Option<Vec<T>>
    where
        T::Err: Display,
    {
        let entry = self.take(key)?;
        let Plain::List(elements) = entry.value else {
            return self.wrong(key, &entry.at, &entry.value, "a list of texts");
        };
        let mut texts = Vec::new();
        for element in elements {
            match element {
                Plain::Text(text) => texts.push(text),
                other => return self.wrong(key, &entry.at, &other, "a list of texts"),
            }
        }
        self.note(key, &entry.at, &texts.join(","));
        if texts.is_empty() {
            self.fault(key, &entry.at, "an empty list", hint);
            return None;
        }
        // Each that is wrong is named.
        let read: Vec<_> = texts.iter().map(|text| self.read(key, text, hint)).collect();
        read.into_iter().collect()
    }

    /// A key that has to be there, since its section is.
    pub(super) fn missing(&mut self, key: &str, hint: &str) {
        // One that is there and wrong has been named already.
        if !self.places.contains_key(key) {
            let at = self.name.clone();
            self.fault(key, &at, "has to be set", hint);
        }
    }

    /// Something that is wrong with a key that was taken.
    pub(super) fn refuse(&mut self, key: &str, what: &str, hint: &str) {
        let at = self.places.get(key).cloned().unwrap_or_else(|| self.name.clone());
        self.fault(key, &at, what, hint);
    }

    fn read<T: FromStr>(&mut self, key: &str, text: &str, hint: &str) -> Option<T>
    where
        T::Err: Display,
    {
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.refuse(key, &format!("{text:?}: {error}"), hint);
                None
            }
        }
    }

    fn take(&mut self, key: &str) -> Option<Entry> {
        let entry = self.left.remove(key)?;
        self.places.insert(key.into(), entry.at.clone());
        Some(entry)
    }

    fn note(&mut self, key: &str, at: &str, value: &dyn ToString) {
        self.values.insert(key.into(), value.to_string());
        self.places.insert(key.into(), at.into());
    }

    fn wrong<T>(&mut self, key: &str, at: &str, got: &Plain, wanted: &str) -> Option<T> {
        self.fault(key, at, &format!("{} where {wanted} is wanted", got.kind()), "");
        None
    }

    fn fault(&mut self, key: &str, at: &str, what: &str, hint: &str) {
        let (at, key, what, hint) = (at.into(), key.into(), what.into(), hint.into());
        self.faults.push(Fault { at, key, what, hint });
    }
}

impl Plain {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Number(_) => "a number",
            Self::Bool(_) => "true or false",
            Self::List(_) => "a list",
            Self::Other(kind) => kind,
        }
    }
}

/// Line numbers of a text.
struct Lines<'a> {
    text: &'a str,
    name: &'a str,
}

impl<'a> Lines<'a> {
    const fn new(text: &'a str, name: &'a str) -> Self {
        Self { text, name }
    }

    fn at(&self, span: &Range<usize>) -> String {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        format!("{}:{}", self.name, before.bytes().filter(|byte| *byte == b'\n').count() + 1)
    }
}

/// In the order of the file, whatever precedes the line in the name.
fn line_of(at: &str) -> (usize, String) {
    let line = at.rsplit(':').next().and_then(|line| line.parse().ok());
    (line.unwrap_or(usize::MAX), at.into())
}

fn flatten(path: &str, table: &DeTable<'_>, lines: &Lines<'_>, into: &mut BTreeMap<String, Entry>) {
    for (key, value) in table {
        let name = key.get_ref();
        let path = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
        match value.get_ref() {
            // A section that is empty says nothing, but a misspelt one is worth a word.
            DeValue::Table(table) if !table.is_empty() => flatten(&path, table, lines, into),
            DeValue::Table(_) if super::schema::is_section(&path) => {}
            value => drop(into.insert(path, Entry { at: lines.at(&key.span()), value: plain(value) })),
        }
    }
}

fn plain(value: &DeValue<'_>) -> Plain {
    match value {
        DeValue::String(text) => Plain::Text(text.to_string()),
        DeValue::Integer(number) => {
            let digits: String = number.as_str().chars().filter(|digit| *digit != '_').collect();
            i64::from_str_radix(&digits, number.radix())
                .map_or(Plain::Other("too large a number"), Plain::Number)
        }
        DeValue::Boolean(value) => Plain::Bool(*value),
        DeValue::Array(elements) => Plain::List(
            elements.iter().map(|element: &Spanned<DeValue<'_>>| plain(element.get_ref())).collect(),
        ),
        DeValue::Float(_) => Plain::Other("a broken number"),
        DeValue::Datetime(_) => Plain::Other("a date"),
        DeValue::Table(_) => Plain::Other("a section"),
    }
}

/// A value from outside the file: as TOML if it is some, else as text.
fn plain_override(text: &str) -> Plain {
    let line = format!("value = {text}");
    match DeTable::parse(&line) {
        Ok(table) => match table.get_ref().get("value") {
            Some(value) => plain(value.get_ref()),
            None => Plain::Text(text.into()),
        },
        Err(_) => Plain::Text(text.into()),
    }
}

/// The key that was probably meant: one that differs in two letters at most.
fn nearest(key: &str) -> Option<&'static str> {
    let best = super::schema::KEYS.iter().map(|known| (distance(key, known), *known)).min()?;
    (best.0 <= 2).then_some(best.1)
}

/// How many letters have to be changed, added or left out (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = core::mem::replace(&mut row[0], i + 1);
        for (j, other) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
