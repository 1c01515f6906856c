use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::str::FromStr;

/// Bytes in one element of a name. Source: `vanadium/core:mounttablelib/mounttable.go`, maxNameElementLength.
pub const ELEMENT_BYTES_MAX: usize = 512;
/// Bytes in a name, separators included.
pub const NAME_BYTES_MAX: usize = 4096;
/// Elements in a name; bounds every walk and every recursion.
pub const ELEMENTS_MAX: usize = 64;

/// A clean name: elements separated by single slashes, none at either end. The empty name is the root.
///
/// Clones share the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// The root.
    pub fn root() -> Self {
        // Shared by all of them, without an allocation.
        Self(Arc::default())
    }

    /// Cleans and checks `text`; any run of slashes counts as one, and those at the ends as none.
    ///
    /// # Errors
    ///
    /// A limit of this module, or an element with a control character, which no listing could show.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.len() > NAME_BYTES_MAX {
            return Err(NameError::TooLong { bytes: text.len() });
        }
        let mut depth = 0_usize;
        let mut clean = true;
        for element in text.split('/') {
            if element.is_empty() {
                clean = clean && text.is_empty();
                continue;
            }
            check_element(element)?;
            depth += 1;
        }
        if depth > ELEMENTS_MAX {
            return Err(NameError::TooDeep { elements: depth });
        }
        if clean {
            return Ok(Self(Arc::from(text)));
        }
        let mut tidy = String::with_capacity(text.len());
        for element in text.split('/').filter(|element| !element.is_empty()) {
            push(&mut tidy, element);
        }
        Ok(Self(Arc::from(tidy)))
    }

    /// A name out of elements that are in a name already.
    pub(crate) fn from_clean(text: &str) -> Self {
        if text.is_empty() { Self::root() } else { Self(Arc::from(text)) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The elements, from the root down.
    pub fn elements(&self) -> impl DoubleEndedIterator<Item = &str> + Clone {
        // The root splits into one empty element, which is none.
        self.0.split('/').filter(|element| !element.is_empty())
    }

    /// How many elements there are.
    pub fn depth(&self) -> usize {
        self.elements().count()
    }

    /// This name with `suffix` below it.
    ///
    /// # Errors
    ///
    /// When the result is longer or deeper than a name may be.
    pub fn join(&self, suffix: &Self) -> Result<Self, NameError> {
        if suffix.is_root() {
            return Ok(self.clone());
        }
        let mut text = String::with_capacity(self.0.len() + suffix.0.len() + 1);
        text.push_str(&self.0);
        push(&mut text, &suffix.0);
        Self::parse(&text)
    }

    /// What is left of this name below `prefix`, element by element: `a/bc` is not below `a/b`.
    pub fn strip_prefix(&self, prefix: &Self) -> Option<Self> {
        if prefix.is_root() {
            return Some(self.clone());
        }
        let rest = self.0.strip_prefix(prefix.as_str())?;
        if rest.is_empty() {
            return Some(Self::root());
        }
        rest.strip_prefix('/').map(Self::from_clean)
    }

    /// Every prefix that is a name, the root first and this name last.
    pub fn prefixes(&self) -> impl Iterator<Item = Self> + '_ {
        let inner = self.0.match_indices('/').map(|(at, _)| at);
        let ends = (!self.is_root()).then_some(self.0.len());
        core::iter::once(Self::root())
            .chain(inner.chain(ends).filter_map(|end| self.0.get(..end).map(Self::from_clean)))
    }
}

/// Appends an element, or several, to a clean name.
pub(crate) fn push(name: &mut String, element: &str) {
    if !name.is_empty() {
        name.push('/');
    }
    name.push_str(element);
}

pub(crate) fn check_element(element: &str) -> Result<(), NameError> {
    if element.len() > ELEMENT_BYTES_MAX {
        return Err(NameError::ElementTooLong { bytes: element.len() });
    }
    if element.chars().any(char::is_control) {
        return Err(NameError::Control);
    }
    Ok(())
}

/// `text` as one element of a name: `%` and `/` become `%25` and `%2F`.
///
/// Source: `vanadium/core:v23/naming/parse.go`, EncodeAsNameElement.
pub fn escape_element(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '%' => out.push_str("%25"),
            '/' => out.push_str("%2F"),
            c => out.push(c),
        }
    }
    out
}

/// The text that [`escape_element`] made an element of; `None` for a `%` that begins no escape of two hex digits.
pub fn unescape_element(element: &str) -> Option<String> {
    let mut out = alloc::vec::Vec::with_capacity(element.len());
    let mut rest = element.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first != b'%' {
            out.push(first);
            rest = tail;
            continue;
        }
        let (digits, tail) = tail.split_first_chunk::<2>()?;
        let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
        out.push(u8::try_from(high? * 16 + low?).ok()?);
        rest = tail;
    }
    String::from_utf8(out).ok()
}

/// Why text is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// An element has a control character.
    #[error("a name has no control characters")]
    Control,
    /// An element is too long.
    #[error("an element of {bytes} bytes, {ELEMENT_BYTES_MAX} are allowed")]
    ElementTooLong {
        /// Its length.
        bytes: usize,
    },
    /// There are too many elements.
    #[error("a name of {elements} elements, {ELEMENTS_MAX} are allowed")]
    TooDeep {
        /// How many.
        elements: usize,
    },
    /// The whole is too long.
    #[error("a name of {bytes} bytes, {NAME_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec::Vec;

    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn s72_names_are_cleaned_and_counted() {
        for (text, clean, depth) in [
            ("", "", 0),
            ("/", "", 0),
            ("//", "", 0),
            ("foo/", "foo", 1),
            ("foo//bar", "foo/bar", 2),
            ("/foo/bar//baz//baf/", "foo/bar/baz/baf", 4),
            ("a%2Fb/%", "a%2Fb/%", 2),
        ] {
            assert_eq!((name(text).as_str(), name(text).depth()), (clean, depth), "{text}");
        }
    }

    #[test]
    fn an_element_of_512_bytes_is_a_name_and_one_of_513_is_none() {
        assert!(Name::parse(&"x".repeat(512)).is_ok());
        assert_eq!(Name::parse(&"x".repeat(513)), Err(NameError::ElementTooLong { bytes: 513 }));
        assert_eq!(Name::parse(&"a/".repeat(65)), Err(NameError::TooDeep { elements: 65 }));
        assert!(Name::parse(&"a/".repeat(64)).is_ok());
        assert!(Name::parse("a\nb").is_err());
    }

    #[test]
    fn prefixes_are_whole_elements() {
        let all: Vec<_> = name("a/b/c").prefixes().map(|n| n.to_string()).collect();
        assert_eq!(all, ["", "a", "a/b", "a/b/c"]);
        assert_eq!(name("").prefixes().count(), 1);
        assert_eq!(name("a/bc").strip_prefix(&name("a/b")), None);
        assert_eq!(name("a/b").strip_prefix(&name("a/b")), Some(Name::root()));
        assert_eq!(name("a/b").strip_prefix(&Name::root()), Some(name("a/b")));
        assert_eq!(name("a").join(&name("b/c")).unwrap(), name("a/b/c"));
        assert_eq!(Name::root().join(&name("b")).unwrap(), name("b"));
    }

    #[test]
    fn escapes_come_back() {
        for text in ["", "a/b", "50%", "%2F", "ünï/%"] {
            assert_eq!(unescape_element(&escape_element(text)).as_deref(), Some(text));
            assert!(!escape_element(text).contains('/'));
        }
        for bad in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(unescape_element(bad), None, "{bad}");
        }
    }
}
