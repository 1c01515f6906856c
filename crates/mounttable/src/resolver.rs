use alloc::collections::{BTreeSet, VecDeque};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use futures::stream::{self, BoxStream, Stream, StreamExt};

use crate::{Dial, Directory, Error, Failure, Found, Kind, Live, Name, Pattern, Resolved, Server};

/// Tables that one resolution passes through. Source: `vanadium/core:x/ref/runtime/internal/naming/namespace/namespace.go`,
/// defaultMaxResolveDepth.
pub const DEPTH_MAX: usize = 32;
/// Tables below each other that one glob enters. Source: ibid., defaultMaxRecursiveGlobDepth.
pub const GLOB_DEPTH_MAX: usize = 10;
/// Mounts of tables that one glob enters in all.
pub const GLOB_TABLES_MAX: usize = 4096;
/// Equal tables that are asked the same at the same time.
const ASKED_MAX: usize = 3;

/// Names across mount tables that are mounted in each other: every step asks the tables that the last one led to.
///
/// Tables that are mounted on one name are taken as equal: some are asked side by side, and the first answer counts,
/// also if it is a refusal; the next are asked if those cannot be reached. Nothing is remembered between two calls, so
/// that a server which was withdrawn is gone for the next one.
#[derive(Debug)]
pub struct Resolver<D: Dial> {
    roots: Vec<Responsible<D::Table>>,
    dial: D,
}

/// A table, and what a name is called there.
#[derive(Debug)]
#[non_exhaustive]
pub struct Responsible<T> {
    /// The table.
    pub table: Arc<T>,
    /// Where it is; `None` for a root that was given as a value.
    pub address: Option<String>,
    /// The name there.
    pub name: Name,
}

impl<T> Responsible<T> {
    /// The same table, asked for what lies `suffix` below.
    fn below(&self, suffix: &Name) -> Result<Self, Failure> {
        let name = self.name.join(suffix).map_err(Error::Name)?;
        Ok(Self { name, ..self.clone() })
    }
}

impl<T> Clone for Responsible<T> {
    fn clone(&self) -> Self {
        Self { table: Arc::clone(&self.table), address: self.address.clone(), name: self.name.clone() }
    }
}

/// A part of the tree that a glob could not look into; the rest of its results is not affected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot look below {mount:?}")]
#[non_exhaustive]
pub struct Unseen {
    /// The name on which the tables are mounted.
    pub mount: Name,
    /// Why.
    #[source]
    pub failure: Failure,
}

impl<D: Dial> Resolver<D> {
    /// Names that begin at `roots`, which are equal to each other. Without any, only [`Resolver::at`] leads anywhere.
    pub fn new(roots: Vec<D::Table>, dial: D) -> Self {
        let root = |table| Responsible { table: Arc::new(table), address: None, name: Name::root() };
        Self { roots: roots.into_iter().map(root).collect(), dial }
    }

    /// Names that begin at a table of which the address is known, or at a name there.
    ///
    /// # Errors
    ///
    /// [`Failure::Foreign`] for an address that cannot be reached by its nature.
    pub fn at(&self, server: &Server) -> Result<Self, Failure>
    where
        D: Clone,
    {
        Ok(Self { roots: alloc::vec![self.open(server)?], dial: self.dial.clone() })
    }

    /// Where a name leads in the end: to servers that are no mount tables, or to tables that are mounted on exactly
    /// this name.
    ///
    /// # Errors
    ///
    /// What the last table that was asked says; [`Failure::TooDeep`].
    ///
    /// # Cancel safety
    ///
    /// Changes nothing, so it may be dropped at any point.
    pub async fn resolve(&self, name: &Name) -> Result<Resolved, Failure> {
        let mut step = self.start(name)?;
        let mut entered = 0;
        for _ in 0..DEPTH_MAX {
            let mut found = ask(&step).await?;
            let (depth, left) = (name.depth(), found.suffix.depth());
            if found.kind != Kind::Table || found.suffix.is_root() {
                // As the caller names it: tables further down know the end of the name only.
                let mount = name.elements().take(depth.saturating_sub(left).max(entered));
                found.mount = Name::from_clean(&mount.collect::<Vec<_>>().join("/"));
                return Ok(found);
            }
            entered = depth.saturating_sub(left);
            step = self.follow(&found.servers, &found.suffix)?;
        }
        Err(Failure::TooDeep { max: DEPTH_MAX })
    }

    /// The tables that hold a name, or would if it were mounted: the innermost ones on its path.
    ///
    /// # Errors
    ///
    /// As [`Resolver::resolve`], but for an unknown name.
    ///
    /// # Cancel safety
    ///
    /// Changes nothing, so it may be dropped at any point.
    pub async fn responsible(&self, name: &Name) -> Result<Vec<Responsible<D::Table>>, Failure> {
        let mut step = self.start(name)?;
        for _ in 0..DEPTH_MAX {
            match ask(&step).await {
                Ok(found) if found.kind == Kind::Table && !found.suffix.is_root() => {
                    step = self.follow(&found.servers, &found.suffix)?;
                }
                Ok(_) | Err(Failure::Refused(Error::NoSuchName | Error::Root)) => return Ok(step),
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::TooDeep { max: DEPTH_MAX })
    }

    /// Every name that matches, across tables. A table that was asked the same on the way is not asked again, so circles
    /// end.
    ///
    /// # Cancel safety
    ///
    /// Dropping the stream ends it.
    pub fn glob(&self, pattern: &Pattern) -> impl Stream<Item = Result<Found, Unseen>> + use<'_, D> {
        let walk = Walk::new(self, pattern);
        stream::unfold(walk, |mut walk| async move { walk.next().await.map(|item| (item, walk)) })
    }

    fn start(&self, name: &Name) -> Result<Vec<Responsible<D::Table>>, Failure> {
        self.roots.iter().map(|root| root.below(name)).collect()
    }

    fn open(&self, server: &Server) -> Result<Responsible<D::Table>, Failure> {
        let (address, name) = server.split();
        let table = Arc::new(self.dial.dial(address)?);
        Ok(Responsible { table, address: Some(address.to_string()), name })
    }

    /// The tables at `servers`, asked for `suffix`; those that cannot be are left out if there are others.
    fn follow(&self, servers: &[Live], suffix: &Name) -> Result<Vec<Responsible<D::Table>>, Failure> {
        let (mut tables, mut failure) = (Vec::new(), nobody());
        for live in servers {
            match self.open(&live.server).and_then(|table| table.below(suffix)) {
                Ok(table) => tables.push(table),
                Err(refused) => failure = refused,
            }
        }
        if tables.is_empty() { Err(failure) } else { Ok(tables) }
    }
}

fn nobody() -> Failure {
    Failure::Unreachable { reason: "there is no mount table to ask".into() }
}

/// One step of a resolution, by the first of equal tables that answers.
async fn ask<T: Directory>(tables: &[Responsible<T>]) -> Result<Resolved, Failure> {
    let mut failure = nobody();
    let mut answers =
        stream::iter(tables).map(|asked| asked.table.resolve(asked.name.clone())).buffer_unordered(ASKED_MAX);
    while let Some(answer) = answers.next().await {
        match answer {
            Err(unknown) if unknown.is_unknown() => failure = unknown,
            known => return known,
        }
    }
    Err(failure)
}

/// A part of the tree that a glob looks at, or has still to.
struct Branch<T> {
    tables: Vec<Responsible<T>>,
    /// The name of the mount, from where the glob began.
    prefix: Name,
    pattern: Pattern,
    /// What was asked of whom on the way here.
    way: Vec<BTreeSet<Question>>,
}

/// An address, a name there, and a pattern below it.
type Question = (String, Name, String);

impl<T> Branch<T> {
    /// The same question to the same table again would be a circle.
    fn questions(&self) -> BTreeSet<Question> {
        let pattern = self.pattern.to_string();
        let question = |asked: &Responsible<T>| {
            (asked.address.clone().unwrap_or_default(), asked.name.clone(), pattern.clone())
        };
        self.tables.iter().map(question).collect()
    }
}

/// A glob across tables, under way.
struct Walk<'a, D: Dial> {
    resolver: &'a Resolver<D>,
    ahead: VecDeque<Branch<D::Table>>,
    under_way: Option<UnderWay<D::Table>>,
    /// Branches that were planned so far.
    planned: usize,
    ready: VecDeque<Result<Found, Unseen>>,
}

struct UnderWay<T> {
    branch: Branch<T>,
    results: BoxStream<'static, Result<Found, Failure>>,
    begun: bool,
}

impl<'a, D: Dial> Walk<'a, D> {
    fn new(resolver: &'a Resolver<D>, pattern: &Pattern) -> Self {
        let (tables, pattern) = (resolver.roots.clone(), pattern.clone());
        let mut walk =
            Self { resolver, ahead: VecDeque::new(), under_way: None, planned: 0, ready: VecDeque::new() };
        walk.enter(Branch { tables, prefix: Name::root(), pattern, way: Vec::new() });
        walk
    }

    async fn next(&mut self) -> Option<Result<Found, Unseen>> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Some(item);
            }
            if self.under_way.is_none() {
                let branch = self.ahead.pop_front()?;
                self.enter(branch);
            }
            let Some(now) = &mut self.under_way else { continue };
            match now.results.next().await {
                Some(Ok(found)) => {
                    now.begun = true;
                    self.arrive(found);
                }
                Some(Err(failure)) => self.give_up(failure),
                None => self.under_way = None,
            }
        }
    }

    fn enter(&mut self, branch: Branch<D::Table>) {
        let results = match branch.tables.first() {
            Some(asked) => asked.table.glob(asked.name.clone(), branch.pattern.clone()).boxed(),
            None => stream::iter([Err(nobody())]).boxed(),
        };
        self.under_way = Some(UnderWay { branch, results, begun: false });
    }

    /// The table under way fails: an equal one is asked, unless some of the results would come twice then.
    fn give_up(&mut self, failure: Failure) {
        let Some(UnderWay { mut branch, begun, .. }) = self.under_way.take() else { return };
        if failure.is_unknown() && !begun && branch.tables.len() > 1 {
            branch.tables.remove(0);
            self.enter(branch);
        } else {
            self.ready.push_back(Err(Unseen { mount: branch.prefix, failure }));
        }
    }

    /// Something that the table under way has found: told if it matches, and to be entered if it leads on.
    fn arrive(&mut self, mut found: Found) {
        let Some(UnderWay { branch, .. }) = &self.under_way else { return };
        let rest = branch.pattern.rest(found.name.depth());
        // A table's own root is the name that it is mounted on, which was told when that was found.
        let told = !branch.way.is_empty() && found.name.is_root();
        let matches = branch.pattern.matches(&found.name) && !told;
        match branch.prefix.join(&found.name) {
            Ok(name) => found.name = name,
            Err(error) => {
                let (mount, failure) = (branch.prefix.clone(), Failure::Refused(Error::Name(error)));
                self.ready.push_back(Err(Unseen { mount, failure }));
                return;
            }
        }
        let leads_on = found.kind == Kind::Table && !found.servers.is_empty();
        let below = rest.filter(|_| leads_on).map(|pattern| self.plan(&found, pattern));
        let mount = found.name.clone();
        if matches {
            self.ready.push_back(Ok(found));
        }
        if let Some(Err(failure)) = below {
            self.ready.push_back(Err(Unseen { mount, failure }));
        }
    }

    /// Remembers to look below a mount, unless that was asked on the way there.
    fn plan(&mut self, mount: &Found, pattern: Pattern) -> Result<(), Failure> {
        let tables = self.resolver.follow(&mount.servers, &Name::root())?;
        let mut way = Vec::new();
        if let Some(UnderWay { branch, .. }) = &self.under_way {
            way.clone_from(&branch.way);
            way.push(branch.questions());
        }
        let depth = way.len();
        let branch = Branch { tables, prefix: mount.name.clone(), pattern, way };
        let questions = branch.questions();
        if branch.way.iter().any(|asked| !asked.is_disjoint(&questions)) {
            return Ok(());
        }
        if depth > GLOB_DEPTH_MAX || self.planned >= GLOB_TABLES_MAX {
            return Err(Failure::TooDeep { max: GLOB_DEPTH_MAX });
        }
        self.planned += 1;
        self.ahead.push_back(branch);
        Ok(())
    }
}
