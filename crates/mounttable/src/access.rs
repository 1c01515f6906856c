use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use crate::Error;
use crate::name::ELEMENT_BYTES_MAX;

/// Who asks: parts separated by `:`, from the authority down, as `ann` or `ann:phone`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal(Arc<str>);

impl Principal {
    /// The principal called `text`.
    pub fn new(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `pattern` means this principal: itself or a part above it, itself alone with `:$`, anybody with `...`.
    ///
    /// Source: `vanadium/core:v23/security/blessing_pattern.go`, MatchedBy.
    pub fn matches(&self, pattern: &str) -> bool {
        if pattern == "..." {
            return true;
        }
        if let Some(exact) = pattern.strip_suffix(":$") {
            return &*self.0 == exact;
        }
        self.0.strip_prefix(pattern).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// What somebody may do at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "std", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[expect(clippy::exhaustive_enums, reason = "the tags of the original, to which rights were given by name")]
pub enum Tag {
    /// Everything: set permissions, delete, and what the other tags allow.
    Admin,
    /// Make names below.
    Create,
    /// Mount and unmount servers here.
    Mount,
    /// List what is below, and resolve through.
    Read,
    /// Resolve through.
    Resolve,
}

impl Tag {
    /// Any of these lets somebody pass through a node on the way to a name below it.
    pub(crate) const TRAVERSE: &[Self] = &[Self::Read, Self::Resolve, Self::Create];
    pub(crate) const ANY: &[Self] = &[Self::Read, Self::Resolve, Self::Create, Self::Mount];
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Admin => "admin",
            Self::Create => "create",
            Self::Mount => "mount",
            Self::Read => "read",
            Self::Resolve => "resolve",
        })
    }
}

/// Principals in one list of [`Permissions`].
pub const PATTERNS_MAX: usize = 1024;

/// Who has which tag: lists of patterns of principals, sorted and without repeats.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "std", derive(serde::Serialize, serde::Deserialize))]
pub struct Permissions(BTreeMap<Tag, Vec<String>>);

impl Permissions {
    /// Nobody may do anything.
    pub fn none() -> Self {
        Self::default()
    }

    /// Gives `tag` to whoever `pattern` means; giving it twice is giving it once.
    #[must_use]
    pub fn allow(mut self, tag: Tag, pattern: &str) -> Self {
        self.add(tag, pattern);
        self
    }

    /// The patterns that have `tag`.
    pub fn patterns(&self, tag: Tag) -> &[String] {
        self.0.get(&tag).map_or(&[], Vec::as_slice)
    }

    /// Whether `principal` has one of `tags`; an admin has them all.
    pub fn allows(&self, principal: &Principal, tags: &[Tag]) -> bool {
        core::iter::once(&Tag::Admin)
            .chain(tags)
            .any(|tag| self.patterns(*tag).iter().any(|pattern| principal.matches(pattern)))
    }

    pub(crate) fn add(&mut self, tag: Tag, pattern: &str) {
        let list = self.0.entry(tag).or_default();
        if let Err(at) = list.binary_search_by(|present| present.as_str().cmp(pattern)) {
            list.insert(at, pattern.into());
        }
    }

    /// A template with every `%%` replaced by `element`.
    pub(crate) fn for_element(&self, element: &str) -> Self {
        let mut out = Self::default();
        for (tag, patterns) in &self.0 {
            for pattern in patterns {
                out.add(*tag, &pattern.replace("%%", element));
            }
        }
        out
    }

    /// Sorted, without repeats, within the limits: lists from outside may be neither.
    pub(crate) fn normalised(&self) -> Result<Self, Error> {
        let mut out = Self::default();
        for (tag, patterns) in &self.0 {
            if patterns.len() > PATTERNS_MAX
                || patterns.iter().any(|pattern| pattern.len() > ELEMENT_BYTES_MAX)
            {
                return Err(Error::Full { limit: "patterns of principals", max: PATTERNS_MAX });
            }
            for pattern in patterns {
                out.add(*tag, pattern);
            }
        }
        Ok(out)
    }
}

/// What counts the changes of one node's permissions; a change can be made conditional on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "std", derive(serde::Serialize, serde::Deserialize))]
#[expect(clippy::exhaustive_structs, reason = "a number with a meaning")]
pub struct Version(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_parts() {
        let phone = Principal::new("ann:phone");
        for (pattern, matches) in [
            ("ann", true),
            ("ann:phone", true),
            ("ann:phone:$", true),
            ("...", true),
            ("ann:$", false),
            ("an", false),
            ("ann:phone:app", false),
            ("bob", false),
        ] {
            assert_eq!(phone.matches(pattern), matches, "{pattern}");
        }
    }
}
