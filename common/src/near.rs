//! Streams of bytes between loops that share a thread: what one end writes the other reads, without a system call.
//!
//! An end behaves like a socket that never blocks: bytes come in order, a full stream holds back who writes, and an end that is dropped is the
//! end of the stream for the other. In place of an event queue each end has a bell.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};

/// Bytes that may be on their way in one direction.
pub const ROOM_BYTES: usize = 1 << 20;
/// A stream's memory that grew beyond this is given back when it is empty.
const KEPT_BYTES: usize = 64 << 10;

/// Rung when there is something to read again, room to write again, or no peer any more. It may ring for nothing, and must not use the end it belongs to.
pub type Bell = Rc<dyn Fn()>;

/// The streams of one thread: where those who serve there are found. Clones mean the same thread.
#[derive(Clone, Default)]
pub struct Place {
    served: Rc<RefCell<BTreeMap<SocketAddr, Weak<Door>>>>,
}

struct Door {
    waiting: RefCell<VecDeque<End>>,
    bell: Bell,
}

/// Where connections to one address come in; while it lives.
pub struct Listener {
    door: Rc<Door>,
}

impl Place {
    /// Serves an address here, beside the socket that others on other threads use. The bell rings for each connection.
    #[must_use]
    pub fn listen(&self, address: SocketAddr, bell: Bell) -> Listener {
        let door = Rc::new(Door { waiting: RefCell::default(), bell });
        self.served.borrow_mut().insert(address, Rc::downgrade(&door));
        Listener { door }
    }

    /// A connection to who serves this address here; `None` when nobody does.
    #[must_use]
    pub fn connect(&self, address: SocketAddr) -> Option<End> {
        let door = self.served.borrow().get(&address)?.upgrade()?;
        let (near, far) = pair();
        door.waiting.borrow_mut().push_back(far);
        (door.bell)();
        Some(near)
    }
}

impl Listener {
    /// The next connection.
    #[must_use]
    pub fn accept(&self) -> Option<End> {
        self.door.waiting.borrow_mut().pop_front()
    }
}

/// Two ends of a new stream.
#[must_use]
pub fn pair() -> (End, End) {
    let (left, right) = (Rc::new(RefCell::new(Side::default())), Rc::new(RefCell::new(Side::default())));
    (End { own: left.clone(), other: right.clone() }, End { own: right, other: left })
}

/// What belongs to one end.
#[derive(Default)]
struct Side {
    /// On their way to this end; the first `read` of them are read.
    bytes: Vec<u8>,
    read: usize,
    bell: Option<Bell>,
    /// It wants to write more than there is room for.
    held_back: bool,
    gone: bool,
}

impl Side {
    fn on_their_way(&self) -> &[u8] {
        self.bytes.get(self.read..).unwrap_or_default()
    }

    fn take(&mut self, out: &mut [u8]) -> usize {
        let here = self.on_their_way();
        let taken = here.len().min(out.len());
        for (place, bytes) in out.get_mut(..taken).into_iter().zip(here.get(..taken)) {
            place.copy_from_slice(bytes);
        }
        self.read += taken;
        if self.read == self.bytes.len() {
            self.empty();
        } else if self.read > self.bytes.len() / 2 {
            self.bytes.drain(..self.read);
            self.read = 0;
        }
        taken
    }

    /// Puts all behind what is in `out`; into an empty one without copying.
    fn take_all(&mut self, out: &mut Vec<u8>) -> usize {
        let taken = self.on_their_way().len();
        if out.is_empty() && self.read == 0 {
            std::mem::swap(&mut self.bytes, out);
        } else {
            out.extend_from_slice(self.on_their_way());
        }
        self.empty();
        taken
    }

    fn empty(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.read = 0;
    }
}

/// One end of a stream.
pub struct End {
    own: Rc<RefCell<Side>>,
    other: Rc<RefCell<Side>>,
}

impl End {
    /// From now on this rings; at once when there is something to hear already.
    pub fn set_bell(&self, bell: Bell) {
        self.own.borrow_mut().bell = Some(bell.clone());
        if self.is_ended() || self.readable() > 0 {
            bell();
        }
    }

    /// Bytes that can be read at once.
    #[must_use]
    pub fn readable(&self) -> usize {
        self.own.borrow().on_their_way().len()
    }

    /// Whether the other end is gone: what it wrote can still be read.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.other.borrow().gone
    }

    /// Reads all that is here and puts it behind what is in `out`, without copying where that is empty; like [`Read::read`] otherwise.
    pub fn receive(&mut self, out: &mut Vec<u8>) -> io::Result<usize> {
        let taken = self.own.borrow_mut().take_all(out);
        self.taken(taken)
    }

    /// Writes what there is room for of the bytes behind those that were `sent` before, which counts up and is 0 again, and `bytes` empty, when all have been.
    /// Nothing is copied where all find room and the other end has read everything.
    pub fn send(&mut self, bytes: &mut Vec<u8>, sent: &mut usize) -> io::Result<()> {
        let swapped = {
            let mut other = self.other.borrow_mut();
            // A buffer that has grown beyond what finds room stays where it is emptied and given back.
            let fits =
                *sent == 0 && !bytes.is_empty() && bytes.capacity() <= 2 * ROOM_BYTES && bytes.len() <= ROOM_BYTES;
            let swaps = fits && !other.gone && other.bytes.is_empty();
            if swaps {
                std::mem::swap(&mut other.bytes, bytes);
            }
            swaps
        };
        if swapped {
            self.own.borrow_mut().held_back = false;
            ring(&self.other);
            return Ok(());
        }
        if bytes.is_empty() {
            return Ok(());
        }
        *sent += self.write(bytes.get(*sent..).unwrap_or_default())?;
        if *sent == bytes.len() {
            bytes.clear();
            bytes.shrink_to(KEPT_BYTES);
            *sent = 0;
        } else if *sent > bytes.len() / 2 {
            bytes.drain(..*sent);
            *sent = 0;
        }
        Ok(())
    }

    fn taken(&self, taken: usize) -> io::Result<usize> {
        if taken == 0 {
            return if self.is_ended() { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let was_held_back = std::mem::take(&mut self.other.borrow_mut().held_back);
        if was_held_back {
            ring(&self.other);
        }
        Ok(taken)
    }
}

fn ring(side: &RefCell<Side>) {
    let bell = side.borrow().bell.clone();
    if let Some(bell) = bell {
        bell();
    }
}

impl Read for End {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        let taken = self.own.borrow_mut().take(out);
        self.taken(taken)
    }
}

impl Write for End {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (written, first) = {
            let mut other = self.other.borrow_mut();
            if other.gone {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let before = other.on_their_way().len();
            let written = bytes.get(..ROOM_BYTES.saturating_sub(before)).unwrap_or(bytes);
            other.bytes.extend_from_slice(written);
            (written.len(), before == 0)
        };
        self.own.borrow_mut().held_back = written < bytes.len();
        if written == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if first {
            ring(&self.other);
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for End {
    fn drop(&mut self) {
        {
            let mut own = self.own.borrow_mut();
            own.gone = true;
            own.bytes = Vec::new();
            own.bell = None;
        }
        ring(&self.other);
    }
}

impl std::fmt::Debug for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("End")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn counting() -> (Rc<Cell<u32>>, Bell) {
        let count = Rc::new(Cell::new(0));
        let bell: Bell = {
            let count = count.clone();
            Rc::new(move || count.set(count.get() + 1))
        };
        (count, bell)
    }

    fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> io::ErrorKind {
        result.unwrap_err().kind()
    }

    #[test]
    fn bytes_come_in_order_and_ring_once_for_who_has_read_all() {
        let (mut near, mut far) = pair();
        let (rung, bell) = counting();
        far.set_bell(bell);
        assert_eq!(rung.get(), 0);
        near.write_all(b"abc").unwrap();
        near.write_all(b"def").unwrap();
        assert_eq!(rung.get(), 1);
        let mut out = [0; 4];
        assert_eq!((far.read(&mut out).unwrap(), &out), (4, b"abcd"));
        near.write_all(b"g").unwrap();
        assert_eq!(rung.get(), 1, "it knows that there is more");
        assert_eq!((far.read(&mut out).unwrap(), &out[..3]), (3, &b"efg"[..]));
        assert_eq!(kind(far.read(&mut out)), io::ErrorKind::WouldBlock);
        near.write_all(b"h").unwrap();
        assert_eq!(rung.get(), 2);
    }

    #[test]
    fn who_writes_too_much_is_held_back_and_called_when_there_is_room() {
        let (mut near, mut far) = pair();
        let (rung, bell) = counting();
        near.set_bell(bell);
        let sent: Vec<u8> = (0..3 * ROOM_BYTES).map(|byte| (byte % 251) as u8).collect();
        let mut written = near.write(&sent).unwrap();
        assert_eq!(written, ROOM_BYTES);
        assert_eq!(kind(near.write(&sent[written..])), io::ErrorKind::WouldBlock);
        let mut got = Vec::new();
        let mut out = vec![0; 100_003];
        while got.len() < sent.len() {
            let before = rung.get();
            let read = far.read(&mut out).unwrap();
            got.extend_from_slice(&out[..read]);
            if written < sent.len() {
                assert_eq!(rung.get(), before + 1, "after {} bytes", got.len());
                written += near.write(&sent[written..]).unwrap();
            }
        }
        assert!(got == sent);
    }

    #[test]
    fn whole_buffers_are_handed_over_in_order_with_what_was_written_or_read_in_parts() {
        let (mut near, mut far) = pair();
        let (rung, bell) = counting();
        far.set_bell(bell);
        let mut sent = b"abc".to_vec();
        near.send(&mut sent, &mut 0).unwrap();
        assert_eq!((sent.len(), rung.get()), (0, 1));
        near.write_all(b"def").unwrap();
        near.send(&mut b"ghi".to_vec(), &mut 0).unwrap();
        assert_eq!((far.readable(), rung.get()), (9, 1), "it knows that there is more");
        let mut first = [0; 2];
        assert_eq!(far.read(&mut first).unwrap(), 2);
        let mut got = first.to_vec();
        assert_eq!(far.receive(&mut got).unwrap(), 7);
        assert_eq!(got, b"abcdefghi");
        assert_eq!(kind(far.receive(&mut got)), io::ErrorKind::WouldBlock);
        near.send(&mut Vec::new(), &mut 0).unwrap();
        assert_eq!((far.readable(), rung.get()), (0, 1));
        near.send(&mut b"jkl".to_vec(), &mut 0).unwrap();
        drop(near);
        got.clear();
        assert_eq!((far.receive(&mut got).unwrap(), &got[..]), (3, &b"jkl"[..]));
        assert_eq!(far.receive(&mut got).unwrap(), 0);
        assert_eq!(kind(far.send(&mut b"x".to_vec(), &mut 0)), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn who_sends_too_much_keeps_the_rest_and_is_called_when_there_is_room() {
        let (mut near, mut far) = pair();
        let (rung, bell) = counting();
        near.set_bell(bell);
        let all: Vec<u8> = (0..2 * ROOM_BYTES + 7).map(|byte| (byte % 251) as u8).collect();
        let (mut sending, mut sent, mut got) = (all.clone(), 0, Vec::new());
        near.send(&mut sending, &mut sent).unwrap();
        assert_eq!(sending.len() - sent, ROOM_BYTES + 7);
        assert_eq!(kind(near.send(&mut sending, &mut sent)), io::ErrorKind::WouldBlock);
        for calls in 1.. {
            far.receive(&mut got).unwrap();
            if sending.is_empty() {
                break;
            }
            assert_eq!(rung.get(), calls);
            near.send(&mut sending, &mut sent).unwrap();
        }
        assert!(got == all);
        assert_eq!((rung.get(), sent), (2, 0), "nobody waits for room any more");
    }

    #[test]
    fn the_end_is_heard_after_all_that_was_written() {
        let (mut near, mut far) = pair();
        near.write_all(b"last").unwrap();
        let (rung, bell) = counting();
        far.set_bell(bell);
        assert_eq!(rung.get(), 1, "there was something to hear before");
        drop(near);
        assert_eq!((rung.get(), far.is_ended()), (2, true));
        let mut out = [0; 8];
        assert_eq!(far.readable(), 4);
        assert_eq!(far.read(&mut out).unwrap(), 4);
        assert_eq!(far.read(&mut out).unwrap(), 0);
        assert_eq!(kind(far.write(b"x")), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn connections_come_in_where_somebody_listens() {
        let (place, address) = (Place::default(), SocketAddr::from(([127, 0, 0, 1], 5432)));
        assert!(place.connect(address).is_none());
        let (rung, bell) = counting();
        let listener = place.listen(address, bell);
        let mut near = place.connect(address).unwrap();
        assert_eq!(rung.get(), 1);
        near.write_all(b"hello").unwrap();
        let mut out = [0; 8];
        assert_eq!(listener.accept().unwrap().read(&mut out).unwrap(), 5);
        assert!(listener.accept().is_none());
        let waiting = place.connect(address).unwrap();
        drop(listener);
        assert!(waiting.is_ended(), "nobody will take it");
        assert!(place.connect(address).is_none());
    }
}
