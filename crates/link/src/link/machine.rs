//! How a driver drives a [`Link`]: every call of the contract, by state.

use alloc::boxed::Box;
use core::mem;

use bytes::BytesMut;
use cuttlebone_machine::{Instant, StreamMachine, StreamOutput};
use cuttlebone_msgr::{Control, Handshake};
use cuttlebone_wire::WallTime;

use super::{Link, Role, State};
use crate::{Command, Error, Event};

impl StreamMachine for Link {
    type Command = Command;
    type Event = Event;

    fn handle_connected(&mut self, _now: Instant) {
        if let (State::Dialling, Role::Dialling(dialler)) = (&self.state, &self.role) {
            let identity = dialler.config.identity.messenger();
            let mut handshake = Handshake::dialling(identity, dialler.config.target.clone(), self.limits);
            while let Some(bytes) = handshake.poll_transmit() {
                self.outputs.push_back(StreamOutput::Transmit(bytes));
            }
            self.state = State::Shaking(Box::new(handshake));
        }
    }

    fn handle_bytes(&mut self, now: Instant, inbound: &mut BytesMut) {
        if self.is_open() {
            self.timers.silence.set(now + self.timing.silence_max);
        }
        loop {
            let was_open = self.is_open();
            let step = match mem::replace(&mut self.state, State::Closed) {
                State::Shaking(handshake) => self.shake(handshake, inbound),
                State::Opening(opening) => self.open(now, opening, inbound),
                State::Open(decoder) => self.flow(now, decoder, inbound),
                state @ (State::Waiting | State::Dialling | State::Standby | State::Closed) => {
                    self.state = state;
                    inbound.clear();
                    return;
                }
            };
            match step {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return self.fail(now, was_open, error),
            }
        }
    }

    fn handle_disconnected(&mut self, now: Instant) {
        let during = self.state.name();
        match self.state {
            State::Dialling | State::Shaking(_) | State::Opening(_) | State::Open(_) => {
                self.fail(now, self.is_open(), Error::Disconnected { during });
            }
            State::Waiting | State::Standby | State::Closed => {}
        }
    }

    fn handle_command(&mut self, now: Instant, command: Command) {
        match (command, &self.state) {
            (_, State::Closed) => {}
            (Command::Adopt(adoption), _) => self.adopt(now, *adoption),
            (Command::Supersede, _) => self.end(Err(Error::Replaced)),
            (Command::Send(_), _) if !self.accepts_commands() => {
                self.end(Err(Error::Misuse("a message was sent to a link that accepts none")));
            }
            (Command::Send(message), _) => {
                self.session.push(message);
                self.be_busy(now);
                self.pump();
            }
        }
    }

    fn handle_close(&mut self, now: Instant) {
        if matches!(self.state, State::Closed) || self.closing {
            return;
        }
        if self.session.is_drained() {
            return self.end(Ok(()));
        }
        self.closing = true;
        self.timers.linger.set(now + self.timing.linger_max);
    }

    fn accepts_commands(&self) -> bool {
        !self.closing && self.session.has_room()
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.timers.linger.take_expired(now) {
            let during = "waiting for the peer to acknowledge what was sent";
            return self.end(Err(Error::TimedOut { after: self.timing.linger_max, during }));
        }
        if self.timers.standby.take_expired(now) {
            let during = self.state.name();
            return self.end(Err(Error::TimedOut { after: self.timing.standby_max, during }));
        }
        if self.timers.ready.take_expired(now) {
            let during = self.state.name();
            self.fail(now, self.is_open(), Error::TimedOut { after: self.timing.ready_within, during });
        }
        if self.timers.silence.take_expired(now) {
            let during = "waiting for any sign of life";
            self.fail(now, self.is_open(), Error::TimedOut { after: self.timing.silence_max, during });
        }
        if self.timers.idle.take_expired(now) {
            let during = "waiting for a message";
            self.fail(now, self.is_open(), Error::TimedOut { after: self.timing.idle_max, during });
        }
        if self.timers.retry.take_expired(now) {
            self.dial_now(now);
        }
        if self.timers.keepalive.take_expired(now) {
            self.keepalives = self.keepalives.wrapping_add(1);
            self.transmit(Control::keepalive(WallTime { secs: self.keepalives, nanos: 0 }));
            self.timers.keepalive.set(now + self.timing.keepalive_every);
        }
    }

    fn poll_output(&mut self) -> Option<StreamOutput<Event>> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.timers.earliest()
    }

    fn wanted(&self) -> usize {
        match &self.state {
            State::Shaking(handshake) => handshake.wanted(),
            State::Opening(opening) => opening.decoder.wanted(),
            State::Open(decoder) => decoder.wanted(),
            State::Waiting | State::Dialling | State::Standby | State::Closed => 0,
        }
    }
}
