use cuttlebone_http::status::{ConnectionStatus, Direction};

use crate::bound::{Bound, PROVIDE};
use crate::builder::missing;
use crate::part::{Callers, Guests, Plan, Running, Sink};
use crate::provide::Serving;
use crate::reading::Reading;
use crate::{BuildError, Ground, ProvideEvent, ProviderConfig};

/// Serves the node's copy: fresh monitors synchronise from it as from one of their own.
///
/// A monitor that synchronises holds a token of the name `provide` until its copy is complete.
#[derive(Clone, Debug)]
pub struct Provider {
    config: ProviderConfig,
    name: String,
    copies_max: u32,
}

/// How many monitors synchronise at once, unless it is told otherwise.
const COPIES_MAX: u32 = 4;

impl Default for Provider {
    fn default() -> Self {
        Self { config: ProviderConfig::default(), name: "cuttlebone".into(), copies_max: COPIES_MAX }
    }
}

impl Provider {
    /// With the usual limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// How much a chunk holds, and how many copies may be in progress.
    #[must_use]
    pub fn with_config(self, config: ProviderConfig) -> Self {
        Self { config, ..self }
    }

    /// How many monitors may synchronise at once; the next ones wait. Default 4.
    #[must_use]
    pub fn copies_max(self, copies_max: u32) -> Self {
        Self { copies_max, ..self }
    }

    /// What it is called among monitors. Default `cuttlebone`.
    #[must_use]
    pub fn called(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }
}

impl Sink for Provider {
    fn name(&self) -> &'static str {
        "provider"
    }

    fn callers(&self) -> Callers {
        Callers::Others
    }

    fn check(&self, plan: &Plan) -> Result<(), BuildError> {
        if plan.copy { Ok(()) } else { Err(missing(self.name(), "a directory with a copy to serve")) }
    }

    fn run(self: Box<Self>, ground: Ground, guests: Guests) -> Running {
        Box::pin(async move {
            tokio::select! {
                // Without a first copy there is nothing to serve; who dials waits so long.
                () = ground.all_ready() => {}
                () = ground.stopping() => return Ok(()),
            }
            let dir = ground.copy().unwrap_or_else(|| std::path::Path::new("")).to_owned();
            let (reading, _) = Reading::open(dir, self.name)?;
            let teller = ground.clone();
            let mut shown = std::collections::BTreeMap::new();
            let report = move |event: ProvideEvent<'_>| match event {
                ProvideEvent::Connected { kind, addrs } => {
                    let row = ConnectionStatus {
                        peer: kind.to_string(),
                        address: addrs.to_string(),
                        direction: Direction::Accepted,
                        purpose: "monsync".into(),
                        age_ms: 0,
                    };
                    shown.insert(addrs.to_string(), teller.connection(row));
                }
                ProvideEvent::Gone { addrs } => drop(shown.remove(&addrs.to_string())),
                ProvideEvent::Finished { copies, chunks, bytes } => {
                    tracing::info!(part = teller.part(), copies, chunks, bytes, "a copy has ended");
                }
                ProvideEvent::Dropped(why) => tracing::debug!(part = teller.part(), ?why, "dropped"),
                ProvideEvent::Unreadable(error) => {
                    tracing::error!(part = teller.part(), error = crate::error::chain(error), "unreadable");
                }
            };
            let bound = Bound::new(&ground, PROVIDE, self.copies_max);
            tokio::select! {
                ended = Serving::new(reading, self.config, report).bound_by(bound).run(guests) => ended,
                () = ground.stopping() => Ok(()),
            }
        })
    }
}
