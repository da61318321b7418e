//! A session's open transaction and its running statement, as far as session and conductor share them.

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
    leave: Leave,
}

impl Open {
    pub fn new(transaction: Transaction, leave: Leave) -> Rc<Open> {
        Rc::new(Open { id: transaction.id(), transaction: RefCell::new(Some(transaction)), leave })
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
        self.transaction.borrow_mut().take()
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
