//! RFC 4271 5.1.2 and 9.1.2.2, RFC 5065.

use super::*;
use AsSegmentKind::{ConfedSequence, ConfedSet, Sequence, Set};

fn path(segments: &[(AsSegmentKind, &[u32])]) -> AsPath {
    AsPath::from_segments(
        segments
            .iter()
            .map(|(kind, asns)| (*kind, asns.iter().copied().map(Asn).collect())),
    )
}

#[test]
fn a_path_reads_as_in_other_routers() {
    let path = path(&[
        (ConfedSequence, &[65010, 65011]),
        (ConfedSet, &[65012]),
        (Sequence, &[65001, 65002]),
        (Set, &[65003, 65004]),
    ]);
    assert_eq!(
        path.to_string(),
        "(65010 65011) [65012] 65001 65002 {65003 65004}"
    );
    assert_eq!(AsPath::empty().to_string(), "");
}

#[test]
fn a_set_counts_1_and_confederation_segments_0() {
    let path = path(&[
        (ConfedSequence, &[1, 2, 3]),
        (Sequence, &[4, 5]),
        (Set, &[6, 7, 8]),
        (ConfedSet, &[9]),
    ]);
    assert_eq!(path.hops(), 3);
    assert_eq!(path.asns().count(), 9);
}

#[test]
fn the_neighbouring_as_is_behind_the_confederation_and_not_in_a_set() {
    assert_eq!(AsPath::sequence([7, 8]).first_as(), Some(Asn(7)));
    let confederation = path(&[(ConfedSequence, &[1]), (Sequence, &[7])]);
    assert_eq!(confederation.first_as(), Some(Asn(7)));
    assert_eq!(path(&[(Set, &[7])]).first_as(), None);
    assert_eq!(AsPath::empty().first_as(), None);
}

#[test]
fn the_origin_is_the_end_of_a_sequence() {
    assert_eq!(AsPath::sequence([7, 8]).origin_as(), Some(Asn(8)));
    assert_eq!(path(&[(Sequence, &[7]), (Set, &[8])]).origin_as(), None);
    assert_eq!(AsPath::empty().origin_as(), None);
}

#[test]
fn loops_are_found_in_every_segment() {
    let path = path(&[(ConfedSet, &[1]), (Sequence, &[2, 2]), (Set, &[3])]);
    for asn in 1..=3 {
        assert!(path.contains(Asn(asn)));
    }
    assert!(!path.contains(Asn(4)));
    assert_eq!(path.occurrences(Asn(2)), 2);
}

#[test]
fn prepending_fills_a_sequence_and_opens_one_before_anything_else() {
    assert_eq!(AsPath::empty().prepend(Asn(1), 2), AsPath::sequence([1, 1]));
    assert_eq!(
        AsPath::sequence([2]).prepend(Asn(1), 1),
        AsPath::sequence([1, 2])
    );
    assert_eq!(
        path(&[(Set, &[2])]).prepend(Asn(1), 1),
        path(&[(Sequence, &[1]), (Set, &[2])])
    );
    assert_eq!(
        AsPath::sequence([2]).prepend(Asn(1), 0),
        AsPath::sequence([2])
    );
}

#[test]
fn prepending_never_makes_a_segment_of_more_than_255() {
    let full = AsPath::sequence(vec![2; 255]);
    assert_eq!(full.segments().count(), 1);
    let one_more = full.prepend(Asn(1), 1);
    let counts: Vec<_> = one_more.segments().map(AsSegment::count).collect();
    assert_eq!(counts, [1, 255]);

    let split = AsPath::sequence(vec![2; 254]).prepend(Asn(1), 3);
    let counts: Vec<_> = split.segments().map(AsSegment::count).collect();
    assert_eq!(counts, [2, 255]);
    assert_eq!(split.hops(), 257);
    assert_eq!(
        split.asns().take(4).map(|asn| asn.0).collect::<Vec<_>>(),
        [1, 1, 1, 2]
    );
}

#[test]
fn the_confederation_is_left_behind_at_its_border() {
    let inside = AsPath::sequence([7]).prepend_confederation(Asn(65010));
    assert_eq!(inside.to_string(), "(65010) 7");
    let two = inside.prepend_confederation(Asn(65011));
    assert_eq!(two.to_string(), "(65011 65010) 7");
    assert_eq!(two.without_confederation(), AsPath::sequence([7]));
}

#[test]
fn only_whole_known_segments_make_a_path() {
    assert!(AsPath::from_wire(&[2, 1, 0, 0, 0, 1]).is_some());
    for wrong in [
        &[2][..],
        &[2, 0],
        &[0, 1, 0, 0, 0, 1],
        &[5, 1, 0, 0, 0, 1],
        &[2, 2, 0, 0, 0, 1],
        &[2, 1, 0, 0, 0, 1, 2],
    ] {
        assert_eq!(AsPath::from_wire(wrong), None, "{wrong:?}");
    }
    assert_eq!(
        AsPath::from_wire_as2(&[2, 2, 0, 1, 0xff, 0xff]),
        Some(AsPath::sequence([1, 65535]))
    );
}
