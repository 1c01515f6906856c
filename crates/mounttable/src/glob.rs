use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Bound;

use cuttlebone_machine::Instant;

use crate::name::push;
use crate::pattern::Element;
use crate::tree::{Node, NodeId, ROOT};
use crate::{Error, Found, Kind, Name, Pattern, Place, Principal, Table, Tag, Tail};

/// Nodes that one step of a glob looks at, found or not, before it gives the table back.
const VISITS_PER_STEP: usize = 256;

/// A glob under way: where it has been, so that it can go on after the table was used for something else.
///
/// The results are no snapshot: a name that came or went meanwhile may be in them or not. Each name that was there
/// all the time is found once.
#[derive(Debug)]
pub struct Glob {
    base: Name,
    pattern: Pattern,
    who: Principal,
    /// The name of the node on top of the stack, relative to `base`.
    path: String,
    stack: Vec<Frame>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fresh,
    Walking,
    Done,
}

/// A node whose children are being looked at.
#[derive(Debug)]
struct Frame {
    id: NodeId,
    serial: u64,
    /// How many elements of the pattern the path has used up.
    matched: usize,
    /// The child that was looked at last.
    last: Option<Arc<str>>,
    path_bytes: usize,
}

impl Glob {
    /// Everything that matches `pattern` below `base` and that `who` may see.
    pub fn new(who: Principal, base: Name, pattern: Pattern) -> Self {
        Self { base, pattern, who, path: String::new(), stack: Vec::new(), state: State::Fresh }
    }

    /// Whether everything has been found.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }
}

impl Table {
    /// The next results of a glob, possibly none although it is not done: the work of one call is limited.
    ///
    /// Names that the asker has no right to are left out silently; servers that may be seen but not resolved come as
    /// an empty list. A mount that the pattern goes on below is found too, for the asker to go on there.
    ///
    /// # Errors
    ///
    /// From the first call only: [`Error::NoSuchName`] or [`Error::Denied`] about where the glob begins.
    pub fn glob(&mut self, now: Instant, glob: &mut Glob) -> Result<Vec<Found>, Error> {
        self.expire(now);
        let mut found = Vec::new();
        match glob.state {
            State::Fresh => {
                glob.state = State::Walking;
                if let Err(error) = self.begin(now, glob, &mut found) {
                    glob.state = State::Done;
                    return Err(error);
                }
            }
            State::Walking => {}
            State::Done => return Ok(found),
        }
        for _ in 0..VISITS_PER_STEP {
            if glob.stack.is_empty() {
                glob.state = State::Done;
                break;
            }
            self.visit_next(now, glob, &mut found);
        }
        Ok(found)
    }

    fn begin(&self, now: Instant, glob: &mut Glob, found: &mut Vec<Found>) -> Result<(), Error> {
        let mut at = ROOT;
        let base = glob.base.clone();
        let mut elements = base.elements();
        loop {
            let Some(node) = self.tree.get(at) else { return Err(Error::NoSuchName) };
            if !self.allowed(at, &glob.who, Tag::TRAVERSE) {
                let name = self.tree.name(at);
                return Err(Error::Denied { who: glob.who.clone(), tag: Tag::Read, name });
            }
            if !node.servers.is_empty() {
                // The glob begins below a mount: its servers answer for what is left of the name.
                let mut rest = String::new();
                elements.for_each(|element| push(&mut rest, element));
                let rest = Name::from_clean(&rest);
                let mut servers = node.live(now);
                servers.retain_mut(|live| live.server.join(&rest).map(|joined| live.server = joined).is_ok());
                found.push(Found::new(Name::root(), servers, node.kind, Place::MountPoint));
                return Ok(());
            }
            let Some(element) = elements.next() else { break };
            at = *node.children.get(element).ok_or(Error::NoSuchName)?;
        }
        self.arrive(now, glob, at, 0, found);
        Ok(())
    }

    /// Looks at the next child of the node on top of the stack, or leaves that node.
    fn visit_next(&self, now: Instant, glob: &mut Glob, found: &mut Vec<Found>) {
        let Some(frame) = glob.stack.last_mut() else { return };
        glob.path.truncate(frame.path_bytes);
        let next = self.tree.get_serial(frame.id, frame.serial).and_then(|node| {
            let element = glob.pattern.element(frame.matched);
            let (name, id) = next_child(node, element, frame.last.as_ref())?;
            Some((
                Arc::clone(name),
                id,
                element.is_none_or(|element| element.matches(name)),
                element.is_some(),
            ))
        });
        let Some((name, id, fits, uses_one)) = next else {
            glob.stack.pop();
            return;
        };
        let matched = frame.matched + usize::from(uses_one);
        frame.last = Some(Arc::clone(&name));
        if fits {
            push(&mut glob.path, &name);
            self.arrive(now, glob, id, matched, found);
        }
    }

    /// At a node that the pattern matches so far, and whose name is in `glob.path`.
    fn arrive(&self, now: Instant, glob: &mut Glob, id: NodeId, matched: usize, found: &mut Vec<Found>) {
        let Some(node) = self.tree.get(id) else { return };
        if !self.allowed(id, &glob.who, Tag::ANY) {
            return;
        }
        let name = || Name::from_clean(&glob.path);
        if !node.servers.is_empty() {
            let shown = self.allowed(id, &glob.who, Tag::TRAVERSE);
            let servers = if shown { node.live(now) } else { Vec::new() };
            found.push(Found::new(name(), servers, node.kind, Place::MountPoint));
            return;
        }
        let ended = matched >= glob.pattern.depth();
        if ended {
            found.push(Found::new(name(), Vec::new(), Kind::Table, Place::Inner));
        }
        let listing: &[Tag] = match glob.pattern.element(matched) {
            Some(Element::Fixed(_)) => Tag::TRAVERSE,
            _ => &[Tag::Read],
        };
        if (!ended || glob.pattern.tail() != Tail::Exact) && self.allowed(id, &glob.who, listing) {
            let path_bytes = glob.path.len();
            glob.stack.push(Frame { id, serial: node.serial, matched, last: None, path_bytes });
        }
    }
}

/// The child after `last`; a fixed element has one candidate and needs no listing.
fn next_child<'a>(
    node: &'a Node,
    element: Option<&Element>,
    last: Option<&Arc<str>>,
) -> Option<(&'a Arc<str>, NodeId)> {
    let (name, id) = match (element, last) {
        (Some(Element::Fixed(_)), Some(_)) => None,
        (Some(Element::Fixed(fixed)), None) => node.children.get_key_value(fixed.as_str()),
        (_, None) => node.children.first_key_value(),
        (_, Some(last)) => {
            let after: (Bound<&str>, Bound<&str>) = (Bound::Excluded(last), Bound::Unbounded);
            node.children.range::<str, _>(after).next()
        }
    }?;
    Some((name, *id))
}
