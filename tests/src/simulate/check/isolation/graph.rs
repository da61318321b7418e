//! Instants, what had to be before what, and the shortest circle in that.

use std::collections::{BTreeMap, VecDeque};

/// An instant, somewhere between two stamps.
#[derive(Debug)]
struct Instant {
    name: String,
    began: u64,
    ended: u64,
}

#[derive(Debug, Default)]
pub struct Graph {
    instants: Vec<Instant>,
    edges: Vec<BTreeMap<usize, String>>,
}

/// A step of a circle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    pub from: String,
    pub to: String,
    pub why: String,
}

impl Graph {
    /// An instant between these stamps.
    pub fn add(&mut self, name: String, began: u64, ended: u64) -> usize {
        self.instants.push(Instant { name, began, ended });
        self.edges.push(BTreeMap::new());
        self.instants.len() - 1
    }

    pub fn before(&mut self, first: usize, then: usize, why: impl FnOnce() -> String) {
        if first != then {
            self.edges[first].entry(then).or_insert_with(why);
        }
    }

    /// Adds what true time says, by way of an instant for each end: what ended was before what began later.
    fn add_time(&mut self) {
        let ended = self.instants.iter().enumerate().filter(|(_, instant)| instant.ended < u64::MAX);
        let mut ends: Vec<(u64, usize)> = ended.map(|(at, instant)| (instant.ended, at)).collect();
        ends.sort_unstable();
        let real = self.instants.len();
        let mut clock: Vec<(u64, usize)> = Vec::new();
        for (stamp, at) in ends {
            let last = clock.last().copied();
            let tick = match last {
                Some((known, tick)) if known == stamp => tick,
                Some(_) | None => {
                    let tick = self.add(String::new(), stamp, stamp);
                    last.into_iter().for_each(|(_, last)| self.before(last, tick, String::new));
                    clock.push((stamp, tick));
                    tick
                }
            };
            self.before(at, tick, String::new);
        }
        for at in 0..real {
            let later = clock.partition_point(|(stamp, _)| *stamp < self.instants[at].began);
            if let Some((_, tick)) = later.checked_sub(1).and_then(|last| clock.get(last)).copied() {
                self.before(tick, at, String::new);
            }
        }
    }

    /// A circle, as short as there is one.
    pub fn circle(mut self) -> Option<Vec<Edge>> {
        self.add_time();
        let mut left: Vec<usize> = vec![0; self.edges.len()];
        self.edges.iter().flat_map(BTreeMap::keys).for_each(|to| left[*to] += 1);
        let mut free: Vec<usize> = (0..left.len()).filter(|at| left[*at] == 0).collect();
        while let Some(at) = free.pop() {
            for to in self.edges[at].keys() {
                left[*to] -= 1;
                if left[*to] == 0 {
                    free.push(*to);
                }
            }
        }
        // Who is left is in a circle, or behind one.
        let rest = (0..left.len()).filter(|at| left[*at] > 0 && !self.instants[*at].name.is_empty());
        let shortest = rest.filter_map(|at| self.around(at)).min_by_key(Vec::len)?;
        Some(self.describe(&shortest))
    }

    /// The shortest way from an instant to itself.
    fn around(&self, start: usize) -> Option<Vec<usize>> {
        let mut from: BTreeMap<usize, usize> = BTreeMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(at) = queue.pop_front() {
            for to in self.edges[at].keys() {
                if *to == start {
                    let mut way = vec![start, at];
                    while let Some(before) = way.last().and_then(|last| from.get(last)) {
                        way.push(*before);
                    }
                    way.reverse();
                    return Some(way);
                }
                if *to != start && !from.contains_key(to) {
                    from.insert(*to, at);
                    queue.push_back(*to);
                }
            }
        }
        None
    }

    /// The circle in words; ticks of the clock between two instants are one step.
    fn describe(&self, way: &[usize]) -> Vec<Edge> {
        let mut edges = Vec::new();
        let mut from: Option<usize> = None;
        let mut timed = false;
        for pair in way.windows(2) {
            let [at, to] = [pair[0], pair[1]];
            from.get_or_insert(at);
            timed |= self.instants[to].name.is_empty() || self.instants[at].name.is_empty();
            if self.instants[to].name.is_empty() {
                continue;
            }
            let first = from.take().map_or(at, |first| first);
            let why = match std::mem::take(&mut timed) {
                true => "it had ended when that began".to_owned(),
                false => self.edges[at].get(&to).cloned().unwrap_or_default(),
            };
            edges.push(Edge { from: self.instants[first].name.clone(), to: self.instants[to].name.clone(), why });
        }
        edges
    }
}
