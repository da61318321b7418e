//! The metadata group as the cluster sees it: one leader that serves connections over the real, pure metadata modules.

use super::clock::Instant;
use super::context::{Context, group_address};
use super::network::{Arrival, End, Host, Side, What, WireId};
use super::observe;
use std::collections::BTreeMap;
use toroid_common::id::{ClusterId, Incarnation, MapVersion};
use toroid_common::map::ClusterMap;
use toroid_common::wire::{Message, NoticeBody, RawFrame, Welcome};
use toroid_storage_node::metadata::{Founding, Metadata};

#[derive(Debug)]
pub struct Group {
    founding: Founding,
    life: u32,
    metadata: Metadata,
    paused_until: Instant,
    deferred: Vec<Arrival>,
    clients: BTreeMap<u64, WireId>,
    seen: MapVersion,
    /// The map as the group has it.
    pub map: Option<ClusterMap>,
}

impl Group {
    #[must_use]
    pub fn new(cluster: ClusterId, nodes: usize, copies: u8, partitions: u16) -> Group {
        let founding = Founding { cluster, nodes, copies, partitions };
        Group {
            founding,
            life: 0,
            metadata: Metadata::new(founding),
            paused_until: 0,
            deferred: Vec::new(),
            clients: BTreeMap::new(),
            seen: MapVersion(0),
            map: None,
        }
    }

    fn end(&self) -> End {
        End { host: Host::Group, part: 0, life: self.life }
    }

    pub fn start(&mut self, context: &mut Context) {
        self.life += 1;
        context.network.listen(group_address(), self.end());
    }

    pub fn pause(&mut self, until: Instant, context: &mut Context) {
        self.paused_until = self.paused_until.max(until);
        context.agenda.at(self.paused_until, super::context::Happening::Wake(self.end()));
    }

    pub fn woken(&mut self, end: End, context: &mut Context) {
        if end.life != self.life || context.now() < self.paused_until {
            return;
        }
        for arrival in std::mem::take(&mut self.deferred) {
            self.take(arrival, context);
        }
    }

    pub fn arrived(&mut self, end: End, arrival: Arrival, context: &mut Context) {
        if end.life != self.life {
            return;
        }
        if context.now() < self.paused_until {
            return self.deferred.push(arrival);
        }
        self.take(arrival, context);
    }

    fn take(&mut self, arrival: Arrival, context: &mut Context) {
        let client = u64::from(arrival.wire.0);
        match arrival.what {
            What::Accepted => drop(self.clients.insert(client, arrival.wire)),
            What::Bytes(bytes) => {
                let mut rest = &bytes[..];
                while let Ok(Some((frame, used))) = RawFrame::split(rest) {
                    rest = rest.get(used..).unwrap_or_default();
                    self.frame(client, arrival.wire, frame, context);
                }
            }
            What::Closed | What::Failed => {
                self.clients.remove(&client);
                self.metadata.closed(client);
            }
            What::Opened | What::Knock => {}
        }
    }

    fn frame(&mut self, client: u64, wire: WireId, frame: RawFrame<'_>, context: &mut Context) {
        match Message::decode(frame) {
            Ok(Message::Hello(_)) => {
                let welcome = Welcome { cluster: self.founding.cluster, worker: None, incarnation: Incarnation(1) };
                context.send_message(wire, Side::Accepter, &Message::Welcome(welcome));
            }
            Ok(Message::Control(control)) => {
                let mut outbox = Vec::new();
                self.metadata.control(client, control, &mut outbox);
                for (client, notice) in outbox {
                    if let NoticeBody::Map(map) = &notice.body
                        && map.version > self.seen
                    {
                        self.seen = map.version;
                        self.map = Some(map.clone());
                        observe::mapped(map, context);
                    }
                    if let Some(wire) = self.clients.get(&client) {
                        context.send_message(*wire, Side::Accepter, &Message::Notice(notice));
                    }
                }
            }
            Ok(_) | Err(_) => context.close(wire, Side::Accepter),
        }
    }
}
