//! A worker's loop on a thread that it shares: sockets are heard of through that thread's own event queue, letters as a task is woken, others on the
//! thread by their bells.

use super::EventLoop;
use crate::clock::Clock;
use futures::task::AtomicWaker;
use mio::{Events, Registry};
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, Sleep};
use toroid_engine::gate::Time;

/// One queue can be an event in another: it is ready when it has an event itself.
struct Queue {
    inner: AsyncFd<Registry>,
}

impl Queue {
    fn new(registry: Registry) -> io::Result<Queue> {
        // SAFETY: the descriptor is the registry's own, which is given away here: open and the same as long as it lives.
        let inner = unsafe { AsyncFd::register_with_interest(registry, Interest::READABLE) };
        Ok(Queue { inner: inner.map_err(io::Error::from)? })
    }

    /// Ready when there may be events that have not been taken.
    fn poll(&self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        match self.inner.poll_read_ready(cx)? {
            Poll::Ready(mut ready) => {
                // Forgotten before the events are taken: what comes from now on makes it ready again.
                ready.clear_ready();
                Ok(Poll::Ready(()))
            }
            Poll::Pending => Ok(Poll::Pending),
        }
    }
}

/// Rings at the time it was set to, or before: setting it to a later time costs more than a turn for nothing now and then. It looks at no clock but to be set.
struct Alarm {
    set_to: Option<Time>,
}

/// Tells whether the sockets, the letters or the alarm may have called since they were looked at: in turns for others on the thread they are not.
#[derive(Default)]
struct Outside {
    called: AtomicBool,
    task: AtomicWaker,
}

impl Outside {
    /// Whether there was a call that nobody has looked after; from now on there was none.
    fn take_call(&self) -> bool {
        self.called.load(Ordering::Relaxed) && self.called.swap(false, Ordering::AcqRel)
    }
}

impl Wake for Outside {
    fn wake(self: Arc<Outside>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Outside>) {
        self.called.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl Alarm {
    /// Whether it rings no later than that.
    fn is_set(&self, due: Option<Time>) -> bool {
        due.is_none_or(|due| self.set_to.is_some_and(|set_to| set_to <= due))
    }

    fn poll(&mut self, mut sleep: Pin<&mut Sleep>, due: Option<Time>, clock: Clock, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(due) = due
            && !self.is_set(Some(due))
        {
            self.set_to = Some(due);
            sleep.as_mut().reset(Instant::now() + clock.until(due));
        }
        if self.set_to.is_some() {
            ready!(sleep.poll(cx));
            self.set_to = None;
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl EventLoop {
    /// Takes its turns among other tasks of the thread until it is told to end. The thread's runtime must have sockets and timers.
    pub async fn drive(mut self) -> io::Result<()> {
        let queue = Queue::new(self.port.poll.registry().try_clone()?)?;
        let mut sleep = pin!(tokio::time::sleep(Duration::ZERO));
        let mut alarm = Alarm { set_to: None };
        let mut events = Events::with_capacity(1024);
        let outside = Arc::new(Outside::default());
        let outside_waker = Waker::from(outside.clone());
        outside.called.store(true, Ordering::Relaxed);
        self.port.call.become_guest();
        while self.running {
            let queued = if self.is_behind() {
                tokio::task::yield_now().await;
                true
            } else {
                let due = self.due();
                poll_fn(|cx| {
                    let rung = self.rung.poll(cx).is_ready();
                    if rung && !outside.called.load(Ordering::Acquire) && alarm.is_set(due) {
                        return Poll::Ready(io::Result::Ok(false));
                    }
                    // Before each wait: a call takes the waker with it, also one that was answered before it had come to that.
                    outside.task.register(cx.waker());
                    if !outside.take_call() && alarm.is_set(due) {
                        return Poll::Pending;
                    }
                    let mut cx = Context::from_waker(&outside_waker);
                    // All are asked, so that each calls when it has something again.
                    let (queued, called) = (queue.poll(&mut cx)?.is_ready(), self.port.call.poll(&cx).is_ready());
                    let due = alarm.poll(sleep.as_mut(), due, self.clock, &mut cx).is_ready();
                    if queued || called || due {
                        // Whoever had something has not promised to call for more.
                        outside.called.store(true, Ordering::Relaxed);
                    }
                    if queued || rung || called || due { Poll::Ready(Ok(queued)) } else { Poll::Pending }
                })
                .await?
            };
            // What rang is in no queue: then no system call is spent on looking there.
            if queued {
                self.take_events(&mut events, Some(Duration::ZERO))?;
            } else {
                events.clear();
            }
            self.turn(&events);
        }
        Ok(())
    }
}
