//! The bells of a guest's connections to others on its thread: which of them have rung since it last looked.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use toroid_common::near::Bell;

/// Clones share it.
#[derive(Clone, Default)]
pub(super) struct Rung {
    inner: Rc<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Slots of connections; `None` for the listener.
    slots: RefCell<Vec<Option<usize>>>,
    waker: RefCell<Option<Waker>>,
}

impl Rung {
    /// What rings for this slot, or for the listener.
    pub(super) fn bell(&self, slot: Option<usize>) -> Bell {
        let rung = self.clone();
        Rc::new(move || rung.ring(slot))
    }

    pub(super) fn ring(&self, slot: Option<usize>) {
        self.inner.slots.borrow_mut().push(slot);
        let waker = self.inner.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ready when something has rung that was not taken.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        if !self.inner.slots.borrow().is_empty() {
            return Poll::Ready(());
        }
        let mut waker = self.inner.waker.borrow_mut();
        if waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// What has rung, in that order; `emptied` takes its place.
    pub(super) fn take(&self, emptied: Vec<Option<usize>>) -> Vec<Option<usize>> {
        self.inner.slots.replace(emptied)
    }
}
