//! What sessions of a proxy listen to: asked for at primaries, and again wherever these or the lines to them change, as the product's client does it.

use super::super::clock::{Instant, MILLISECOND};
use super::super::context::Context;
use super::super::history::History;
use super::super::sabotage::Sabotage;
use super::super::workload::deed::{Terms, channel_name};
use super::Proxy;
use super::deed::job;
use super::link::Use;
use super::statement::{Call, CallEnd, Owner};
use std::collections::{BTreeMap, BTreeSet};
use toroid_common::datum::DatumRef;
use toroid_common::hearing::{Answered, Channels, Line};
use toroid_common::id::PartitionId;
use toroid_common::plan::{Act, partition_of_channel};
use toroid_common::routing;
use toroid_common::row::write_row;

/// Before partitions are asked again.
const AGAIN: Instant = 50 * MILLISECOND;

/// A session, and which one in its place.
pub(super) type Listener = (u16, u32);

/// A primary that is asked to tell of a channel.
#[derive(Debug)]
struct Asking {
    channel: u8,
    seen: Option<u64>,
    before: Option<Line>,
    /// The session that begins to listen, and since when; none where lines have changed.
    begins: Option<(u16, u64)>,
}

/// All that the sessions of a proxy listen to.
#[derive(Debug, Default)]
pub(super) struct Ears {
    channels: Channels<Listener>,
    asking: BTreeMap<u64, Asking>,
    asked: u64,
    disturbed: bool,
    /// When those who could not be asked are asked again.
    again_at: Option<Instant>,
    /// Notifications that have come: channel, number, payload.
    came: Vec<(u8, u64, u64)>,
    /// By session and channel, its number in the history.
    listening: BTreeMap<(Listener, u8), usize>,
}

impl Ears {
    /// A line has ended, or a primary has moved.
    pub(super) fn disturb(&mut self) {
        self.disturbed = true;
    }

    pub(super) fn came(&mut self, channel: &str, number: u64, payload: &str) {
        let channel = channel.bytes().last().map_or(u8::MAX, |letter| letter - b'a');
        self.came.push((channel, number, payload.trim_end().parse().unwrap_or(0)));
    }

    /// The session that begins to listen by this request.
    pub(super) fn begins(&self, number: u64) -> Option<u16> {
        self.asking.get(&number).and_then(|asking| asking.begins).map(|(session, _)| session)
    }

    /// Whether nothing is to be asked for.
    pub(super) fn is_settled(&self) -> bool {
        !self.disturbed && self.asking.is_empty() && self.again_at.is_none()
    }
}

impl Proxy {
    pub(super) fn partition_of_channel(&self, channel: u8) -> PartitionId {
        partition_of_channel(channel_name(channel), self.map.as_ref().map_or(1, |map| map.partitions.len() as u16))
    }

    /// Where a channel would be asked for now.
    fn line_of(&self, channel: &str) -> Option<Line> {
        let map = self.map.as_ref()?;
        let partition = partition_of_channel(channel, map.partitions.len() as u16);
        let route = routing::route(map, partition)?;
        let link = self.links.get(&(Use::Requests, route.worker))?;
        Some((route.worker, u64::from(link.wire.0), route.epoch))
    }

    fn listener(&self, session: u16) -> Listener {
        (session, self.former(session))
    }

    /// A session begins to listen; false when it does so already.
    pub(super) fn begin_listening(
        &mut self,
        session: u16,
        channel: u8,
        history: &mut History,
        context: &mut Context,
    ) -> bool {
        if self.ears.listening.contains_key(&(self.listener(session), channel)) {
            return false;
        }
        let seen = self.ears.channels.begin(channel_name(channel));
        let asked = history.stamp();
        self.ask_for(Asking { channel, seen, before: None, begins: Some((session, asked)) }, context);
        true
    }

    fn ask_for(&mut self, asking: Asking, context: &mut Context) {
        let Asking { channel, seen, .. } = asking;
        let name = channel_name(channel);
        let before = self.line_of(name);
        let number = seen.map_or(-1, |seen| i64::try_from(seen).unwrap_or(i64::MAX));
        let mut params = Vec::new();
        write_row(&mut params, [DatumRef::Int4(0), DatumRef::Text(name), DatumRef::Int8(number)].into_iter());
        self.ears.asked += 1;
        self.ears.asking.insert(self.ears.asked, Asking { before, ..asking });
        let owner = Owner::Ear(self.ears.asked);
        let job = job(Act::Listen, params, None, Terms::PATIENT);
        self.open.push(Call::new(owner, job, self.partition_of_channel(channel), context.now()));
    }

    pub(super) fn asked_for(
        &mut self,
        number: u64,
        end: &CallEnd,
        history: &mut History,
        idle: &mut Vec<u16>,
        context: &mut Context,
    ) {
        let Some(asking) = self.ears.asking.remove(&number) else { return };
        let name = channel_name(asking.channel);
        let answered = match end {
            CallEnd::Count(answer) => {
                let lines = (asking.before, self.line_of(name));
                Some(self.ears.channels.answered(name, lines, *answer))
            }
            CallEnd::Response(_) | CallEnd::Error(_) | CallEnd::Nothing | CallEnd::Unknown => None,
        };
        let last = match answered {
            Some(Answered::Again { missed }) => {
                missed.into_iter().for_each(|listener| self.miss(listener, asking.channel, history, context));
                return self.ask_for(asking, context);
            }
            Some(Answered::Listening { last, missed }) => {
                missed.into_iter().for_each(|listener| self.miss(listener, asking.channel, history, context));
                Some(last)
            }
            None => None,
        };
        match asking.begins {
            Some((session, since)) => {
                let listener = self.listener(session);
                self.ears.channels.begun(name, listener, last);
                if last.is_some() {
                    let life = self.incarnation.unwrap_or_default();
                    let ear = history.listen(life, asking.channel, self.partition_of_channel(asking.channel), since);
                    self.ears.listening.insert((listener, asking.channel), ear);
                    context.note(|| format!("session {session} listens to {name} as ear {ear}"));
                }
                idle.push(session);
            }
            None if last.is_none() => {
                self.ears.again_at = Some(context.now() + AGAIN);
                self.wake_at(context.now() + AGAIN, context);
            }
            None => {}
        }
    }

    /// A session was to hear of something that nobody knows any more: it is told so, and hears no more.
    fn miss(&mut self, listener: Listener, channel: u8, history: &mut History, context: &mut Context) {
        context.note(|| format!("session {} of proxy {} is told of a gap", listener.0, self.index));
        self.stop_listening(listener, Some(channel), true, history, context);
        self.stop_listening(listener, None, false, history, context);
    }

    /// A session listens no more, to this channel or to any.
    pub(super) fn stop_listening(
        &mut self,
        listener: Listener,
        only: Option<u8>,
        missed: bool,
        history: &mut History,
        context: &mut Context,
    ) {
        let mine =
            |(of, channel): &(Listener, u8), _: &mut usize| *of == listener && only.is_none_or(|only| only == *channel);
        let gone: Vec<((Listener, u8), usize)> = self.ears.listening.extract_if(.., mine).collect();
        for ((_, channel), ear) in gone {
            history.deafen(ear, missed);
            let name = channel_name(channel);
            if self.ears.channels.leave(name, &listener) {
                let mut params = Vec::new();
                write_row(&mut params, [DatumRef::Int4(0), DatumRef::Text(name)].into_iter());
                let job = job(Act::Unlisten, params, None, Terms::PATIENT);
                self.open.push(Call::new(Owner::Deaf(channel), job, self.partition_of_channel(channel), context.now()));
            }
        }
    }

    /// The session ends.
    pub(super) fn end_listening(&mut self, session: u16, history: &mut History, context: &mut Context) {
        self.stop_listening(self.listener(session), None, false, history, context);
    }

    pub(super) fn stop_listening_to(
        &mut self,
        session: u16,
        channel: u8,
        history: &mut History,
        context: &mut Context,
    ) {
        self.stop_listening(self.listener(session), Some(channel), false, history, context);
    }

    /// A primary was told that nobody listens.
    pub(super) fn left_channel(&mut self, channel: u8) {
        if self.ears.channels.left(channel_name(channel)) {
            self.ears.disturb();
        }
    }

    /// Sessions get what came, and channels are asked for again whose lines have changed.
    pub(super) fn ears_go_on(&mut self, history: &mut History, context: &mut Context) {
        for (channel, number, payload) in std::mem::take(&mut self.ears.came) {
            for listener in self.ears.channels.hear(channel_name(channel), number) {
                if let Some(ear) = self.ears.listening.get(&(*listener, channel)) {
                    history.hear(*ear, payload, number);
                    context.note(|| format!("ear {ear} hears {payload}, number {number}"));
                }
            }
        }
        if self.ears.again_at.is_some_and(|at| at <= context.now()) {
            (self.ears.again_at, self.ears.disturbed) = (None, true);
        }
        let busy = self.ears.asking.values().any(|asking| asking.begins.is_none()) || self.ears.again_at.is_some();
        if busy || !std::mem::take(&mut self.ears.disturbed) {
            return;
        }
        let names: BTreeSet<u8> = self.ears.listening.keys().map(|(_, channel)| *channel).collect();
        let stale = self.ears.channels.stale(|channel| self.line_of(channel));
        for channel in names {
            let found = stale.iter().find(|(name, _)| name == channel_name(channel));
            if let Some((_, seen)) = found {
                let seen = Some(*seen).filter(|_| !context.sabotages(Sabotage::HeardBefore));
                self.ask_for(Asking { channel, seen, before: None, begins: None }, context);
            }
        }
    }
}
