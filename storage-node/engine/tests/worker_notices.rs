//! Notifications of one partition: told in their order to who listens, once for each transaction, and again where a primary was lost.

mod cluster;
mod fixture;

use cluster::transactions::Session;
use cluster::{Cluster, Got, INSERT, row};
use toroid_common::datum::Datum;
use toroid_common::error::SqlState;
use toroid_common::id::{CatalogVersion, CutId, Epoch, MapVersion, PartitionId, TableId};
use toroid_common::plan::{Act, PointPlan, Verb};
use toroid_common::transaction::{Level, Step};
use toroid_common::wire::{RequestBody, Within};
use toroid_engine::worker::Event;

const NOTIFY: u32 = 60;
const LISTEN: u32 = 61;
const UNLISTEN: u32 = 62;

struct Scene {
    cluster: Cluster,
    /// By worker.
    proxies: Vec<usize>,
    sequence: u64,
    earlier: u32,
}

impl Scene {
    fn new() -> Scene {
        let mut cluster = Cluster::new(2, 2);
        cluster.low = 1;
        let proxies = (0..2).map(|worker| cluster.proxy(worker, 9)).collect();
        let mut scene = Scene { cluster, proxies, sequence: 10, earlier: 0 };
        for proxy in 0..2 {
            scene.plans(scene.proxies[proxy]);
        }
        scene.cluster.run();
        scene.cluster.got.clear();
        scene
    }

    fn plans(&mut self, proxy: usize) {
        for (id, act) in [(NOTIFY, Act::Notify), (LISTEN, Act::Listen), (UNLISTEN, Act::Unlisten)] {
            let (table, table_version) = (TableId(0), CatalogVersion(0));
            let (params, verb) = (act.params().to_vec(), Verb::Act(act));
            self.cluster.register(proxy, id, &PointPlan { table, table_version, params, verb, needs_env: false });
        }
    }

    fn proxy(&self) -> usize {
        self.proxies[self.cluster.primary(0).unwrap()]
    }

    fn send(&mut self, plan: u32, within: Option<u64>, values: &[Datum]) {
        self.sequence += 1;
        let earlier = self.earlier;
        self.earlier += u32::from(within.is_some());
        let within = within.map(|number| Within {
            number,
            earlier,
            level: Level::ReadCommitted,
            cut: None,
            process: 7,
            prepares: None,
        });
        let params = row(values);
        let (proxy, body) = (self.proxy(), RequestBody::Point { params: &params });
        self.cluster.request_within(proxy, 0, self.sequence, (plan, within), body);
    }

    fn notify(&mut self, within: Option<u64>, channel: &str, payload: &str) -> Vec<Got> {
        let text = |text: &str| Datum::Text(text.to_owned());
        self.send(NOTIFY, within, &[Datum::Int4(7), text(channel), text(payload)]);
        self.told()
    }

    fn listen(&mut self, channel: &str, seen: i64) -> Vec<Got> {
        self.send(LISTEN, None, &[Datum::Int4(0), Datum::Text(channel.to_owned()), Datum::Int8(seen)]);
        self.told()
    }

    fn step(&mut self, number: u64, step: Step) -> Vec<Got> {
        self.sequence += 1;
        let proxy = self.proxy();
        let session = Session { proxy, ..Session::begin(proxy, number, Level::ReadCommitted) };
        self.cluster.step_of(&session, 0, self.sequence, step);
        self.told()
    }

    fn told(&mut self) -> Vec<Got> {
        self.cluster.run();
        std::mem::take(&mut self.cluster.got).into_values().flatten().collect()
    }

    fn done(&self, count: u64) -> Got {
        Got::Done(self.sequence, count)
    }
}

fn heard(number: u64, text: &str) -> Got {
    Got::Heard(number, text.to_owned())
}

#[test]
fn listeners_are_told_before_the_answer_and_others_are_not() {
    let mut scene = Scene::new();
    assert_eq!(scene.notify(None, "c", "nobody hears"), [scene.done(1)]);
    assert_eq!(scene.listen("c", -1), [scene.done(2)]);
    assert_eq!(scene.notify(None, "c", "a"), [heard(2, "7 c a"), scene.done(1)]);
    assert_eq!(scene.notify(None, "d", "a"), [scene.done(1)]);
    assert_eq!(scene.notify(None, "c", "a"), [heard(4, "7 c a"), scene.done(1)]);
    // Who listens twice is told once, whatever it says to have seen: the rest is under way to it.
    assert_eq!(scene.listen("c", -1), [scene.done(8)]);
    assert_eq!(scene.listen("c", 1), [scene.done(8)]);
    scene.send(UNLISTEN, None, &[Datum::Int4(0), Datum::Text("c".to_owned())]);
    assert_eq!(scene.told(), [scene.done(1)]);
    assert_eq!(scene.notify(None, "c", "b"), [scene.done(1)]);
}

#[test]
fn a_transaction_sends_each_once_when_it_commits_and_nothing_that_it_takes_back() {
    let mut scene = Scene::new();
    scene.listen("c", -1);
    for payload in ["a", "b", "a", "gone"] {
        assert_eq!(scene.notify(Some(5), "c", payload), [scene.done(1)]);
    }
    scene.step(5, Step::RollBackTo { requests: 4, keep: 3 });
    assert_eq!(scene.step(5, Step::Commit { requests: 4 }), [heard(1, "7 c a"), heard(2, "7 c b"), scene.done(0)]);
    scene.earlier = 0;
    scene.notify(Some(6), "c", "a");
    assert_eq!(scene.step(6, Step::RollBack), [scene.done(0)]);
    // Prepared and finished.
    scene.earlier = 0;
    scene.notify(Some(7), "c", "prepared");
    let anchor = PartitionId(1);
    assert_eq!(scene.step(7, Step::Prepare { requests: 1, anchor }), [scene.done(1)]);
    assert_eq!(scene.step(7, Step::Finish { commit: true }), [heard(3, "7 c prepared"), scene.done(0)]);
}

#[test]
fn nothing_is_told_that_could_be_lost_and_what_was_missed_is_told_by_the_next_primary() {
    let mut scene = Scene::new();
    scene.listen("c", -1);
    assert_eq!(scene.notify(None, "c", "a"), [heard(1, "7 c a"), scene.done(1)]);
    // The backup does not answer.
    scene.cluster.freeze(0, 1);
    assert_eq!(scene.notify(None, "c", "b"), []);
    assert_eq!(scene.listen("c", 0), [], "it listens already");
    scene.cluster.thaw();
    let told = scene.told();
    assert!(told.contains(&heard(2, "7 c b")), "{told:?}");
    scene.cluster.kill(0);
    scene.cluster.expire(0, |_| 0);
    scene.cluster.run();
    scene.cluster.got.clear();
    assert_eq!(scene.notify(None, "c", "c"), [scene.done(1)]);
    assert_eq!(scene.listen("c", 1), [heard(2, "7 c b"), heard(3, "7 c c"), scene.done(6)]);
    // It has seen more than there is: the partition was lost.
    assert_eq!(scene.listen("d", 9), [scene.done(7)]);
}

#[test]
fn a_partition_that_begins_again_has_other_numbers_and_who_listened_is_told() {
    let mut scene = Scene::new();
    scene.listen("c", -1);
    assert_eq!(scene.notify(None, "c", "a"), [heard(1, "7 c a"), scene.done(1)]);
    scene.cluster.change_assignment(0, |assignment| {
        (assignment.epoch, assignment.origin) = (Epoch(5), Epoch(5));
    });
    scene.told();
    // As many as the listener has heard, before it asks again.
    assert_eq!(scene.notify(None, "c", "b"), [scene.done(1)]);
    let base: u64 = 4 << 32;
    assert_eq!(scene.listen("c", 1), [scene.done(2 * (base + 1) + 1)]);
    assert_eq!(scene.notify(None, "c", "c"), [heard(base + 2, "7 c c"), scene.done(1)]);
}

#[test]
fn what_a_cut_may_not_show_is_not_told_either() {
    let mut scene = Scene::new();
    scene.listen("c", -1);
    let cut = CutId { term: 1, round: 1 };
    scene.cluster.step(0, Event::Capture { cut, map: MapVersion(1) });
    assert_eq!(scene.notify(None, "c", "a"), []);
    scene.cluster.step(0, Event::Release { cut, committed: Some([].into()) });
    assert_eq!(scene.told(), [heard(1, "7 c a"), scene.done(1)]);
}

#[test]
fn what_came_before_a_capture_is_told_before_its_answer() {
    let mut scene = Scene::new();
    scene.listen("c", -1);
    scene.cluster.freeze(0, 1);
    assert_eq!(scene.notify(None, "c", "a"), []);
    let first = scene.done(1);
    let cut = CutId { term: 1, round: 1 };
    scene.cluster.step(0, Event::Capture { cut, map: MapVersion(1) });
    assert_eq!(scene.notify(None, "c", "b"), []);
    scene.cluster.thaw();
    assert_eq!(scene.told(), [heard(1, "7 c a"), first]);
    scene.cluster.step(0, Event::Release { cut, committed: Some([].into()) });
    assert_eq!(scene.told(), [heard(2, "7 c b"), scene.done(1)]);
}

#[test]
fn rows_of_a_transaction_are_no_notifications() {
    let mut scene = Scene::new();
    let large = "x".repeat(1 << 20);
    let proxy = scene.proxy();
    let mut session = Session { proxy, ..Session::begin(proxy, 5, Level::ReadCommitted) };
    for id in 0..4 {
        scene.sequence += 1;
        scene.cluster.statement(&mut session, 0, scene.sequence, (INSERT, id, &large));
        assert_eq!(scene.told(), [scene.done(1)]);
    }
    scene.earlier = 4;
    assert_eq!(scene.notify(Some(5), "c", "loaded"), [scene.done(1)]);
    // What is taken back does not count either.
    let large = "x".repeat(7_999);
    for number in 0..200 {
        assert_eq!(scene.notify(Some(5), "c", &format!("{number}{large}")), [scene.done(1)]);
    }
    scene.step(5, Step::RollBackTo { requests: 205, keep: 5 });
    for number in 0..200 {
        assert_eq!(scene.notify(Some(5), "c", &format!("{number}{large}")), [scene.done(1)]);
    }
    assert_eq!(scene.step(5, Step::Commit { requests: 405 }), [scene.done(0)]);
    assert_eq!(scene.listen("c", -1), [scene.done(2 * 201)]);
}

#[test]
fn what_other_channels_have_sent_is_nothing_that_a_quiet_one_lost() {
    let mut scene = Scene::new();
    scene.listen("quiet", -1);
    scene.notify(None, "quiet", "a");
    let large = "x".repeat(7_999);
    for number in 0..600 {
        assert_eq!(scene.notify(None, "loud", &format!("{number}{large}")), [scene.done(1)]);
    }
    let last = 601;
    assert_eq!(scene.listen("quiet", 1), [scene.done(2 * last)], "over the same connection");
    scene.cluster.kill(0);
    scene.cluster.expire(0, |_| 0);
    scene.cluster.run();
    scene.cluster.got.clear();
    assert_eq!(scene.listen("quiet", 1), [scene.done(2 * last)], "from the next primary");
    assert_eq!(scene.notify(None, "quiet", "b"), [heard(602, "7 quiet b"), scene.done(1)]);
    assert_eq!(scene.listen("loud", 1), [scene.done(2 * 602 + 1)], "these are gone");
    assert_eq!(scene.listen("never", 0), [scene.done(2 * 602)]);
}

#[test]
fn who_missed_something_is_sent_away_and_hears_of_it() {
    let mut scene = Scene::new();
    let other = scene.cluster.proxy(0, 8);
    scene.plans(other);
    let first = std::mem::replace(&mut scene.proxies[0], other);
    scene.listen("quiet", -1);
    scene.proxies[0] = first;
    scene.listen("loud", -1);
    // As long as a cut is being made nobody is told of anything.
    let cut = CutId { term: 1, round: 1 };
    scene.cluster.step(0, Event::Capture { cut, map: MapVersion(1) });
    let large = "x".repeat(7_999);
    for number in 0..600 {
        assert_eq!(scene.notify(None, "loud", &format!("{number}{large}")), []);
    }
    assert_eq!(scene.notify(None, "quiet", "a"), []);
    scene.cluster.step(0, Event::Release { cut, committed: Some([].into()) });
    scene.cluster.run();
    assert_eq!(scene.cluster.closed, ["notifications were lost before they could be told"]);
    let told = |got: &Got| matches!(got, Got::Heard(..));
    assert_eq!(scene.cluster.take(other).into_iter().filter(told).collect::<Vec<_>>(), [heard(601, "7 quiet a")]);
    assert!(!scene.cluster.take(first).iter().any(told), "what came later would hide what is lost");
    scene.proxies[0] = scene.cluster.proxy(0, 9);
    scene.plans(scene.proxies[0]);
    assert_eq!(scene.listen("loud", 0), [scene.done(2 * 601 + 1)]);
}

#[test]
fn what_would_be_lost_before_it_is_heard_is_refused() {
    let mut scene = Scene::new();
    let large = "x".repeat(7_999);
    let refused = |got: &Got| match got {
        Got::Error(_, error) => error.state() == SqlState::PROGRAM_LIMIT_EXCEEDED,
        _ => false,
    };
    let sent = (0..400).position(|number| scene.notify(Some(5), "c", &format!("{large}{number}")).iter().any(refused));
    assert!(sent.is_some_and(|sent| sent > 200), "{sent:?}");
    scene.step(5, Step::RollBack);
    assert_eq!(scene.listen("c", 0), [scene.done(0)]);
}
