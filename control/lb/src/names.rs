//! One allocation for each name of a node, zone or port, however many endpoints carry it.

use std::collections::HashSet;
use std::sync::Arc;

use foldhash::fast::FixedState;

/// Fewest names before unused ones are looked for.
const FIRST_SWEEP: usize = 1_024;

/// Names in use.
#[derive(Debug)]
pub(crate) struct Names {
    set: HashSet<Arc<str>, FixedState>,
    sweep_at: usize,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            set: HashSet::default(),
            sweep_at: FIRST_SWEEP,
        }
    }
}

impl Names {
    /// The shared copy of this name.
    pub(crate) fn intern(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.set.get(name) {
            return Arc::clone(known);
        }
        if self.set.len() >= self.sweep_at {
            // Names that nobody else holds go; the next sweep comes when the rest has doubled.
            self.set.retain(|name| Arc::strong_count(name) > 1);
            self.sweep_at = (self.set.len() * 2).max(FIRST_SWEEP);
        }
        let name: Arc<str> = name.into();
        self.set.insert(Arc::clone(&name));
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_once_and_forgotten_when_nobody_has_it() {
        let mut names = Names::default();
        let kept = names.intern("node-a");
        assert!(Arc::ptr_eq(&kept, &names.intern("node-a")));
        for n in 0..10 * FIRST_SWEEP {
            names.intern(&format!("pod-{n}"));
        }
        assert!(names.set.len() <= FIRST_SWEEP);
        assert!(Arc::ptr_eq(&kept, &names.intern("node-a")));
    }
}
