use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::{Bound, ControlFlow};
use core::task::Waker;
use core::time::Duration;

use cuttlebone_machine::Instant;

use crate::cell::{Cell, Due};
use crate::epochs::Epochs;
use crate::events::Bus;
use crate::name::{Name, Source};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, lock};
use crate::{
    AcquireError, Capacity, Class, Clock, Epoch, EpochStore, EpochStoreError, Events, Limits, MemoryEpochs,
    NAME_BYTES_MAX, OwnerId, Register, RegisterError, Rules, Seq, Takeover, Token, View, Watchdog, Worker,
};

/// How many names a walk through the map takes at a time.
const PAGE: usize = 256;

/// Everything about a registry that can be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "callers build it with `..Config::default()`")]
pub struct Config {
    /// Names in use at once.
    pub names_max: usize,
    /// What each name may have.
    pub limits: Limits,
    /// How each name behaves in time.
    pub rules: Rules,
    /// How long after a restart only re-claims are answered: the longest lease that was given out.
    pub recovery: Duration,
    /// Names whose holders end with this process, so that after a restart there is nobody to wait for. Default none.
    pub local_names: Vec<String>,
    /// Epochs reserved at a time; what is left of a block is lost at a restart.
    pub epoch_block: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            names_max: 100_000,
            limits: Limits::default(),
            rules: Rules::default(),
            recovery: Duration::ZERO,
            local_names: Vec::new(),
            epoch_block: 1_024,
        }
    }
}

/// Names, who owns them, and the tokens that are out. Copies share one registry; the last one closes it.
#[derive(Clone, Debug)]
pub struct Registry(Arc<Door>);

/// Closes the registry when the last copy goes. Cells keep what is behind it, so guards that are left stay harmless.
#[derive(Debug)]
struct Door(Arc<Shared>);

impl Drop for Door {
    fn drop(&mut self) {
        self.0.close();
    }
}

pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) clock: Box<dyn Clock>,
    pub(crate) epochs: Arc<Epochs>,
    pub(crate) due: Due,
    pub(crate) bus: Bus,
    map: Mutex<Map>,
    seq: Alone<AtomicU64>,
    pub(crate) fenced: AtomicU64,
    quiet_until: Instant,
    /// Epochs below this one were given out before the restart.
    first_epoch: Epoch,
}

/// On cache lines of its own: it is written for every token, and what lies beside it is read for every token.
#[repr(align(128))]
struct Alone<T>(T);

/// Names to cells, and owners to names: an owner may have many.
#[derive(Default)]
struct Map {
    cells: BTreeMap<Arc<str>, Arc<Cell>>,
    owners: BTreeMap<(OwnerId, Arc<str>), u32>,
    /// Nobody new can register.
    sealed: bool,
    closed: bool,
}

impl Registry {
    /// A registry whose owners and holders live in this process and end with it.
    pub fn new(config: Config, clock: impl Clock) -> Self {
        let epochs = Epochs::new(Box::new(MemoryEpochs::default()), config.epoch_block);
        Self::with(config, clock, epochs, Instant::ZERO, Epoch(1))
    }

    /// A registry whose holders may outlive it. If the store was in use before, it starts with the recovery window.
    ///
    /// # Errors
    ///
    /// The store's.
    pub async fn open(
        config: Config,
        clock: impl Clock,
        store: impl EpochStore,
    ) -> Result<Self, EpochStoreError> {
        let epochs = Epochs::new(Box::new(store), config.epoch_block);
        let first = epochs.begin().await?;
        let quiet_until = if first > Epoch(1) { clock.now() + config.recovery } else { Instant::ZERO };
        Ok(Self::with(config, clock, epochs, quiet_until, first))
    }

    fn with(
        config: Config,
        clock: impl Clock,
        epochs: Epochs,
        quiet_until: Instant,
        first_epoch: Epoch,
    ) -> Self {
        Self(Arc::new(Door(Arc::new(Shared {
            config,
            clock: Box::new(clock),
            epochs: Arc::new(epochs),
            due: Due::default(),
            bus: Bus::default(),
            map: Mutex::default(),
            seq: Alone(AtomicU64::new(1)),
            fenced: AtomicU64::new(0),
            quiet_until,
            first_epoch,
        }))))
    }

    /// Registers `owner` as the incarnation that has `name`. The future ends once every older token has.
    pub fn register(&self, name: &str, owner: OwnerId, takeover: Takeover) -> Register {
        Register::new(self.shared(), name, owner, takeover)
    }

    /// Everything `owner` registered or waits for ends; its tokens may finish. For embedders that see owners die.
    pub fn owner_down(&self, owner: OwnerId) {
        let cells: Vec<Arc<Cell>> = {
            let map = lock(&self.shared().map);
            let names =
                map.owners.range((owner, Arc::from(""))..).take_while(|((other, _), _)| *other == owner);
            names.filter_map(|((_, name), _)| map.cells.get(name).cloned()).collect()
        };
        for cell in cells {
            cell.with(|name, cx| name.owner_down(cx, owner));
        }
    }

    /// A worker of the incarnation `epoch` of `name`, for embedders that carry epochs across processes.
    ///
    /// # Errors
    ///
    /// [`AcquireError::NotRegistered`] or [`Fenced`](AcquireError::Fenced).
    pub fn worker(&self, name: &str, epoch: Epoch) -> Result<Worker, AcquireError> {
        let cell = self.shared().find(name).ok_or(AcquireError::NotRegistered)?;
        match cell.with(|name, _| name.current()) {
            Some(current) if current == epoch => Ok(Worker::new(cell, epoch)),
            _ => Err(AcquireError::Fenced),
        }
    }

    /// Counts a token from before a restart, so that the next incarnation waits for it.
    ///
    /// # Errors
    ///
    /// [`AcquireError::NothingToReclaim`] after the recovery window, a second time, or for an epoch never given out.
    pub fn reclaim(
        &self,
        name: &str,
        epoch: Epoch,
        seq: Seq,
        class: Class,
        slots: u32,
    ) -> Result<Token, AcquireError> {
        let shared = self.shared();
        if epoch == Epoch(0) || epoch >= shared.first_epoch || check_name(name).is_err() {
            return Err(AcquireError::NothingToReclaim);
        }
        loop {
            let cell = shared.find_or_insert(name).map_err(|error| match error {
                RegisterError::AtCapacity(limit) => AcquireError::AtCapacity(limit),
                _ => AcquireError::Closed,
            })?;
            if let Some(result) = cell.enter(|name, cx| name.reclaim(cx, epoch, seq, class, slots)) {
                return result.map(|grant| Token::new(cell, grant));
            }
        }
    }

    /// Until when only re-claims are answered; `None` if that is over.
    pub fn recovering_until(&self) -> Option<Instant> {
        let until = self.shared().quiet_until;
        (until > self.shared().clock.now()).then_some(until)
    }

    /// The oldest epoch that this registry gives: what comes from an older one is from before its last restart. A gate that
    /// restarts with the registry begins here.
    pub fn first_epoch(&self) -> Epoch {
        self.shared().first_epoch
    }

    /// Ends the current incarnation of `name` and tells all its holders to stop. `false` if there is nobody.
    pub fn fence(&self, name: &str) -> bool {
        self.shared().find(name).is_some_and(|cell| cell.with(Name::fence))
    }

    /// Ends every token of `name` older than `below`, and says how many there were.
    ///
    /// Call it only when the resource refuses them: after [`FenceGate::advance`](crate::FenceGate::advance) to `below`
    /// has returned. [`Register::through`] does both.
    pub fn revoke_older(&self, name: &str, below: Epoch) -> usize {
        self.shared().find(name).map_or(0, |cell| cell.with(|name, cx| name.revoke_older(cx, below)))
    }

    /// One name as it is now, with at most `holders_max` holders.
    pub fn lookup(&self, name: &str, holders_max: usize) -> Option<View> {
        let cell = self.shared().find(name)?;
        Some(cell.with(|name, cx| name.view(cx.source.now(), holders_max)))
    }

    /// Every name in use, in order, each with at most `holders_max` holders. Each name by itself is a consistent cut.
    pub fn snapshot(&self, holders_max: usize) -> Vec<(Arc<str>, View)> {
        let mut all = Vec::new();
        self.visit("", holders_max, |name, view| {
            all.push((Arc::from(name), view));
            ControlFlow::Continue(())
        });
        all
    }

    /// Calls `each` for every name after `after`, in order, until it breaks off; a name that comes or goes meanwhile may
    /// or may not be among them. No lock is held while `each` runs, and none for longer than a page of names takes.
    pub fn visit(
        &self,
        after: &str,
        holders_max: usize,
        mut each: impl FnMut(&str, View) -> ControlFlow<()>,
    ) {
        let mut after: Arc<str> = after.into();
        loop {
            let page: Vec<Arc<Cell>> = {
                let map = lock(&self.shared().map);
                let rest = map.cells.range::<str, _>((Bound::Excluded(&*after), Bound::Unbounded));
                rest.take(PAGE).map(|(_, cell)| Arc::clone(cell)).collect()
            };
            let Some(last) = page.last() else { return };
            after = Arc::clone(&last.name);
            for cell in page {
                let view = cell.with(|name, cx| name.view(cx.source.now(), holders_max));
                if each(&cell.name, view).is_break() {
                    return;
                }
            }
        }
    }

    /// How often holders of an incarnation were told to stop since the registry was opened.
    pub fn fenced_total(&self) -> u64 {
        self.shared().fenced.load(Ordering::Relaxed)
    }

    /// What happens from now on.
    pub fn events(&self) -> Events {
        Events::new(Arc::clone(self.shared()))
    }

    /// The future that reports drains which do not end and applies the drain policy where nobody waits for the name.
    /// It ends when the registry is closed; run one of it.
    pub fn watchdog(&self) -> Watchdog {
        Watchdog::new(Arc::clone(self.shared()))
    }

    /// From now on nobody can register or reclaim any more, which fails with `Closed`. Whoever has registered goes
    /// on, and whoever stands in line stays there. For embedders that wait for the last tokens before they end.
    pub fn seal(&self) {
        lock(&self.shared().map).sealed = true;
    }

    /// Fails all who wait, now and from now on. Tokens that are out end as usual.
    pub fn close(&self) {
        self.shared().close();
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.0.0
    }
}

impl Shared {
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Cell>> {
        lock(&self.map).cells.get(name).cloned()
    }

    pub(crate) fn find_or_insert(self: &Arc<Self>, name: &str) -> Result<Arc<Cell>, RegisterError> {
        let mut map = lock(&self.map);
        if map.closed || map.sealed {
            return Err(RegisterError::Closed);
        }
        if let Some(cell) = map.cells.get(name) {
            return Ok(Arc::clone(cell));
        }
        if map.cells.len() >= self.config.names_max {
            return Err(RegisterError::AtCapacity(Capacity::Names));
        }
        let is_local = self.config.local_names.iter().any(|local| local == name);
        let quiet_until = if is_local { Instant::ZERO } else { self.quiet_until };
        let cell = Arc::new(Cell::new(self, Arc::from(name), quiet_until));
        map.cells.insert(Arc::clone(&cell.name), Arc::clone(&cell));
        Ok(cell)
    }

    /// Forgets a name that is idle.
    pub(crate) fn forget(&self, cell: &Arc<Cell>) {
        let mut map = lock(&self.map);
        if cell.retire() {
            map.cells.remove(&cell.name);
        }
    }

    fn close(&self) {
        let cells = {
            let mut map = lock(&self.map);
            map.closed = true;
            core::mem::take(&mut map.cells)
        };
        for cell in cells.values() {
            cell.with(Name::close);
        }
        self.bus.close();
        self.due.close();
    }
}

impl Source for Shared {
    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn now_coarse(&self) -> Instant {
        self.clock.now_coarse()
    }

    fn epoch(&self) -> Epoch {
        self.epochs.take()
    }

    fn seq(&self) -> Seq {
        Seq(self.seq.0.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = lock(&self.map).cells.len();
        f.debug_struct("Shared").field("config", &self.config).field("names", &names).finish_non_exhaustive()
    }
}

/// `owner` has to do with a name, so its death concerns that name.
#[derive(Debug)]
pub(crate) struct Membership {
    shared: Arc<Shared>,
    owner: OwnerId,
    name: Arc<str>,
}

impl Membership {
    pub(crate) fn new(shared: &Arc<Shared>, owner: OwnerId, name: &Arc<str>) -> Self {
        *lock(&shared.map).owners.entry((owner, Arc::clone(name))).or_default() += 1;
        Self { shared: Arc::clone(shared), owner, name: Arc::clone(name) }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut map = lock(&self.shared.map);
        let key = (self.owner, Arc::clone(&self.name));
        if let Some(count) = map.owners.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                map.owners.remove(&key);
            }
        }
    }
}

pub(crate) fn check_name(name: &str) -> Result<(), RegisterError> {
    match name {
        "" => Err(RegisterError::BadName("it is empty")),
        _ if name.len() > NAME_BYTES_MAX => Err(RegisterError::BadName("it is longer than 255 bytes")),
        _ if name.chars().any(char::is_control) => Err(RegisterError::BadName("it has a control character")),
        _ => Ok(()),
    }
}

/// Wakes many; none of them while a lock is held.
pub(crate) fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}
