//! What a session keeps under names that its client gave: prepared statements, portals. The one without a name, which most clients use over and over, is found
//! without hashing.

use std::collections::HashMap;

pub(super) struct Names<T> {
    unnamed: Option<T>,
    named: HashMap<String, T>,
}

impl<T> Default for Names<T> {
    fn default() -> Names<T> {
        Names { unnamed: None, named: HashMap::new() }
    }
}

impl<T> Names<T> {
    pub(super) fn len(&self) -> usize {
        usize::from(self.unnamed.is_some()) + self.named.len()
    }

    pub(super) fn get(&self, name: &str) -> Option<&T> {
        if name.is_empty() { self.unnamed.as_ref() } else { self.named.get(name) }
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut T> {
        if name.is_empty() { self.unnamed.as_mut() } else { self.named.get_mut(name) }
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Keeps it in place of what had the name.
    pub(super) fn insert(&mut self, name: &str, kept: T) {
        match name {
            "" => self.unnamed = Some(kept),
            name => drop(self.named.insert(name.to_owned(), kept)),
        }
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<T> {
        if name.is_empty() { self.unnamed.take() } else { self.named.remove(name) }
    }

    pub(super) fn clear(&mut self) {
        self.unnamed = None;
        self.named.clear();
    }

    /// Keeps only these.
    pub(super) fn retain(&mut self, these: impl Fn(&T) -> bool) {
        self.unnamed.take_if(|kept| !these(kept));
        self.named.retain(|_, kept| these(kept));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_without_a_name_is_one_of_them() {
        let mut names = Names::default();
        for (name, kept) in [("", 1), ("a", 2), ("b", 3), ("", 4), ("a", 5)] {
            names.insert(name, kept);
        }
        assert_eq!((names.len(), names.get(""), names.get("a"), names.get("c")), (3, Some(&4), Some(&5), None));
        *names.get_mut("").unwrap() += 2;
        *names.get_mut("b").unwrap() += 2;
        names.retain(|kept| *kept > 5);
        assert_eq!((names.remove(""), names.remove("a"), names.len()), (Some(6), None, 0));
        names.insert("", 7);
        names.insert("c", 8);
        names.clear();
        assert!(!names.contains("") && !names.contains("c"));
    }
}
