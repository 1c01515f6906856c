use bytes::{Bytes, BytesMut};

use crate::Instant;

/// A machine at one end of a byte stream, over one connection after another if it wants.
///
/// The duties of [`Machine`](crate::Machine) hold here too. `inbound` belongs to the driver and carries over what
/// the machine has not consumed yet, so that a large frame is read straight into the buffer it will be sliced from
/// and no byte is copied twice.
pub trait StreamMachine {
    /// What the user of the connection asks for.
    type Command;
    /// What the user of the connection is told.
    type Event;

    /// The connection that [`StreamOutput::Dial`] asked for, or that was accepted, is open.
    fn handle_connected(&mut self, now: Instant);

    /// Consumes what it can from the front of `inbound`, and leaves an incomplete frame there.
    fn handle_bytes(&mut self, now: Instant, inbound: &mut BytesMut);

    /// The connection is gone, or the dial failed. Unread bytes are void.
    fn handle_disconnected(&mut self, now: Instant);

    /// Takes one command in.
    fn handle_command(&mut self, now: Instant, command: Self::Command);

    /// The user wants the end, or is gone. The machine finishes what its protocol owes the peer, within a limit of
    /// its own, and says [`StreamOutput::Finished`]. Repeated calls change nothing.
    fn handle_close(&mut self, now: Instant);

    /// Whether another command would find room. While it is `false` a driver takes no command from the user, who
    /// waits; this is how a peer that does not acknowledge slows the user down.
    fn accepts_commands(&self) -> bool {
        true
    }

    /// Tells the time. Early or repeated calls change nothing.
    fn handle_timeout(&mut self, now: Instant);

    /// The next thing the machine wants done, in order; `None` when there is nothing more.
    fn poll_output(&mut self) -> Option<StreamOutput<Self::Event>>;

    /// When [`handle_timeout`](Self::handle_timeout) has to be called at the latest; `None` for never.
    fn poll_timeout(&self) -> Option<Instant>;

    /// How many bytes, counted from the front of `inbound`, the machine needs before it can make progress.
    ///
    /// A driver reserves this much before it reads. It is bounded by the machine's own frame limit and never grows
    /// from a length that has not been checked.
    fn wanted(&self) -> usize;
}

/// What a [`StreamMachine`] asks of its driver.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a driver has to carry out every one of them")]
pub enum StreamOutput<E> {
    /// Open a connection to the peer; answered by `handle_connected` or `handle_disconnected`.
    Dial,
    /// Write these bytes, after all earlier ones.
    Transmit(Bytes),
    /// Tell the user.
    Event(E),
    /// Close the connection; the machine lives on. Of what was given to `Transmit` so far, as much is written as
    /// needs no waiting: a peer that does not read must not hold the machine up.
    Disconnect,
    /// The machine is done: write what was given to `Transmit`, within a limit of the driver's, close, and drop the
    /// machine. Nothing follows.
    Finished,
}
