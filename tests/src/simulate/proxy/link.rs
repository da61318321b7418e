//! A proxy's connections to workers: one for requests and one for fragments to each, as the product has them.

use super::super::context::Context;
use super::super::network::{Arrival, Side, What, WireId};
use super::super::observe;
use super::Proxy;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use toroid_common::calls::Event;
use toroid_common::id::{Incarnation, PlanId, WorkerId};
use toroid_common::routing::Trouble;
use toroid_common::wire::{Hello, Message, Outcome, PROTOCOL_VERSION, RawFrame, Role};

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    Requests,
    Fragments,
}

/// Where a connection leads.
#[derive(Clone, Copy, Debug)]
pub struct Lead {
    pub to: Use,
    pub worker: WorkerId,
    pub incarnation: Incarnation,
}

/// The connection that is used for a worker now.
#[derive(Debug)]
pub struct Link {
    pub wire: WireId,
    pub incarnation: Incarnation,
    pub welcome: bool,
    /// What waits for the welcome.
    pub out: Vec<u8>,
    pub plans: BTreeSet<PlanId>,
}

impl Proxy {
    /// Opens a connection to a worker unless there is one.
    pub(super) fn link(&mut self, lead: Lead, address: SocketAddr, context: &mut Context) -> Option<&mut Link> {
        let place = (lead.to, lead.worker);
        if !self.links.contains_key(&place) {
            let wire = context.connect(self.end(), address);
            self.wires.insert(wire, lead);
            let plans = BTreeSet::new();
            let link = Link { wire, incarnation: lead.incarnation, welcome: false, out: Vec::new(), plans };
            self.links.insert(place, link);
        }
        self.links.get_mut(&place)
    }

    pub(super) fn worker_arrived(&mut self, arrival: Arrival, context: &mut Context) {
        let Some(lead) = self.wires.get(&arrival.wire).copied() else { return };
        match arrival.what {
            What::Opened => {
                let (Some(map), Some(mine)) = (&self.map, self.incarnation) else { return };
                let role = Role::Proxy { incarnation: mine };
                let hello = Hello { version: PROTOCOL_VERSION, cluster: Some(map.cluster), role };
                observe::introduced(arrival.wire, mine, context);
                context.send_message(arrival.wire, Side::Opener, &Message::Hello(hello));
            }
            What::Bytes(bytes) => {
                let mut rest = &bytes[..];
                while let Ok(Some((frame, used))) = RawFrame::split(rest) {
                    rest = rest.get(used..).unwrap_or_default();
                    if !self.frame(arrival.wire, lead, frame, context) {
                        context.close(arrival.wire, Side::Opener);
                        return self.link_lost(arrival.wire, lead);
                    }
                }
            }
            What::Closed | What::Failed => self.link_lost(arrival.wire, lead),
            What::Accepted | What::Knock => {}
        }
    }

    fn link_lost(&mut self, wire: WireId, lead: Lead) {
        self.wires.remove(&wire);
        let place = (lead.to, lead.worker);
        if self.links.get(&place).is_some_and(|link| link.wire == wire) {
            self.links.remove(&place);
        }
        self.ears.disturb();
        match lead.to {
            Use::Requests => self.calls.lose(lead.worker),
            Use::Fragments => self.scans.iter_mut().for_each(|scan| scan.lost(wire)),
        }
    }

    /// A frame of a worker; false when the connection is of no use.
    fn frame(&mut self, wire: WireId, lead: Lead, frame: RawFrame<'_>, context: &mut Context) -> bool {
        match Message::decode(frame) {
            Ok(Message::Welcome(welcome)) => {
                if welcome.incarnation != lead.incarnation {
                    return false;
                }
                if let Some(link) = self.links.get_mut(&(lead.to, lead.worker)).filter(|link| link.wire == wire) {
                    link.welcome = true;
                    let out = std::mem::take(&mut link.out);
                    context.send(wire, Side::Opener, out);
                }
                true
            }
            Ok(Message::Answer(answer)) => {
                let event = match &answer.outcome {
                    Outcome::Refused(refusal) => Event::Trouble(Trouble::Refused(*refusal)),
                    outcome @ (Outcome::Rows { .. } | Outcome::Done { .. } | Outcome::Error(_)) => {
                        let mut bytes = Vec::new();
                        outcome.encode(&mut bytes);
                        Event::Answer(bytes)
                    }
                };
                self.calls.deliver(answer.sequence, lead.worker, event);
                true
            }
            Ok(Message::Notification(notification)) => {
                self.ears.came(notification.channel, notification.number, notification.payload);
                true
            }
            Ok(Message::FragmentBatch(batch)) => {
                if let Some(scan) = self.scans.iter_mut().find(|scan| scan.awaits(batch.sequence)) {
                    scan.batch(wire, &batch, context);
                }
                true
            }
            Ok(Message::FragmentEnd(end)) => {
                if let Some(scan) = self.scans.iter_mut().find(|scan| scan.awaits(end.sequence)) {
                    scan.piece_ended(end);
                }
                true
            }
            Ok(_) | Err(_) => false,
        }
    }
}

impl Link {
    /// Sends bytes, as soon as the worker has said who it is.
    pub(super) fn send(&mut self, bytes: Vec<u8>, context: &mut Context) {
        if self.welcome {
            context.send(self.wire, Side::Opener, bytes);
        } else {
            self.out.extend_from_slice(&bytes);
        }
    }
}
