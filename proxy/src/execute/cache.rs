//! Plans by the text of their statements, for one proxy thread.

use super::plan::Plan;
use crate::statement::Prepared;
use std::collections::HashMap;
use std::sync::Arc;
use toroid_common::catalog::Catalog;
use toroid_common::types::SqlType;

/// Statements kept; when there are more, those go that were not used since the last time.
const MOST_PLANS: usize = 1024;

/// What besides the text decides how it is bound.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub text: String,
    pub declared: Vec<SqlType>,
    /// Time zone, date order and search path, folded into constants when a statement is bound.
    pub settings: u64,
}

#[derive(Default)]
pub struct Cache {
    plans: HashMap<Key, Entry>,
    /// Counts the clean-ups.
    age: u64,
}

struct Entry {
    prepared: Arc<Prepared<Plan>>,
    used: u64,
}

impl Cache {
    /// The plan of a statement, if it still holds.
    pub fn get(&mut self, key: &Key, catalog: &Catalog) -> Option<Arc<Prepared<Plan>>> {
        let entry = self.plans.get_mut(key)?;
        if !entry.prepared.plan.holds(catalog) {
            self.plans.remove(key);
            return None;
        }
        entry.used = self.age;
        Some(entry.prepared.clone())
    }

    pub fn put(&mut self, key: Key, prepared: Arc<Prepared<Plan>>) {
        if self.plans.len() >= MOST_PLANS {
            let age = self.age;
            self.plans.retain(|_, entry| entry.used == age);
            if self.plans.len() >= MOST_PLANS {
                self.plans.clear();
            }
            self.age += 1;
        }
        self.plans.insert(key, Entry { prepared, used: self.age });
    }

    pub fn clear(&mut self) {
        self.plans.clear();
    }
}
