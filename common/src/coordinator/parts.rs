//! Maps and sets by partition, in the order of partitions: most transactions have a part in a few, for which no memory is asked for.

use crate::id::PartitionId;
use smallvec::SmallVec;

/// What belongs to each of some partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parts<T>(SmallVec<[(PartitionId, T); 4]>);

impl<T> Default for Parts<T> {
    fn default() -> Parts<T> {
        Parts(SmallVec::new())
    }
}

impl<T: Default> Parts<T> {
    fn find(&self, partition: PartitionId) -> Result<usize, usize> {
        self.0.binary_search_by_key(&partition, |(known, _)| *known)
    }

    pub(super) fn get(&self, partition: PartitionId) -> Option<&T> {
        self.find(partition).ok().and_then(|at| self.0.get(at)).map(|(_, part)| part)
    }

    /// That of a partition, made where there is none.
    pub(super) fn entry(&mut self, partition: PartitionId) -> &mut T {
        let at = self.find(partition).unwrap_or_else(|at| {
            self.0.insert(at, (partition, T::default()));
            at
        });
        &mut self.0[at].1
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (PartitionId, &T)> {
        self.0.iter().map(|(partition, part)| (*partition, part))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (PartitionId, &mut T)> {
        self.0.iter_mut().map(|(partition, part)| (*partition, part))
    }
}

/// Some partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partitions(SmallVec<[PartitionId; 8]>);

impl Partitions {
    pub(super) fn insert(&mut self, partition: PartitionId) {
        if let Err(at) = self.0.binary_search(&partition) {
            self.0.insert(at, partition);
        }
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, partition: PartitionId) -> bool {
        self.0.binary_search(&partition).map(|at| self.0.remove(at)).is_ok()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = PartitionId> {
        self.0.iter().copied()
    }
}

impl FromIterator<PartitionId> for Partitions {
    fn from_iter<I: IntoIterator<Item = PartitionId>>(partitions: I) -> Partitions {
        let mut some = Partitions(partitions.into_iter().collect());
        some.0.sort_unstable();
        some.0.dedup();
        some
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_stay_in_the_order_of_partitions() {
        let (mut parts, mut some) = (Parts::<u32>::default(), Partitions::default());
        for number in [7, 3, 9, 3, 1, 8, 2, 9, 5, 4, 6] {
            *parts.entry(PartitionId(number)) += 1;
            some.insert(PartitionId(number));
        }
        let counted: Vec<(u16, u32)> = parts.iter().map(|(partition, count)| (partition.0, *count)).collect();
        assert_eq!(counted, [(1, 1), (2, 1), (3, 2), (4, 1), (5, 1), (6, 1), (7, 1), (8, 1), (9, 2)]);
        assert_eq!((parts.get(PartitionId(3)), parts.get(PartitionId(10))), (Some(&2), None));
        assert_eq!(some.iter().map(|partition| partition.0).collect::<Vec<_>>(), (1..10).collect::<Vec<_>>());
        assert!(some.remove(PartitionId(4)) && !some.remove(PartitionId(4)));
        assert_eq!(some, [9, 8, 7, 6, 5, 3, 2, 1, 9].map(PartitionId).into_iter().collect());
    }
}
