//! How a driver drives a [`Core`].

use cuttlebone_machine::{Instant, Machine};
use cuttlebone_mounttable::Failure;

use super::answers::Answers;
use super::{Core, Input, Output, Phase};

impl Machine for Core {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        if self.phase == Phase::Closed {
            return;
        }
        let (id, answers) = match input {
            Input::Mounted(id, answers) => (id, Answers::Mounted(answers)),
            Input::Unmounted(id, answers) => (id, Answers::Unmounted(answers)),
            Input::Kept(id, answer) => (id, Answers::Kept(answer)),
            Input::Released(id, answer) => (id, Answers::Released(answer)),
        };
        self.answered(now, id, answers);
        self.work(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.phase == Phase::Closed {
            return;
        }
        for table in 0..self.lanes.len() {
            while let Some(id) = self.lanes.get(table).and_then(|lane| lane.overdue(now, &self.config)) {
                self.outputs.push_back(Output::Abandon(id));
                let reason = format!("no answer within {:?}", self.config.call_timeout);
                self.answered(now, id, Answers::None(Failure::Unreachable { reason }));
            }
        }
        self.work(now);
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let stopping = self.phase != Phase::Running;
        let deadline = match self.phase {
            Phase::Running => None,
            Phase::Stopping { deadline } => Some(deadline),
            Phase::Closed => return None,
        };
        self.lanes.iter().filter_map(|lane| lane.next_look(&self.config, stopping)).chain(deadline).min()
    }
}
