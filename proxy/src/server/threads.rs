//! Threads with an event loop each, on which sessions are served; a process that also holds storage nodes may have their workers run here, too.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use toroid_common::limits::STATEMENT_STACK_BYTES;
use toroid_common::near::Place;
use toroid_query::schedule;

/// Makes its work on the thread where that stays to its end; others on that thread are met at its place.
pub type Job = Box<dyn FnOnce(Place) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// Running threads; clones share them, and the last one that is dropped ends them with all that is on them.
#[derive(Clone)]
pub struct Threads {
    inner: Arc<Inner>,
}

struct Inner {
    seats: Vec<Seat>,
    threads: Vec<JoinHandle<()>>,
}

/// The way onto one thread. Cheap to clone.
#[derive(Clone)]
pub struct Seat {
    /// None ends the thread.
    jobs: UnboundedSender<Option<Job>>,
}

impl Threads {
    /// So many threads, named after what they are for.
    pub fn start(name: &str, count: usize) -> io::Result<Threads> {
        // Made bit by bit, so that a failure ends those that run.
        let mut inner = Inner { seats: Vec::new(), threads: Vec::new() };
        for index in 0..count.max(1) {
            let (jobs, queue) = unbounded_channel();
            let (made, running) = mpsc::channel();
            let run = move || match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
                Ok(runtime) => {
                    // Whoever started it waits for this.
                    let _ = made.send(Ok(()));
                    schedule::prompt();
                    work(&runtime, queue);
                }
                Err(error) => drop(made.send(Err(error))),
            };
            let builder = std::thread::Builder::new().name(format!("{name}-{index}"));
            inner.threads.push(builder.stack_size(STATEMENT_STACK_BYTES).spawn(run)?);
            inner.seats.push(Seat { jobs });
            running.recv().map_err(io::Error::other)??;
        }
        Ok(Threads { inner: Arc::new(inner) })
    }

    /// The ways onto all threads.
    pub fn seats(&self) -> &[Seat] {
        &self.inner.seats
    }
}

fn work(runtime: &LocalRuntime, mut queue: UnboundedReceiver<Option<Job>>) {
    let place = Place::default();
    runtime.block_on(async move {
        while let Some(Some(job)) = queue.recv().await {
            tokio::task::spawn_local(job(place.clone()));
        }
    });
}

impl Seat {
    /// Has the thread do this, unless it has ended.
    pub fn run(&self, job: Job) {
        // A job that nobody takes is dropped, which its owner notices.
        let _ = self.jobs.send(Some(job));
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for seat in &self.seats {
            // A thread that has ended needs no word.
            let _ = seat.jobs.send(None);
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a proxy thread had panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;
    use std::time::Duration;

    #[test]
    fn each_thread_does_its_jobs_side_by_side_and_ends_with_the_last_handle() {
        let threads = Threads::start("proxy", 2).unwrap();
        let (said, heard) = mpsc::channel();
        for (index, seat) in threads.seats().iter().enumerate() {
            for pause in [30, 10] {
                let said = said.clone();
                seat.run(Box::new(move |_| {
                    let own = Rc::new(Cell::new(index));
                    Box::pin(async move {
                        tokio::time::sleep(Duration::from_millis(pause)).await;
                        said.send((own.get(), pause)).unwrap();
                    })
                }));
            }
        }
        let seat = threads.seats()[0].clone();
        seat.run(Box::new(move |_| {
            Box::pin(async move {
                std::future::pending::<()>().await;
                drop(said);
            })
        }));
        let got: Vec<_> = (0..4).map(|_| heard.recv().unwrap()).collect();
        for index in 0..2 {
            let of_one: Vec<_> = got.iter().filter(|said| said.0 == index).map(|said| said.1).collect();
            assert_eq!(of_one, [10, 30]);
        }
        drop(threads);
        assert!(heard.recv().is_err(), "work without an end was dropped with its thread");
        seat.run(Box::new(|_| unreachable!("the thread has ended")));
    }
}
