//! The later version that the upgrade test upgrades to, made from this source by the feature `upgrade-fixture`.
//!
//! It turns the key of `vlans` round and gives `next_hops` a longer value, and converts what it finds in the layouts below.

/// The maps that it changes.
pub const CHANGED: [&str; 2] = ["next_hops", "vlans"];

/// Layout hash of `next_hops` without the feature.
pub const NEXT_HOPS_BEFORE: u64 = 0x2660_3128_c26f_57e1;
/// Layout hash of `vlans` without the feature.
pub const VLANS_BEFORE: u64 = 0xbd17_43eb_a0da_5309;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{NEXT_HOPS, VLANS};

    #[test]
    fn the_fixture_knows_the_layouts_that_it_comes_after() {
        let same = cfg!(not(feature = "upgrade-fixture"));
        assert_eq!(
            NEXT_HOPS.layout_hash == NEXT_HOPS_BEFORE,
            same,
            "{:#018x}",
            NEXT_HOPS.layout_hash
        );
        assert_eq!(
            VLANS.layout_hash == VLANS_BEFORE,
            same,
            "{:#018x}",
            VLANS.layout_hash
        );
    }
}
