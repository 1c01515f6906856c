use cuttlebone_driver::{Clock, Connection};
use cuttlebone_link::{Event, Start};
use cuttlebone_machine::Machine;
use cuttlebone_monsync::v2::{
    Progress, Requester, RequesterConfig, RequesterInput, RequesterOutput, Summary,
};
use cuttlebone_monsync::{MESSAGE_TYPE, SyncKind};
use cuttlebone_store::{Origin, Point};
use cuttlebone_wire::Features;

use crate::Error;
use crate::clock::until;
use crate::keeper::{Keeper, Kept};

/// One copy, full or recent, over one link, into the keeper's store.
///
/// Dropped in the middle, or after an error, it leaves a pull in the store that the next one ends.
pub(crate) struct Pull<'a> {
    pub(crate) connection: &'a mut Connection,
    pub(crate) features: Features,
    pub(crate) keeper: &'a mut Keeper,
    pub(crate) clock: &'a Clock,
    pub(crate) origin: &'a Origin,
}

/// How a copy ended well.
#[derive(Debug)]
pub(crate) struct Pulled {
    pub(crate) summary: Summary,
    /// The point that it made; `None` if nothing was new.
    pub(crate) point: Option<Box<Point>>,
}

/// What one copy reports on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Started(u64),
    Progress(Progress),
}

impl Pull<'_> {
    /// Runs to the end. After an error nothing of it is kept.
    pub(crate) async fn run(
        mut self,
        kind: SyncKind,
        config: RequesterConfig,
        report: &mut impl FnMut(Step),
    ) -> Result<Pulled, Error> {
        // Whatever an earlier pull left behind when it failed or was cancelled.
        self.keeper.give_up().await?;
        let mut requester = Requester::new(self.clock.now(), config, kind);
        self.drive(&mut requester, report).await
    }

    async fn drive(
        &mut self,
        requester: &mut Requester,
        report: &mut impl FnMut(Step),
    ) -> Result<Pulled, Error> {
        let mut made = None;
        // What lies behind a failure that the protocol knows only in outline.
        let mut causes = Causes::default();
        loop {
            while let Some(output) = requester.poll_output() {
                match output {
                    RequesterOutput::Send(request) => {
                        // A link that is closed says so in its last event.
                        let _ = self.connection.send(request.to_message(self.features)).await;
                    }
                    RequesterOutput::Apply { op, effect } => self.keeper.apply(op, effect, self.origin).await,
                    RequesterOutput::Started { start } => report(Step::Started(start.0)),
                    RequesterOutput::Progress(progress) => report(Step::Progress(progress)),
                    RequesterOutput::Done(summary) => return Ok(Pulled { summary, point: made }),
                    RequesterOutput::Failed(error) => return Err(causes.explain(error)),
                }
            }
            let wake = requester.poll_timeout();
            let input = tokio::select! {
                event = self.connection.recv() => match event {
                    Some(Event::Message(message)) if message.kind == MESSAGE_TYPE => {
                        causes.link = None;
                        RequesterInput::Message(message)
                    }
                    // A monitor tells monitors many things that are none of our business; and a reset is followed
                    // by a fresh session, which says the same.
                    Some(Event::Message(_) | Event::Reset) => continue,
                    Some(Event::Lost(error)) => {
                        causes.link = Some(error);
                        RequesterInput::Disconnected
                    }
                    Some(Event::Ready(ready)) => {
                        self.features = ready.features;
                        match ready.start {
                            Start::Resumed => RequesterInput::Resumed,
                            Start::Fresh => RequesterInput::Reconnected,
                        }
                    }
                    Some(Event::Closed(Err(error))) => return Err(Error::Link(error)),
                    Some(Event::Closed(Ok(()))) | None => return Err(Error::LinkClosed),
                },
                kept = self.keeper.recv() => match kept {
                    Kept::Applied { op, point } => {
                        made = point.or(made);
                        RequesterInput::Applied(op)
                    }
                    Kept::Failed(error) => {
                        causes.target = Some(error);
                        RequesterInput::ApplyFailed
                    }
                    // Of an earlier job that was not waited for.
                    Kept::Maintained(_) | Kept::GivenUp { .. } => continue,
                },
                () = until(self.clock, wake) => {
                    requester.handle_timeout(self.clock.now());
                    continue;
                }
            };
            requester.handle(self.clock.now(), input);
        }
    }
}

#[derive(Debug, Default)]
struct Causes {
    link: Option<cuttlebone_link::Error>,
    target: Option<Error>,
}

impl Causes {
    fn explain(self, error: cuttlebone_monsync::Error) -> Error {
        match (error, self) {
            (cuttlebone_monsync::Error::Store, Self { target: Some(cause), .. }) => cause,
            // What broke the last connection, if nothing has come since, tells more than that nothing has come.
            (
                cuttlebone_monsync::Error::ConnectionLost { .. } | cuttlebone_monsync::Error::TimedOut { .. },
                Self { link: Some(cause), .. },
            ) => Error::Link(cause),
            (error, _) => Error::Sync(error),
        }
    }
}
