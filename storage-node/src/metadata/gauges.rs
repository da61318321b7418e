//! The metadata group for the metrics endpoint, published by whoever leads it.

use super::leader::Gauges;
use metrics::{counter, gauge};

/// How it stands, as its leader sees it.
pub(super) fn leading(gauges: Option<Gauges>) {
    gauge!("toroid_metadata_leader").set(1.0);
    let Some(gauges) = gauges else { return };
    gauge!("toroid_metadata_term").set(gauges.term as f64);
    gauge!("toroid_metadata_map_version").set(gauges.map.0 as f64);
    gauge!("toroid_partitions_under_replicated").set(gauges.under_replicated as f64);
    gauge!("toroid_partitions_lost").set(gauges.lost as f64);
    gauge!("toroid_replicas_joining").set(gauges.joining as f64);
    gauge!("toroid_moves_required").set(gauges.required as f64);
    gauge!("toroid_moves_made").set(gauges.moved as f64);
    gauge!("toroid_replicas_repaired").set(gauges.repaired as f64);
    counter!("toroid_nodes_expired_total").absolute(gauges.expired);
    counter!("toroid_nodes_expired_alive_total").absolute(gauges.returned);
    counter!("toroid_cuts_total").absolute(gauges.cuts.cuts);
    counter!("toroid_void_cuts_total").absolute(gauges.cuts.voids);
}

/// This node leads no more; the other figures are the next leader's to tell.
pub(super) fn not_leading() {
    gauge!("toroid_metadata_leader").set(0.0);
}
