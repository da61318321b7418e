//! A proxy's line to the metadata service: what it watches, the lease of its incarnation, and what it asks for in others' names.

use super::super::context::Context;
use super::super::history::History;
use super::super::network::{Arrival, Side, What, WireId};
use super::super::sabotage::Sabotage;
use super::super::workload::table;
use super::{Proxy, RECONNECT};
use std::collections::BTreeSet;
use std::sync::Arc;
use toroid_common::id::PartitionId;
use toroid_common::map::ClusterMap;
use toroid_common::wire::{
    CatalogChange, Control, ControlBody, Hello, Message, NoticeBody, PROTOCOL_VERSION, RawFrame, Role,
};

pub(super) const ALLOCATE: u32 = 2;
pub(super) const RENEW: u32 = 3;

impl Proxy {
    pub(super) fn metadata_arrived(
        &mut self,
        arrival: Arrival,
        history: &mut History,
        idle: &mut Vec<u16>,
        context: &mut Context,
    ) {
        match arrival.what {
            What::Opened => {
                self.stands = true;
                let hello = Hello { version: PROTOCOL_VERSION, cluster: None, role: Role::Client };
                let mut bytes = Vec::new();
                Message::Hello(hello).write(&mut bytes);
                Message::Control(Control { number: 1, body: ControlBody::Watch }).write(&mut bytes);
                if self.incarnation.is_none() {
                    let body = ControlBody::AllocateIncarnation;
                    Message::Control(Control { number: ALLOCATE, body }).write(&mut bytes);
                }
                context.send(arrival.wire, Side::Opener, bytes);
                self.ask_for_cuts(context);
                self.ask_for_changes_again(context);
            }
            What::Bytes(bytes) => {
                self.heard = context.now();
                let mut rest = &bytes[..];
                while let Ok(Some((frame, used))) = RawFrame::split(rest) {
                    rest = rest.get(used..).unwrap_or_default();
                    if let Ok(Message::Notice(notice)) = Message::decode(frame) {
                        self.notice(notice.number, notice.body, history, idle, context);
                    }
                }
            }
            What::Closed | What::Failed => self.line_lost(context),
            What::Accepted | What::Knock => {}
        }
    }

    pub(super) fn line_lost(&mut self, context: &mut Context) {
        (self.metadata, self.stands) = (None, false);
        self.wake_at(context.now() + RECONNECT, context);
    }

    fn notice(
        &mut self,
        number: u32,
        body: NoticeBody,
        history: &mut History,
        idle: &mut Vec<u16>,
        context: &mut Context,
    ) {
        match body {
            NoticeBody::Incarnation(incarnation) => {
                self.incarnation.get_or_insert(incarnation);
            }
            NoticeBody::Map(map) => {
                if self.map.as_ref().is_some_and(|have| have.version >= map.version) {
                    return;
                }
                self.links.retain(|(_, worker), link| {
                    map.node(worker.node).is_some_and(|node| node.incarnation == link.incarnation)
                });
                self.calls.moved(&map);
                if context.sabotages(Sabotage::TakenGrips) {
                    let moved = self.moved(&map);
                    self.lose_grips(&moved, context);
                }
                self.map = Some(Arc::new(map));
                self.ears.disturb();
            }
            NoticeBody::Catalog(catalog) => self.catalog = Some(Arc::new(catalog)),
            NoticeBody::Ready => self.ready = true,
            NoticeBody::Changed(result) => self.change_answered(number, Some(result), history, idle, context),
            NoticeBody::Failed { .. } => self.change_answered(number, None, history, idle, context),
            NoticeBody::Cut { cut, .. } => self.cut_came(number, cut, context),
            NoticeBody::NotLeader { leader } => {
                self.leader = leader;
                if let Some(wire) = self.metadata {
                    context.close(wire, Side::Opener);
                    self.line_lost(context);
                }
            }
            NoticeBody::Joined { .. }
            | NoticeBody::LeaseRenewed { .. }
            | NoticeBody::Proxies { .. }
            | NoticeBody::Done
            | NoticeBody::GivenUp(_)
            | NoticeBody::Recovered(_)
            | NoticeBody::Status(_)
            | NoticeBody::Capture { .. }
            | NoticeBody::Release { .. }
            | NoticeBody::DropCut(_)
            | NoticeBody::Cuts { .. }
            | NoticeBody::Deadlock { .. }
            | NoticeBody::Inquiry(_) => {}
        }
    }

    /// Partitions that have another primary in this map than in the last one.
    fn moved(&self, map: &ClusterMap) -> BTreeSet<PartitionId> {
        let Some(last) = &self.map else { return BTreeSet::new() };
        let all = (0..map.partitions.len()).map(|index| PartitionId(index as u16));
        let primary = |map: &ClusterMap, partition| map.assignment(partition).and_then(|assignment| assignment.primary);
        all.filter(|partition| primary(map, *partition) != primary(last, *partition)).collect()
    }

    pub(super) fn ask(&mut self, wire: WireId, body: ControlBody, context: &mut Context) -> u32 {
        self.number += 1;
        context.send_message(wire, Side::Opener, &Message::Control(Control { number: self.number, body }));
        self.number
    }

    /// Passes on what an operator asks for; what it comes to is seen in the map.
    pub fn administer(&mut self, body: ControlBody, context: &mut Context) {
        if let (Some(wire), true) = (self.metadata, self.stands) {
            context.note(|| format!("an operator asks for {body:?}"));
            self.ask(wire, body, context);
        }
    }

    /// Asks for the table that all operations are on.
    pub fn create_table(&mut self, context: &mut Context) {
        let (Some(wire), Some(catalog), true) = (self.metadata, &self.catalog, self.stands) else { return };
        let change = CatalogChange::CreateTable(table::table());
        let body = ControlBody::Change { id: None, expected: catalog.version, change };
        self.ask(wire, body, context);
    }
}
