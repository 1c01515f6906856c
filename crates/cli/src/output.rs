use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::args::{Format, Global};

/// Version of the objects that `--json` prints. A field's meaning never changes under the same number.
const SCHEMA: u32 = 1;

/// Standard output: data in the format that was asked for, and nothing else.
#[derive(Debug)]
pub struct Output<W: Write> {
    format: Format,
    out: W,
}

impl<W: Write> Output<W> {
    /// An output as `global` wants it.
    pub fn new(global: &Global, out: W) -> Self {
        Self { format: global.format(), out }
    }

    /// How answers are printed.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The command's answer: `answer`, which has to serialise as an object, with the schema's number; or what
    /// `plain` writes for people.
    ///
    /// # Errors
    ///
    /// If standard output is closed.
    pub fn answer(
        &mut self,
        answer: &impl Serialize,
        plain: impl FnOnce(&mut W) -> io::Result<()>,
    ) -> io::Result<()> {
        match self.format {
            Format::Plain | Format::Trace => plain(&mut self.out),
            Format::Json => self.line(&with_schema(answer)?),
            Format::JsonPretty => self.pretty(&with_schema(answer)?),
        }
    }

    /// One object of a stream, on a line of its own; or what `plain` writes for people.
    ///
    /// # Errors
    ///
    /// If standard output is closed.
    pub fn item(
        &mut self,
        item: &impl Serialize,
        plain: impl FnOnce(&mut W) -> io::Result<()>,
    ) -> io::Result<()> {
        match self.format {
            Format::Plain | Format::Trace => plain(&mut self.out),
            Format::Json | Format::JsonPretty => self.line(&with_schema(item)?),
        }
    }

    /// An answer that is JSON whatever the format is: indented for people, on one line with `--json`.
    ///
    /// # Errors
    ///
    /// If standard output is closed.
    pub fn json(&mut self, answer: &impl Serialize) -> io::Result<()> {
        let answer = with_schema(answer)?;
        if self.format == Format::Json { self.line(&answer) } else { self.pretty(&answer) }
    }

    /// Bytes as they are.
    ///
    /// # Errors
    ///
    /// If standard output is closed.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    /// Where text for people goes, when that is the format.
    pub fn plain(&mut self) -> &mut W {
        &mut self.out
    }

    /// Makes sure that everything has been written.
    ///
    /// # Errors
    ///
    /// If standard output is closed.
    pub fn finish(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn line(&mut self, value: &Value) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, value)?;
        self.out.write_all(b"\n")
    }

    fn pretty(&mut self, value: &Value) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut self.out, value)?;
        self.out.write_all(b"\n")
    }
}

/// The object with the schema's number in front of its fields.
fn with_schema(answer: &impl Serialize) -> io::Result<Value> {
    let mut object = Map::new();
    object.insert("schema".into(), SCHEMA.into());
    match serde_json::to_value(answer)? {
        Value::Object(fields) => object.extend(fields),
        other => {
            object.insert("value".into(), other);
        }
    }
    Ok(Value::Object(object))
}

/// A table without lines, for people.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::TableStyle::default());
    table.set_header(header.to_vec());
    table.add_rows(rows);
    table
}
