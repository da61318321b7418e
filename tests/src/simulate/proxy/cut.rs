//! Cuts as a proxy holds them: asked for at the metadata service, again after its line was lost, and given back.

use super::super::context::Context;
use super::super::network::Side;
use super::Proxy;
use std::collections::BTreeMap;
use toroid_common::id::CutId;
use toroid_common::wire::{Control, ControlBody, Message};

/// Names a cut that was asked for: the number of the request.
pub(super) type Ticket = u32;

/// By request, the cut when it has come.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    wanted: BTreeMap<Ticket, Option<CutId>>,
}

impl Cuts {
    /// Takes a cut that has come for a request; until then there is none.
    pub(super) fn take(&mut self, ticket: Ticket) -> Option<CutId> {
        let cut = self.wanted.get(&ticket).copied().flatten()?;
        self.wanted.remove(&ticket);
        Some(cut)
    }
}

impl Proxy {
    pub(super) fn open_cut(&mut self, context: &mut Context) -> Ticket {
        self.number += 1;
        self.cuts.wanted.insert(self.number, None);
        self.ask_for_cut(self.number, context);
        self.number
    }

    fn ask_for_cut(&self, number: Ticket, context: &mut Context) {
        if let (Some(wire), true) = (self.metadata, self.stands) {
            context.send_message(wire, Side::Opener, &Message::Control(Control { number, body: ControlBody::OpenCut }));
        }
    }

    /// A new line to the metadata service: what was asked over the last one is asked again.
    pub(super) fn ask_for_cuts(&self, context: &mut Context) {
        let asked = self.cuts.wanted.iter().filter(|(_, cut)| cut.is_none());
        asked.for_each(|(number, _)| self.ask_for_cut(*number, context));
    }

    pub(super) fn cut_came(&mut self, number: Ticket, cut: CutId, context: &mut Context) {
        match self.cuts.wanted.get_mut(&number) {
            Some(place) => *place = Some(cut),
            // Nobody waits for it any more.
            None => self.close_cut(cut, context),
        }
    }

    /// Nobody waits for this request any more.
    pub(super) fn forget_cut(&mut self, ticket: Ticket, context: &mut Context) {
        if let Some(Some(cut)) = self.cuts.wanted.remove(&ticket) {
            self.close_cut(cut, context);
        }
    }

    pub(super) fn close_cut(&self, cut: CutId, context: &mut Context) {
        if let (Some(wire), true) = (self.metadata, self.stands) {
            let body = ControlBody::CloseCut(cut);
            context.send_message(wire, Side::Opener, &Message::Control(Control { number: 0, body }));
        }
    }
}
