use core::fmt::{self, Display, Write};

/// Text as HTML wants it, between tags and inside quoted attributes.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// A length of time in the two largest units that matter; from milliseconds.
#[derive(Clone, Copy)]
pub(super) struct Span(pub(super) u64);

impl Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1_000;
        match seconds {
            0 => write!(f, "{} ms", self.0),
            1..60 => write!(f, "{seconds}.{} s", self.0 % 1_000 / 100),
            60..3_600 => write!(f, "{} min {} s", seconds / 60, seconds % 60),
            3_600..86_400 => write!(f, "{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
            _ => write!(f, "{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
        }
    }
}

/// Bytes for people; the exact number is in the tooltip.
#[derive(Clone, Copy)]
pub(super) struct Bytes(pub(super) u64);

impl Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1_024 {
            return write!(f, "{} B", self.0);
        }
        let mut unit = 0;
        while unit + 1 < units.len() && self.0 >> (10 * (unit + 2)) > 0 {
            unit += 1;
        }
        // In tenths, rounded down; 128 bits, since ten times a size may not fit 64.
        let tenths = (u128::from(self.0) * 10) >> (10 * (unit + 1));
        let unit = units.get(unit).unwrap_or(&"EiB");
        write!(f, "<span title=\"{} bytes\">{}.{} {unit}</span>", self.0, tenths / 10, tenths % 10)
    }
}

/// How a word is meant; the word says it, too, so that nobody has to see the colour.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Badge {
    Good,
    Waiting,
    Bad,
}

impl Badge {
    const fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Waiting => "waiting",
            Self::Bad => "bad",
        }
    }

    pub(super) fn of(self, id: &str, word: &str) -> String {
        format!("<strong id=\"{id}\" class=\"badge {}\">{word}</strong>", self.class())
    }
}

/// What stands in a cell. Whatever came from outside is `Text`, and escaped where it is written.
pub(super) enum Cell {
    Text(String),
    Number(u64),
    Span(u64),
    Bytes(u64),
    Word(Badge, &'static str),
    /// There is none.
    None,
}

impl Cell {
    pub(super) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    pub(super) fn span(span: Option<u64>) -> Self {
        span.map_or(Self::None, Self::Span)
    }

    pub(super) fn number(number: Option<u64>) -> Self {
        number.map_or(Self::None, Self::Number)
    }

    pub(super) fn optional(text: Option<&String>) -> Self {
        text.map_or(Self::None, |text| Self::text(text))
    }
}

impl Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => Escaped(text).fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Span(span) => Span(*span).fmt(f),
            Self::Bytes(bytes) => Bytes(*bytes).fmt(f),
            Self::Word(badge, word) => write!(f, "<strong class=\"badge {}\">{word}</strong>", badge.class()),
            Self::None => f.write_str("<span class=\"muted\" aria-label=\"none\">–</span>"),
        }
    }
}
