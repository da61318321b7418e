//! What sessions do beside tables: advisory locks of their own or of their transactions, as the product's conductor asks for them.

use super::super::context::Context;
use super::super::history::History;
use super::super::history::grip::Holder;
use super::super::history::notices::Told;
use super::super::workload::deed::{Deed, Terms, channel_name};
use super::Proxy;
use super::block::Open;
use super::statement::{Call, CallEnd, Job, Owner};
use std::collections::{BTreeMap, BTreeSet};
use toroid_common::datum::DatumRef;
use toroid_common::holding::Holding;
use toroid_common::id::{CatalogVersion, PartitionId, TableId};
use toroid_common::plan::{Act, AdvisoryKey, LockScope, PointPlan, Verb};
use toroid_common::row::write_row;
use toroid_common::wire::Within;

/// Before a partition is asked again to give back what a session held that has ended.
const AGAIN: u64 = super::super::clock::SECOND;

/// A session of this life of its proxy.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// How many there were in its place before.
    former: u32,
    pub(super) holding: Holding,
    doing: Option<Doing>,
}

/// What it is at.
#[derive(Clone, Debug)]
enum Doing {
    /// It asks for a lock that has this number in the history.
    Locks { key: AdvisoryKey, shared: bool, waits: bool, grip: usize },
    /// It gives one back, which it certainly has where there is a number.
    Unlocks { key: AdvisoryKey, shared: bool, sure: Option<usize> },
    /// It gives everything back, one partition after the other.
    UnlocksAll { left: Vec<PartitionId>, since: u64 },
    /// It says something that has this number in the history.
    Says(usize),
}

pub(super) type Sessions = BTreeMap<u16, Session>;

/// The plan of an act, and its place among plans.
pub(super) fn plan(act: Act) -> (u8, PointPlan) {
    let place = match act {
        Act::Lock { shared, scope, wait } => {
            u8::from(shared) * 4 + u8::from(scope == LockScope::Session) * 2 + u8::from(wait)
        }
        Act::Unlock { shared } => 8 + u8::from(shared),
        Act::UnlockAll => 10,
        Act::Notify => 11,
        Act::Listen => 12,
        Act::Unlisten => 13,
    };
    let params = act.params().to_vec();
    let (table, table_version) = (TableId(0), CatalogVersion(0));
    (100 + place, PointPlan { table, table_version, params, verb: Verb::Act(act), needs_env: false })
}

pub(super) fn job(act: Act, params: Vec<u8>, within: Option<Within>, terms: Terms) -> Job {
    Job::Act { act, params, within, lock_timeout_ms: terms.lock_timeout_ms, patience: terms.patience }
}

fn params_of_key(process: u32, key: AdvisoryKey) -> Vec<u8> {
    let mut out = Vec::new();
    let params = [DatumRef::Int4(process.cast_signed()), DatumRef::Bool(key.pair), DatumRef::Int8(key.key)];
    write_row(&mut out, params.into_iter());
    out
}

fn params_of_notice(process: u32, channel: u8, payload: u64, bytes: u16) -> Vec<u8> {
    let mut out = Vec::new();
    let payload = format!("{payload:<width$}", width = usize::from(bytes));
    let (process, channel) = (DatumRef::Int4(process.cast_signed()), DatumRef::Text(channel_name(channel)));
    write_row(&mut out, [process, channel, DatumRef::Text(&payload)].into_iter());
    out
}

fn told(end: &CallEnd) -> Told {
    match end {
        CallEnd::Count(_) => Told::Done,
        CallEnd::Error(_) | CallEnd::Nothing => Told::Never,
        CallEnd::Unknown | CallEnd::Response(_) => Told::Unknown,
    }
}

impl Proxy {
    /// How many sessions there were before in the place of one.
    pub(super) fn former(&self, session: u16) -> u32 {
        self.sessions.get(&session).map_or(0, |session| session.former)
    }

    /// The number of a session that no other one has.
    pub(super) fn process(&self, session: u16) -> u32 {
        1 + u32::from(session) + 1_000 * (u32::from(self.index) + 10 * self.former(session))
    }

    fn holder(&self, session: u16) -> Holder {
        (self.incarnation.unwrap_or_default(), self.process(session))
    }

    fn partition_of(&self, key: AdvisoryKey) -> PartitionId {
        key.partition(self.map.as_ref().map_or(1, |map| map.partitions.len() as u16))
    }

    /// Whether a session has advisory locks, or may have: it is to be known wherever it waits.
    pub(super) fn holds(&self, session: u16) -> bool {
        self.sessions.get(&session).is_some_and(|session| session.holding.holds())
    }

    /// A session does something by itself.
    pub(super) fn begin_deed(
        &mut self,
        session: u16,
        (deed, terms): (Deed, Terms),
        history: &mut History,
        idle: &mut Vec<u16>,
        context: &mut Context,
    ) {
        context.note(|| format!("session {session} of proxy {} does {deed:?}", self.index));
        let holder = self.holder(session);
        match deed {
            Deed::Lock { key, shared, wait, .. } => {
                let grip = history.reach(holder, (key, shared), self.partition_of(key), None);
                self.expect(session, key);
                self.session(session).doing = Some(Doing::Locks { key, shared, waits: wait, grip });
                let act = Act::Lock { shared, scope: LockScope::Session, wait };
                self.ask_deed(session, (act, key), terms, context);
            }
            Deed::Unlock { key, shared } => {
                let partition = self.partition_of(key);
                if !self.session(session).holding.is_expected(partition) {
                    return idle.push(session);
                }
                let sure = history.give(holder, (key, shared));
                self.session(session).doing = Some(Doing::Unlocks { key, shared, sure });
                self.ask_deed(session, (Act::Unlock { shared }, key), terms, context);
            }
            Deed::UnlockAll => {
                let since = history.give_all(holder);
                let holding = &mut self.session(session).holding;
                holding.unsure();
                let left = holding.partitions().collect();
                self.session(session).doing = Some(Doing::UnlocksAll { left, since });
                self.unlock_next(session, idle, context);
            }
            Deed::Notify { channel, payload, bytes } => {
                let partition = self.partition_of_channel(channel);
                let params = params_of_notice(self.process(session), channel, payload, bytes);
                let said = history.say((channel, payload, params.len()), partition, None);
                self.session(session).doing = Some(Doing::Says(said));
                let job = job(Act::Notify, params, None, terms);
                self.open.push(Call::new(Owner::Deed(session), job, partition, context.now()));
            }
            Deed::Listen { channel } => {
                if !self.begin_listening(session, channel, history, context) {
                    idle.push(session);
                }
            }
            Deed::Unlisten { channel } => {
                self.stop_listening_to(session, channel, history, context);
                idle.push(session);
            }
            Deed::Leave => {
                self.end_listening(session, history, context);
                self.leave(session, history, context);
                self.session(session).former += 1;
                idle.push(session);
            }
        }
    }

    fn session(&mut self, session: u16) -> &mut Session {
        self.sessions.entry(session).or_default()
    }

    fn expect(&mut self, session: u16, key: AdvisoryKey) {
        let (life, partition) = (self.incarnation.unwrap_or_default(), self.partition_of(key));
        self.session(session).holding.expect(life, partition);
    }

    fn ask_deed(&mut self, session: u16, (act, key): (Act, AdvisoryKey), terms: Terms, context: &mut Context) {
        let owner = Owner::Deed(session);
        let job = job(act, params_of_key(self.process(session), key), None, terms);
        self.open.push(Call::new(owner, job, self.partition_of(key), context.now()));
    }

    fn unlock_all(&self, session: u16, owner: Owner, partition: PartitionId, context: &Context) -> Call {
        let mut params = Vec::new();
        write_row(&mut params, [DatumRef::Int4(self.process(session).cast_signed())].into_iter());
        let terms = Terms { lock_timeout_ms: 0, patience: None };
        let job = job(Act::UnlockAll, params, None, terms);
        Call::new(owner, job, partition, context.now())
    }

    fn unlock_next(&mut self, session: u16, idle: &mut Vec<u16>, context: &mut Context) {
        let Some(Doing::UnlocksAll { left, .. }) = &mut self.session(session).doing else { return };
        match left.pop() {
            Some(partition) => {
                let call = self.unlock_all(session, Owner::Deed(session), partition, context);
                self.open.push(call);
            }
            None => {
                let state = self.session(session);
                (state.doing, state.holding) = (None, Holding::default());
                idle.push(session);
            }
        }
    }

    /// A session ends: what it holds is given back while nobody waits for that.
    pub(super) fn leave(&mut self, session: u16, history: &mut History, context: &mut Context) {
        let holding = self.session(session).holding.take();
        let holder = self.holder(session);
        let since = history.give_all(holder);
        if context.sabotages(super::super::sabotage::Sabotage::SessionEnds) {
            return;
        }
        for partition in holding.partitions() {
            let call = self.unlock_all(session, Owner::Left { holder, since }, partition, context);
            self.open.push(call);
        }
    }

    /// A session has nothing to do any more.
    pub fn retire(&mut self, session: u16, history: &mut History, context: &mut Context) {
        if self.sessions.contains_key(&session) {
            self.leave(session, history, context);
        }
    }

    /// As if primaries did not take over what sessions hold in partitions that have moved.
    pub(super) fn lose_grips(&mut self, moved: &BTreeSet<PartitionId>, context: &Context) {
        let mut calls = Vec::new();
        for (session, state) in &self.sessions {
            for partition in state.holding.partitions().filter(|partition| moved.contains(partition)) {
                calls.push(self.unlock_all(*session, Owner::Nobody, partition, context));
            }
        }
        self.open.extend(calls);
    }

    /// What was asked of a partition for a session that has ended.
    pub(super) fn left(
        &mut self,
        call: &Call,
        (holder, since): (Holder, u64),
        end: &CallEnd,
        history: &mut History,
        context: &mut Context,
    ) {
        match end {
            CallEnd::Count(_) => history.gave_all(holder, call.partition, since),
            CallEnd::Error(_) | CallEnd::Nothing | CallEnd::Unknown | CallEnd::Response(_) => {
                let again = Call::new(call.owner, call.job.clone(), call.partition, context.now());
                self.open.push(again.later(context.now() + AGAIN));
            }
        }
    }

    /// What a session did by itself has ended.
    pub(super) fn deed_ended(
        &mut self,
        session: u16,
        partition: PartitionId,
        end: &CallEnd,
        history: &mut History,
        idle: &mut Vec<u16>,
        context: &mut Context,
    ) {
        let holder = self.holder(session);
        match self.session(session).doing.take() {
            Some(Doing::Locks { key, shared, waits, grip }) => {
                self.lock_ended(session, (key, shared), (grip, waits), end, history);
            }
            Some(Doing::Unlocks { key, shared, sure }) => {
                if let CallEnd::Count(count) = end {
                    history.gave(holder, (key, shared), sure, *count > 0);
                    if *count > 0 {
                        self.session(session).holding.gave(key, shared);
                    }
                }
            }
            Some(Doing::UnlocksAll { left, since }) => {
                if let CallEnd::Count(_) = end {
                    history.gave_all(holder, partition, since);
                    self.session(session).doing = Some(Doing::UnlocksAll { left, since });
                    return self.unlock_next(session, idle, context);
                }
            }
            Some(Doing::Says(said)) => history.said(said, told(end)),
            None => {}
        }
        idle.push(session);
    }

    fn lock_ended(
        &mut self,
        session: u16,
        (key, shared): (AdvisoryKey, bool),
        (grip, waits): (usize, bool),
        end: &CallEnd,
        history: &mut History,
    ) {
        let holding = &mut self.session(session).holding;
        match end {
            CallEnd::Count(0) => history.reached(grip, false, !waits),
            CallEnd::Count(_) => {
                holding.took(key, shared);
                history.reached(grip, true, false);
            }
            CallEnd::Error(_) | CallEnd::Nothing => {
                holding.unsure();
                history.reached(grip, false, false);
            }
            CallEnd::Unknown | CallEnd::Response(_) => holding.unsure(),
        }
    }

    /// The same within a transaction: of its own, or the session's. Returns what the request says of the transaction, or none if it cannot be made.
    pub(super) fn begin_deed_within(
        &mut self,
        open: &mut Open,
        deed: Deed,
        history: &mut History,
        context: &mut Context,
    ) -> Option<(usize, Option<Within>)> {
        let session = open.session();
        if let Deed::Notify { channel, payload, bytes } = deed {
            let partition = self.partition_of_channel(channel);
            let within = open.request(partition, &Verb::Act(Act::Notify))?;
            let params = params_of_notice(self.process(session), channel, payload, bytes);
            let said = history.say((channel, payload, params.len()), partition, Some(open.record()));
            let job = job(Act::Notify, params, Some(within), open.terms());
            self.open.push(Call::new(open.owner(), job, partition, context.now()));
            return Some((said, Some(within)));
        }
        let Deed::Lock { key, shared, scope, wait } = deed else { return None };
        let (holder, partition) = (self.holder(session), self.partition_of(key));
        let act = Act::Lock { shared, scope, wait };
        let within = match scope {
            LockScope::Session => {
                self.expect(session, key);
                None
            }
            LockScope::Transaction => Some(open.request(partition, &Verb::Act(act))?),
        };
        let transaction = (scope == LockScope::Transaction).then(|| open.record());
        let grip = history.reach(holder, (key, shared), partition, transaction);
        let owner = open.owner();
        let job = job(act, params_of_key(self.process(session), key), within, open.terms());
        self.open.push(Call::new(owner, job, partition, context.now()));
        Some((grip, within))
    }

    /// It has ended; false when that is an error.
    pub(super) fn deed_within_ended(
        &mut self,
        session: u16,
        deed: Deed,
        grip: usize,
        end: &CallEnd,
        history: &mut History,
    ) -> bool {
        if let Deed::Notify { .. } = deed {
            history.said(grip, told(end));
            return matches!(end, CallEnd::Count(_));
        }
        let Deed::Lock { key, shared, scope, wait } = deed else { return false };
        match (scope, end) {
            (LockScope::Session, end) => self.lock_ended(session, (key, shared), (grip, wait), end, history),
            (LockScope::Transaction, CallEnd::Count(count)) => {
                history.reached(grip, *count > 0, *count == 0 && !wait);
            }
            (LockScope::Transaction, CallEnd::Error(_) | CallEnd::Nothing) => history.reached(grip, false, false),
            (LockScope::Transaction, CallEnd::Unknown | CallEnd::Response(_)) => {}
        }
        matches!(end, CallEnd::Count(_))
    }
}
