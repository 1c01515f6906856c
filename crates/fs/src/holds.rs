use core::sync::atomic::{AtomicBool, Ordering};
use std::collections::BTreeMap;
use std::sync::Arc;

use cuttlebone_mds::Ino;
use tokio::sync::mpsc;

/// One opening of a file. It closes when it is dropped, wherever that happens: with its handle, or with an answer that
/// nobody has waited for.
#[derive(Debug)]
pub(crate) struct Hold {
    ino: Ino,
    lost: Arc<AtomicBool>,
    closings: mpsc::UnboundedSender<Closing>,
}

/// What a hold says when it is dropped. Each says it once, so as many can be on their way as files are open.
#[derive(Debug)]
pub(crate) struct Closing {
    ino: Ino,
    lost: Arc<AtomicBool>,
}

/// The openings that the machine counts, by inode.
#[derive(Debug)]
pub(crate) struct Holds {
    open: BTreeMap<Ino, Vec<Arc<AtomicBool>>>,
    closings: mpsc::UnboundedSender<Closing>,
}

impl Hold {
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // Behind the end of the mount nobody listens, and nothing is open.
        let _ = self.closings.send(Closing { ino: self.ino, lost: Arc::clone(&self.lost) });
    }
}

impl Holds {
    #[expect(clippy::disallowed_methods, reason = "each open file says one thing, and is larger than that")]
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Closing>) {
        let (closings, receiver) = mpsc::unbounded_channel();
        (Self { open: BTreeMap::new(), closings }, receiver)
    }

    /// The hold for an opening that the machine has counted, if `times` of them are more than we know.
    pub(crate) fn opened(&mut self, ino: Ino, times: u32) -> Option<Hold> {
        let known = self.open.get(&ino).map_or(0, Vec::len);
        if known >= usize::try_from(times).unwrap_or(usize::MAX) {
            return None;
        }
        let lost = Arc::new(AtomicBool::new(false));
        self.open.entry(ino).or_default().push(Arc::clone(&lost));
        Some(Hold { ino, lost, closings: self.closings.clone() })
    }

    /// The inode that the machine is to close, unless it has lost this opening before.
    pub(crate) fn closed(&mut self, closing: &Closing) -> Option<Ino> {
        let open = self.open.get_mut(&closing.ino)?;
        let at = open.iter().position(|lost| Arc::ptr_eq(lost, &closing.lost))?;
        open.swap_remove(at);
        if open.is_empty() {
            self.open.remove(&closing.ino);
        }
        Some(closing.ino)
    }

    /// The machine has lost every opening of a file.
    pub(crate) fn lost(&mut self, ino: Ino) {
        for lost in self.open.remove(&ino).unwrap_or_default() {
            lost.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Ino = Ino(0x1000);

    #[test]
    fn each_opening_is_closed_once_wherever_it_is_dropped() {
        let (mut holds, mut closings) = Holds::new();
        let first = holds.opened(FILE, 1).unwrap();
        assert!(holds.opened(FILE, 1).is_none(), "the server has given nothing more");
        let second = holds.opened(FILE, 2).unwrap();
        drop(first);
        assert_eq!(holds.closed(&closings.try_recv().unwrap()), Some(FILE));
        drop(second);
        let closing = closings.try_recv().unwrap();
        assert_eq!(holds.closed(&closing), Some(FILE));
        assert_eq!(holds.closed(&closing), None);
    }

    #[test]
    fn what_was_lost_does_not_close_what_is_opened_after_it() {
        let (mut holds, mut closings) = Holds::new();
        let old = holds.opened(FILE, 1).unwrap();
        holds.lost(FILE);
        assert!(old.is_lost());
        let new = holds.opened(FILE, 1).unwrap();
        drop(old);
        assert_eq!(holds.closed(&closings.try_recv().unwrap()), None);
        assert!(!new.is_lost());
    }
}
