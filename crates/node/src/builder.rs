use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;
use std::path::PathBuf;
use std::sync::Arc;

use cuttlebone_tokens::Registry;
use cuttlebone_wire::EntityAddrs;

use crate::ground::Shared;
use crate::node::{Door, Node, Parts};
use crate::part::{Callers, Plan, Service, Sink, Source};
use crate::{Face, NodeBucket, Publish};

/// What a node consists of. Parts come in any order; [`build`](Self::build) finds every conflict, and nothing is bound or
/// dialled before [`Node::run`].
#[derive(Default)]
pub struct Builder {
    name: Option<String>,
    listen: Vec<SocketAddr>,
    advertise: Option<EntityAddrs>,
    bucket: Vec<NodeBucket>,
    copy: Vec<PathBuf>,
    tokens: Vec<Registry>,
    sources: Vec<Box<dyn Source>>,
    sinks: Vec<Box<dyn Sink>>,
    services: Vec<Box<dyn Service>>,
    deadlines: Deadlines,
}

/// How long each step of a node's end may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "knobs, set with `..Deadlines::default()`")]
pub struct Deadlines {
    /// Withdrawing names; what could not be withdrawn lapses by its time to live.
    pub names: Duration,
    /// Waiting for the tokens that are out.
    pub tokens: Duration,
    /// Ending sources.
    pub sources: Duration,
    /// Putting on the disk what is in memory. Missing this one is an error.
    pub flush: Duration,
    /// Ending sinks and services.
    pub services: Duration,
}

impl Deadlines {
    /// How long the built-in parts may take to end, all steps together.
    pub fn total(&self) -> Duration {
        let Self { names, tokens, sources, flush, services } = *self;
        [names, tokens, sources, flush, services].into_iter().fold(Duration::ZERO, Duration::saturating_add)
    }
}

impl Default for Deadlines {
    /// 5 s for names and sources, 10 s for tokens, a minute for the disk, 5 s for the rest.
    fn default() -> Self {
        let (short, long) = (Duration::from_secs(5), Duration::from_secs(60));
        Self { names: short, tokens: Duration::from_secs(10), sources: short, flush: long, services: short }
    }
}

/// Why a node cannot be put together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// There is no part.
    #[error("a node without a source, a sink and a service has nothing to do")]
    NothingToDo,
    /// There can be one of it.
    #[error("there is more than one {0}")]
    Twice(&'static str),
    /// Two parts have the same name.
    #[error("two parts are called {0}")]
    SameName(String),
    /// A part needs what is not there.
    #[error("{part} needs {what}")]
    Missing {
        /// What the part is called.
        part: String,
        /// What it needs.
        what: &'static str,
    },
    /// Two sinks want the same callers.
    #[error("{by} and {also} want the same callers")]
    Claimed {
        /// The one that was there first.
        by: String,
        /// The other one.
        also: String,
    },
    /// The part itself says that it cannot work.
    #[error("{part}: {why}")]
    Refused {
        /// What the part is called.
        part: String,
        /// For people.
        why: String,
    },
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources: Vec<_> = self.sources.iter().map(|part| part.name()).collect();
        let sinks: Vec<_> = self.sinks.iter().map(|part| part.name()).collect();
        let services: Vec<_> = self.services.iter().map(|part| part.name()).collect();
        let mut shown = f.debug_struct("Builder");
        shown.field("name", &self.name).field("sources", &sources).field("sinks", &sinks);
        shown.field("services", &services).finish_non_exhaustive()
    }
}

impl Builder {
    /// What the node is called: in its status, and towards other nodes. Default `cuttlebone`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Where peers open links.
    #[must_use]
    pub fn listen(mut self, addr: SocketAddr) -> Self {
        self.listen.push(addr);
        self
    }

    /// The addresses under which peers dial us, where they differ from the one to listen on. A monitor drops what comes
    /// from an address that it did not dial.
    #[must_use]
    pub fn advertise(mut self, addrs: EntityAddrs) -> Self {
        self.advertise = Some(addrs);
        self
    }

    /// What the node keeps. It puts it on the disk as long as it runs.
    #[must_use]
    pub fn bucket(mut self, bucket: NodeBucket) -> Self {
        self.bucket.push(bucket);
        self
    }

    /// The directory of a copy of a monitor's store.
    #[must_use]
    pub fn copy(mut self, dir: impl Into<PathBuf>) -> Self {
        self.copy.push(dir.into());
        self
    }

    /// The token registry that admits and fences whoever drives the node.
    #[must_use]
    pub fn tokens(mut self, registry: Registry) -> Self {
        self.tokens.push(registry);
        self
    }

    /// Where data comes from.
    #[must_use]
    pub fn source(mut self, source: impl Source) -> Self {
        self.sources.push(Box::new(source));
        self
    }

    /// Who is served over links.
    #[must_use]
    pub fn sink(mut self, sink: impl Sink) -> Self {
        self.sinks.push(Box::new(sink));
        self
    }

    /// What works beside.
    #[must_use]
    pub fn service(mut self, service: impl Service) -> Self {
        self.services.push(Box::new(service));
        self
    }

    /// What is announced, where: a service.
    #[must_use]
    pub fn publish(self, publish: Publish) -> Self {
        self.service(publish)
    }

    /// Where the node is looked at and driven over HTTP: a service.
    #[must_use]
    pub fn status(self, face: Face) -> Self {
        self.service(face)
    }

    /// How long each step of the end may take.
    #[must_use]
    pub fn deadlines(mut self, deadlines: Deadlines) -> Self {
        self.deadlines = deadlines;
        self
    }

    /// Puts the node together.
    ///
    /// # Errors
    ///
    /// [`BuildError`] names the first conflict.
    pub fn build(self) -> Result<Node, BuildError> {
        let Self { name, listen, advertise, bucket, copy, tokens, sources, sinks, services, deadlines } =
            self;
        let bucket = at_most_one(bucket, "bucket")?;
        let copy = at_most_one(copy, "directory for a copy")?;
        let registry = at_most_one(tokens, "token registry")?;
        let listen = at_most_one(listen, "address to listen on")?;
        let plan = Plan {
            bucket: bucket.is_some(),
            copy: copy.is_some(),
            listen: listen.is_some(),
            tokens: registry.is_some(),
        };
        let parts = Parts { sources, sinks, services };
        parts.check(&plan)?;
        if let Some(sink) = parts.sinks.first()
            && listen.is_none()
        {
            return Err(missing(sink.name(), "an address to listen on"));
        }
        if let Some(addr) = listen
            && addr.ip().is_unspecified()
            && advertise.is_none()
        {
            return Err(missing(
                "the listener",
                "the addresses under which peers dial it, which 0.0.0.0 does not say",
            ));
        }
        let name = name.unwrap_or_else(|| "cuttlebone".into());
        let shared = Arc::new(Shared::new(name, bucket, copy, registry, parts.sources.len()));
        shared.set_deadlines(deadlines);
        Ok(Node::new(shared, parts, listen.map(|addr| Door { addr, advertise })))
    }
}

pub(crate) fn missing(part: &str, what: &'static str) -> BuildError {
    BuildError::Missing { part: part.into(), what }
}

fn at_most_one<T>(mut all: Vec<T>, what: &'static str) -> Result<Option<T>, BuildError> {
    let one = all.pop();
    if all.is_empty() { Ok(one) } else { Err(BuildError::Twice(what)) }
}

impl Parts {
    /// Names, callers, and what each part says itself.
    fn check(&self, plan: &Plan) -> Result<(), BuildError> {
        let sources = self.sources.iter().map(|part| part.name());
        let sinks = self.sinks.iter().map(|part| part.name());
        let services = self.services.iter().map(|part| part.name());
        let mut names: Vec<_> = sources.chain(sinks).chain(services).collect();
        if names.is_empty() {
            return Err(BuildError::NothingToDo);
        }
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(BuildError::SameName(twice[0].into()));
        }
        let mut claimed: Vec<(Callers, &str)> = Vec::new();
        for sink in &self.sinks {
            let (callers, also) = (sink.callers(), sink.name());
            if let Some((_, by)) = claimed.iter().find(|(known, _)| *known == callers) {
                return Err(BuildError::Claimed { by: (*by).into(), also: also.into() });
            }
            claimed.push((callers, also));
        }
        self.sources.iter().try_for_each(|part| part.check(plan))?;
        self.sinks.iter().try_for_each(|part| part.check(plan))?;
        self.services.iter().try_for_each(|part| part.check(plan))
    }
}
