use super::tokens::Request;
use crate::slab::Slab;

/// A first-in-first-out line through the requests of a slab; leaving it from the middle costs O(1).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Line {
    pub(super) head: Option<u32>,
    tail: Option<u32>,
    pub(super) len: u32,
}

/// The neighbours of one request in its line.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Links {
    before: Option<u32>,
    after: Option<u32>,
}

impl Line {
    pub(super) fn push<W>(&mut self, requests: &mut Slab<Request<W>>, key: u32) {
        if let Some(links) = links(requests, key) {
            *links = Links { before: self.tail, after: None };
        }
        match self.tail.and_then(|tail| links(requests, tail)) {
            Some(tail) => tail.after = Some(key),
            None => self.head = Some(key),
        }
        self.tail = Some(key);
        self.len += 1;
    }

    /// Who stands behind `key`.
    pub(super) fn after<W>(requests: &Slab<Request<W>>, key: u32) -> Option<u32> {
        requests.get(key)?.links.after
    }

    /// `key` stands in this line.
    pub(super) fn leave<W>(&mut self, requests: &mut Slab<Request<W>>, key: u32) {
        let Some(Links { before, after }) = links(requests, key).map(core::mem::take) else { return };
        match before.and_then(|before| links(requests, before)) {
            Some(links) => links.after = after,
            None => self.head = after,
        }
        match after.and_then(|after| links(requests, after)) {
            Some(links) => links.before = before,
            None => self.tail = before,
        }
        self.len -= 1;
    }
}

fn links<W>(requests: &mut Slab<Request<W>>, key: u32) -> Option<&mut Links> {
    requests.get_mut(key).map(|request| &mut request.links)
}
