use std::sync::Arc;

use cuttlebone_mounttable::Principal;

use crate::config::Bearer;

/// Principals that one service tells apart.
pub const PRINCIPALS_MAX: usize = 1024;
/// Bytes of a principal's name, and of its secret.
const WORD_BYTES_MAX: usize = 512;

/// Who may show which secret.
///
/// Whoever shows the service's own bearer token is its owner. Where the service has no bearer token and no principals,
/// everybody is.
#[derive(Clone, Debug)]
pub struct Principals {
    owner: Principal,
    known: Arc<[(Bearer, Principal)]>,
}

impl Principals {
    /// Nobody but `owner`.
    pub fn owner(owner: Principal) -> Self {
        Self { owner, known: Arc::default() }
    }

    /// Reads a list: a principal and its secret on each line, with blanks between them. Empty lines and those that begin
    /// with `#` are left out. A principal may have several secrets, so that they can be changed one after the other.
    ///
    /// # Errors
    ///
    /// The first line that is wrong, by its number; its text is not repeated.
    pub fn parse(owner: Principal, text: &str) -> Result<Self, PrincipalsError> {
        let mut known: Vec<(Bearer, Principal)> = Vec::new();
        let lines = text.lines().map(str::trim).enumerate();
        for (at, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let mut words = line.split_whitespace();
            let (Some(name), Some(secret), None) = (words.next(), words.next(), words.next()) else {
                return Err(PrincipalsError::Line(at + 1));
            };
            let bearer = Bearer::new(secret).filter(|_| name.len().max(secret.len()) <= WORD_BYTES_MAX);
            let bearer = bearer.ok_or(PrincipalsError::Line(at + 1))?;
            if known.iter().any(|(other, _)| other.admits(Some(bearer.header().as_bytes()))) {
                return Err(PrincipalsError::Twice(at + 1));
            }
            if known.len() >= PRINCIPALS_MAX {
                return Err(PrincipalsError::TooMany);
            }
            known.push((bearer, Principal::new(name)));
        }
        Ok(Self { owner, known: known.into() })
    }

    /// The owner, if whoever may see the status page is the owner: they have shown the bearer token, or nobody has to show
    /// anything.
    pub(crate) fn onlooker(&self, bearer: Option<&Bearer>) -> Option<Principal> {
        (bearer.is_some() || self.known.is_empty()).then(|| self.owner.clone())
    }

    /// Who shows `shown`; `None` for somebody who has to show something else.
    pub(crate) fn identify(&self, bearer: Option<&Bearer>, shown: Option<&[u8]>) -> Option<Principal> {
        // All of them are compared, so that the time does not tell which one it was.
        let found = |known, (secret, who): &'_ (Bearer, Principal)| {
            if secret.admits(shown) { Some(who.clone()) } else { known }
        };
        let known = self.known.iter().fold(None, found);
        let owns = match bearer {
            Some(bearer) => bearer.admits(shown),
            None => self.known.is_empty(),
        };
        known.or_else(|| owns.then(|| self.owner.clone()))
    }
}

/// Why a list of principals cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrincipalsError {
    /// Not a principal and a secret of at most 512 bytes each.
    #[error("line {0} is not a principal and a secret")]
    Line(usize),
    /// More than [`PRINCIPALS_MAX`].
    #[error("more than {PRINCIPALS_MAX} principals")]
    TooMany,
    /// Two principals could not be told apart.
    #[error("line {0} has a secret that an earlier line has")]
    Twice(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Principals, PrincipalsError> {
        Principals::parse(Principal::new("owner"), text)
    }

    #[test]
    fn whoever_shows_a_secret_is_its_principal() {
        let principals = read("# who is who\n\nann s3cret\nbob:phone other\nann second\n").unwrap();
        let bearer = Bearer::new("top").unwrap();
        let who = |shown: &str| {
            let who = principals.identify(Some(&bearer), Some(shown.as_bytes()));
            who.map(|who| who.to_string())
        };
        for (shown, expected) in [
            ("Bearer s3cret", Some("ann")),
            ("Bearer second", Some("ann")),
            ("Bearer other", Some("bob:phone")),
            ("Bearer top", Some("owner")),
            ("Bearer s3cre", None),
            ("s3cret", None),
            ("", None),
        ] {
            assert_eq!(who(shown).as_deref(), expected, "{shown}");
        }
        assert_eq!(principals.identify(None, None), None, "there are principals, so one has to be shown");
        let alone = Principals::owner(Principal::new("owner"));
        assert_eq!(alone.identify(None, None), Some(Principal::new("owner")));
        assert_eq!(alone.identify(Some(&bearer), None), None);
    }

    #[test]
    fn a_line_that_is_wrong_is_named_and_not_repeated() {
        for (text, expected) in [
            ("ann", PrincipalsError::Line(1)),
            ("ann a\nbob a b", PrincipalsError::Line(2)),
            ("ann same\nbob same", PrincipalsError::Twice(2)),
        ] {
            assert_eq!(read(text).unwrap_err(), expected);
        }
        let many: Vec<_> = (0..=PRINCIPALS_MAX).map(|at| format!("p{at} s{at}")).collect();
        assert_eq!(read(&many.join("\n")).unwrap_err(), PrincipalsError::TooMany);
        assert!(!format!("{:?}", read("ann s3cret").unwrap()).contains("s3cret"));
    }
}
