//! One question to the metadata group, for commands that ask and end.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use toroid_common::secret::{Exchange, Key};
use toroid_common::wire::{
    Control, ControlBody, Hello, MAX_CONTROL_BYTES, Message, NoticeBody, PROTOCOL_VERSION, RawFrame, Role,
};

/// How long a member may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How long the group may be without a leader.
const PATIENCE: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(100);
/// The number of the one request.
const NUMBER: u32 = 1;

/// Asks each member until the leader answers.
pub fn ask(join: &[SocketAddr], key: Option<&Key>, body: &ControlBody) -> Result<NoticeBody, String> {
    if join.is_empty() {
        return Err("--join is missing: the cluster's storage nodes".to_owned());
    }
    let begun = Instant::now();
    let mut trouble = String::new();
    let mut next: Option<SocketAddr> = None;
    for address in join.iter().cycle() {
        let address = next.take().unwrap_or(*address);
        match ask_one(address, key, body) {
            Ok(NoticeBody::NotLeader { leader }) => {
                trouble = format!("{address} knows no leader of the metadata group");
                next = leader.filter(|leader| *leader != address);
            }
            Ok(NoticeBody::Failed { reason }) => return Err(reason),
            Ok(answer) => return Ok(answer),
            Err(error) => trouble = format!("{address}: {error}"),
        }
        if begun.elapsed() > PATIENCE {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    Err(format!("no answer from the cluster; the last trouble: {trouble}"))
}

fn ask_one(address: SocketAddr, key: Option<&Key>, body: &ControlBody) -> Result<NoticeBody, String> {
    let mut line = Line::open(address, key).map_err(|error| error.to_string())?;
    let mut out = Vec::new();
    Message::Hello(Hello { version: PROTOCOL_VERSION, cluster: None, role: Role::Client }).write(&mut out);
    Message::Control(Control { number: NUMBER, body: body.clone() }).write(&mut out);
    line.stream.write_all(&out).map_err(|error| error.to_string())?;
    loop {
        let answer = line.frame(|message| match message {
            Message::Refused(refused) => Some(Err(refused.reason)),
            Message::Notice(notice) if notice.number == NUMBER => Some(Ok(notice.body)),
            _ => None,
        })?;
        if let Some(answer) = answer {
            return answer;
        }
    }
}

/// A number that nobody else draws.
pub fn draw() -> std::io::Result<u64> {
    random().map(u64::from_le_bytes)
}

fn random<const BYTES: usize>() -> std::io::Result<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A connection, with what has arrived.
struct Line {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Line {
    fn open(address: SocketAddr, key: Option<&Key>) -> std::io::Result<Line> {
        let stream = TcpStream::connect_timeout(&address, ANSWER)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_write_timeout(Some(ANSWER))?;
        let mut line = Line { stream, input: Vec::new() };
        let Some(key) = key else { return Ok(line) };
        let nonce: [u8; toroid_common::secret::NONCE_BYTES] = random()?;
        let mut out = Vec::new();
        let mut exchange = Exchange::connect(key, nonce, &mut out);
        loop {
            line.stream.write_all(&out)?;
            out.clear();
            if exchange.is_done() {
                return Ok(line);
            }
            line.read()?;
            let used = exchange.advance(&line.input, &mut out).map_err(std::io::Error::other)?;
            line.input.drain(..used);
        }
    }

    fn read(&mut self) -> std::io::Result<()> {
        let mut piece = [0; 16 << 10];
        let count = self.stream.read(&mut piece)?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.input.extend_from_slice(piece.get(..count).unwrap_or_default());
        Ok(())
    }

    /// What `take` makes of the next message.
    fn frame<T>(&mut self, take: impl FnOnce(Message<'_>) -> T) -> Result<T, String> {
        loop {
            let split = RawFrame::split(&self.input).map_err(|error| error.to_string())?;
            if let Some((frame, used)) = split {
                let taken = take(Message::decode(frame).map_err(|error| error.to_string())?);
                self.input.drain(..used);
                return Ok(taken);
            }
            if RawFrame::needed(&self.input).is_some_and(|needed| needed > MAX_CONTROL_BYTES) {
                return Err("a message that is too long".to_owned());
            }
            self.read().map_err(|error| error.to_string())?;
        }
    }
}
