//! A session's open transaction and its running statement, as far as session and conductor share them.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use toroid_common::coordinator::Transaction;
use toroid_common::error::{SqlError, SqlResult};
use toroid_common::id::TransactionId;

/// Takes a transaction that nobody ended, to roll it back.
pub type Leave = Rc<dyn Fn(Transaction)>;

/// A transaction that is open, shared by all that work for it; rolled back when the last one lets go of it.
pub struct Open {
    id: TransactionId,
    transaction: RefCell<Option<Transaction>>,
    /// Of the conductor, for as long as the transaction lasts.
    held: RefCell<Option<Held>>,
    /// It is that of one statement, and ends with it.
    own: Cell<bool>,
    /// Its statements go from partition to partition, as all do that stood in a circle with each other: so they stand in line.
    in_turn: Cell<bool>,
    leave: Leave,
}

/// Something that only the conductor knows.
pub type Held = Arc<dyn Any + Send + Sync>;

impl Open {
    pub fn new(transaction: Transaction, leave: Leave) -> Rc<Open> {
        let (id, transaction) = (transaction.id(), RefCell::new(Some(transaction)));
        let (own, in_turn) = (Cell::default(), Cell::default());
        Rc::new(Open { id, transaction, held: RefCell::default(), own, in_turn, leave })
    }

    pub fn id(&self) -> TransactionId {
        self.id
    }

    /// Looks at the transaction, or changes what is known of it.
    pub fn with<T>(&self, action: impl FnOnce(&mut Transaction) -> SqlResult<T>) -> SqlResult<T> {
        match self.transaction.borrow_mut().as_mut() {
            Some(transaction) => action(transaction),
            None => Err(SqlError::internal("a transaction that is over")),
        }
    }

    /// Takes the transaction to end it.
    pub fn end(&self) -> Option<Transaction> {
        self.held.borrow_mut().take();
        self.transaction.borrow_mut().take()
    }

    /// Takes the transaction to end it, and leaves one that can only be rolled back.
    pub fn give_up(&self) -> Option<Transaction> {
        self.held.borrow_mut().take();
        let mut place = self.transaction.borrow_mut();
        let (process, level) = place.as_ref().map(|t| (t.process(), t.level()))?;
        let mut over = Transaction::new(self.id, process, level);
        over.lose();
        place.replace(over)
    }

    /// Whether it may have changed the schema: it sees another one than the rest.
    pub fn changes_schema(&self) -> bool {
        self.transaction.borrow().as_ref().is_some_and(Transaction::changes_schema)
    }

    /// It is that of one statement, and ends with it.
    pub fn mark_own(&self) {
        self.own.set(true);
    }

    /// Its statements go from partition to partition.
    pub fn go_in_turn(&self) {
        self.in_turn.set(true);
    }

    pub fn goes_in_turn(&self) -> bool {
        self.in_turn.get()
    }

    /// Several requests of its statement follow.
    pub fn share(&self) {
        self.own.set(false);
    }

    /// Whether a statement's only request may as well commit by itself: nothing else belongs to the transaction.
    pub fn is_spare(&self) -> bool {
        self.own.get() && self.transaction.borrow().as_ref().is_some_and(|t| t.is_empty() && t.cut().is_none())
    }

    pub fn hold(&self, held: Held) {
        self.held.replace(Some(held));
    }

    pub fn held(&self) -> Option<Held> {
        self.held.borrow().clone()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(transaction) = self.transaction.get_mut().take() {
            (self.leave)(transaction);
        }
    }
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open").field("transaction", &self.transaction).finish_non_exhaustive()
    }
}

/// What a statement waits for at workers, to be called back when it is to stop.
#[derive(Debug, Default)]
pub struct Running {
    canceled: Arc<AtomicBool>,
    requests: RefCell<Vec<u64>>,
    ending: Cell<bool>,
}

impl Running {
    pub fn new(canceled: Arc<AtomicBool>) -> Running {
        Running { canceled, ..Running::default() }
    }

    /// Whether it is to stop.
    pub fn is_canceled(&self) -> bool {
        self.canceled.load(Ordering::Relaxed)
    }

    /// It may go on.
    pub fn begin(&self) {
        self.canceled.store(false, Ordering::Relaxed);
        self.ending.set(false);
    }

    /// What it did is being committed or rolled back: it is too late to stop.
    pub fn seal(&self) {
        self.ending.set(true);
    }

    /// It begins anew.
    pub fn unseal(&self) {
        self.ending.set(false);
    }

    pub fn is_sealed(&self) -> bool {
        self.ending.get()
    }

    /// A request leaves.
    pub fn sent(&self, sequence: u64) {
        self.requests.borrow_mut().push(sequence);
    }

    /// A request has ended.
    pub fn ended(&self, sequence: u64) {
        let mut requests = self.requests.borrow_mut();
        if let Some(place) = requests.iter().rposition(|known| *known == sequence) {
            requests.swap_remove(place);
        }
    }

    /// The requests that are under way.
    pub fn requests(&self) -> Vec<u64> {
        self.requests.borrow().clone()
    }

    /// Whether nothing of it is under way.
    pub fn is_idle(&self) -> bool {
        self.requests.borrow().is_empty()
    }
}
