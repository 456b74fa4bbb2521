//! The later version that the upgrade test upgrades to, made from this source by the feature `upgrade-fixture`.
//!
//! It turns the key of `vlans` round and gives `next_hops` a longer value, and converts what it finds in the layouts below.

/// Layout hash of `next_hops` without the feature.
pub const NEXT_HOPS_BEFORE: u64 = 0xdedd_9785_7f6a_b5e8;
/// Layout hash of `vlans` without the feature.
pub const VLANS_BEFORE: u64 = 0x12be_0055_52b5_7108;

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
