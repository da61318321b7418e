//! The tree beside a `BTreeMap` over long random runs, with clones held at random moments.

use super::*;
use std::collections::BTreeMap;

type Entries = Vec<(Vec<u8>, u32)>;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn entries(tree: &Tree) -> Entries {
    let mut cursor = tree.range(&[], None);
    let mut all = Vec::new();
    let mut key = Vec::new();
    while let Some(row) = cursor.next_entry(&mut key) {
        all.push((std::mem::take(&mut key), row));
    }
    all
}

fn model(map: &BTreeMap<Vec<u8>, u32>) -> Entries {
    map.iter().map(|(key, row)| (key.clone(), *row)).collect()
}

fn key(random: &mut Random, spread: u64) -> Vec<u8> {
    let number = random.below(spread);
    match random.below(20) {
        0 => vec![0xff; number as usize % 40],
        1 => format!("{}{number}", "long shared prefix ".repeat(20)).into_bytes(),
        _ => [&[1; 3], number.to_be_bytes().as_slice()].concat(),
    }
}

fn run(seed: u64, steps: usize, spread: u64) {
    let mut random = Random(seed);
    let (mut tree, mut map, mut cost) = (Tree::default(), BTreeMap::new(), Cost::default());
    let base = tree.bytes();
    let mut held: Vec<(Tree, Entries)> = Vec::new();
    for step in 0..steps {
        let key = key(&mut random, spread);
        // Long phases of growing and of shrinking.
        let growing = (step / (steps / 8).max(1)).is_multiple_of(2);
        if (random.below(10) < 7) == growing {
            assert_eq!(tree.insert(&key, step as u32, &mut cost), map.insert(key, step as u32));
        } else {
            assert_eq!(tree.remove(&key, &mut cost), map.remove(&key));
        }
        if random.below(steps as u64 / 5) == 0 {
            held.push((tree.clone(), model(&map)));
        }
    }
    assert_eq!((entries(&tree), tree.len()), (model(&map), map.len()));
    assert_eq!(tree.bytes() as isize, base as isize + cost.grown);
    for (tree, content) in held {
        assert_eq!(entries(&tree), content);
    }
    for key in map.keys().cloned().collect::<Vec<_>>() {
        tree.remove(&key, &mut cost);
    }
    assert_eq!((tree.len(), entries(&tree)), (0, Vec::new()));
    assert_eq!(tree.bytes() as isize, base as isize + cost.grown);
}

#[test]
fn agrees_with_a_map_over_random_runs() {
    for seed in 1..=6 {
        run(seed, 20_000, 1 << (4 + 2 * seed));
    }
}

#[test]
fn ascending_keys_leave_full_leaves() {
    let (mut tree, mut cost) = (Tree::default(), Cost::default());
    for i in 0..20_000_u64 {
        tree.insert(&i.to_be_bytes(), i as u32, &mut cost);
    }
    assert!(tree.bytes() < 20_000 * 12, "{} bytes per key", tree.bytes() / 20_000);
    assert!(tree.range(&[], None).eq(0..20_000));
}

#[test]
fn ranges_and_prefixes_end_where_they_should() {
    let (mut tree, mut cost) = (Tree::default(), Cost::default());
    for i in 0..10_000_u32 {
        tree.insert(&i.to_be_bytes(), i, &mut cost);
    }
    assert!(tree.prefix(&[0, 0, 7]).eq(7 * 256..8 * 256));
    assert!(tree.prefix(&[]).eq(0..10_000));
    assert!(tree.prefix(&[0, 0, 0x27]).eq(0x2700..10_000));
    assert_eq!(tree.prefix(&[1]).next(), None);
    assert!(tree.range(&300_u32.to_be_bytes(), Some(400_u32.to_be_bytes().to_vec())).eq(300..400));
    assert_eq!(after_prefix(&[1, 0xff, 0xff]), Some(vec![2]));
    assert_eq!(after_prefix(&[0xff]), None);
}

#[test]
fn long_keys_split_nodes_by_bytes() {
    let (mut tree, mut cost, mut map) = (Tree::default(), Cost::default(), BTreeMap::new());
    for i in 0..500_u32 {
        let mut key = i.reverse_bits().to_be_bytes().to_vec();
        key.resize(2_700, i as u8);
        tree.insert(&key, i, &mut cost);
        map.insert(key, i);
    }
    assert_eq!(entries(&tree), model(&map));
    for key in map.keys().step_by(2).cloned().collect::<Vec<_>>() {
        tree.remove(&key, &mut cost);
        map.remove(&key);
    }
    assert_eq!(entries(&tree), model(&map));
}
