//! A worker's loop on a thread that it shares: sockets are heard of through that thread's own event queue, letters as a task is woken, others on the
//! thread by their bells.

use super::EventLoop;
use crate::clock::Clock;
use mio::{Events, Registry};
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, Sleep};
use toroid_engine::gate::Time;

/// After so many turns for others on the thread the sockets and the alarm are looked at, too.
const MOST_RUNG_IN_A_ROW: u32 = 8;

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

impl Alarm {
    fn poll(&mut self, mut sleep: Pin<&mut Sleep>, due: Option<Time>, clock: Clock, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(due) = due
            && self.set_to.is_none_or(|set_to| due < set_to)
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
        let mut in_a_row = 0;
        self.port.call.become_guest();
        while self.running {
            let queued = if self.is_behind() {
                tokio::task::yield_now().await;
                true
            } else {
                let due = self.due();
                poll_fn(|cx| {
                    let rung = self.rung.poll(cx).is_ready();
                    if rung && in_a_row < MOST_RUNG_IN_A_ROW {
                        in_a_row += 1;
                        return Poll::Ready(io::Result::Ok(false));
                    }
                    in_a_row = 0;
                    // All are asked, so that each wakes this task.
                    let (queued, called) = (queue.poll(cx)?.is_ready(), self.port.call.poll(cx).is_ready());
                    let due = alarm.poll(sleep.as_mut(), due, self.clock, cx).is_ready();
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
