use alloc::vec::Vec;

use super::nature::Aim;
use super::{Client, Tid};
use crate::{Frag, Ino, Rank};

/// Most directories that are gone up in search of somebody who knows: a name of 255 bytes in each makes a longer path
/// than any system takes.
const DEPTH_MAX: usize = 256;

/// Whom a request may be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// The authority alone: it changes something, or reads a whole fragment.
    Authority,
    /// Anybody who has a copy.
    Any,
}

impl Client {
    /// The rank for a request, by what is known of the tree; `None` while no rank serves.
    ///
    /// Source: `torvalds/linux:fs/ceph/mds_client.c`, `__choose_mds`.
    pub(super) fn choose(&mut self, tid: Tid) -> Option<Rank> {
        let pending = self.requests.get(&tid)?;
        let hint = pending.hint;
        let (aim, ask) = (pending.call.aim(), pending.call.ask());
        // A rank that others point to is waited for, if it exists at all: they have no choice either.
        if let Some(rank) = hint
            && self.ranks.is_expected(rank)
        {
            return Some(rank);
        }
        let known = match &aim {
            Aim::Inode(ino) => self.server_of(*ino, ask),
            Aim::Name(dir, name) => {
                self.holder(*dir, name, ask).or_else(|| self.server_of(*dir, Ask::Authority))
            }
            Aim::Fragment(dir, frag) => {
                self.server_of_fragment(*dir, *frag, ask).or_else(|| self.server_of(*dir, Ask::Authority))
            }
        };
        known.filter(|rank| self.ranks.is_expected(*rank)).or_else(|| self.any_rank())
    }

    /// Who serves an inode.
    fn server_of(&mut self, ino: Ino, ask: Ask) -> Option<Rank> {
        let mut at = ino;
        for depth in 0..DEPTH_MAX {
            let Some(inode) = self.cache.get(at) else { break };
            if let Some(rank) = inode.auth {
                return Some(rank);
            }
            if ask == Ask::Any
                && depth == 0
                && let Some(cap) = inode.caps.first()
            {
                return Some(cap.rank);
            }
            let Some((dir, name)) = inode.link.clone() else { break };
            if let Some(rank) = self.holder(dir, &name, Ask::Authority) {
                return Some(rank);
            }
            at = dir;
        }
        (ino == Ino::ROOT).then(|| self.ranks.root()).flatten()
    }

    /// Who is known to serve the fragment that holds a name.
    fn holder(&mut self, dir: Ino, name: &[u8], ask: Ask) -> Option<Rank> {
        let inode = self.cache.get(dir)?;
        let frag = inode.stat.fragtree.leaf(inode.hash(name));
        self.server_of_fragment(dir, frag, ask)
    }

    /// Who is known to serve a fragment.
    fn server_of_fragment(&mut self, dir: Ino, frag: Frag, ask: Ask) -> Option<Rank> {
        let fragment = self.cache.get(dir)?.fragments.get(&frag)?;
        let serving = |rank: &Rank| self.ranks.is_serving(*rank) && !self.ranks.is_laggy(*rank);
        let replicas: Vec<Rank> = match ask {
            Ask::Any => fragment.replicas.iter().copied().filter(serving).collect(),
            Ask::Authority => Vec::new(),
        };
        let auth = fragment.auth;
        self.pick(&replicas).or(auth)
    }

    /// Some rank that serves, preferably one that is not laggy.
    fn any_rank(&mut self) -> Option<Rank> {
        let serving: Vec<Rank> = self.ranks.serving().collect();
        let brisk: Vec<Rank> = serving.iter().copied().filter(|rank| !self.ranks.is_laggy(*rank)).collect();
        self.pick(&brisk).or_else(|| self.pick(&serving))
    }

    fn pick(&mut self, ranks: &[Rank]) -> Option<Rank> {
        let count = u64::try_from(ranks.len()).unwrap_or(u64::MAX);
        let at = if count > 1 { self.entropy.below(count) } else { 0 };
        usize::try_from(at).ok().and_then(|at| ranks.get(at)).copied()
    }
}
