//! The slot table of a group: which member a flow takes, and which one when that is gone.
//!
//! A flow looks at one of 256 slots and takes the first member of its order that is alive. So the dataplane has moved the
//! flows of a lost member before the planner knows of it, and the planner must come to the same table: it deletes the
//! member from each order, no more. A member that comes takes its share evenly from the others, or the slots it had before
//! where those are known.
//!
//! ```text
//!  slot   away     order, as written        B is lost            B is back
//!   0              A  B  C                  A  C                 A  B  C
//!   1     (B)      C  A         ◀──────     C  A  with B away    B  C  A
//! ```
//!
//! Shares are kept to the slot: each member leads as many slots as its weighted share of 256, rounded down or up, and at
//! least one. The second choices of a member's slots are shared out such that this holds without that member too.

use std::collections::BTreeMap;

use causeway_maps::{Group, NextHopId, Slot};

/// Members of lost links that a slot remembers, the earliest first.
const MAX_AWAY: usize = 2;
const _: () = assert!(Group::MAX_MEMBERS <= Group::SLOTS);

/// A group's slots. Equal if the same is written and the same remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slots(Box<[Row]>);

/// Ids; 0 is none and ends a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Row {
    /// Members that led this slot and are away.
    away: [u16; MAX_AWAY],
    /// Members that are there, by preference.
    order: [u16; Slot::MAX_ORDER],
}

impl Row {
    /// Everybody who is or was at home here, by preference.
    fn chain(&self) -> impl Iterator<Item = u16> {
        let chain = self.away.into_iter().chain(self.order);
        chain.filter(|id| *id != 0)
    }
}

impl Default for Slots {
    fn default() -> Self {
        Self(vec![Row::default(); Group::SLOTS].into_boxed_slice())
    }
}

impl Slots {
    /// What an entry of the map says; whoever was away is not known.
    pub(crate) fn from_group(group: &Group) -> Self {
        let rows = group.slots.iter().map(|slot| Row {
            away: [0; MAX_AWAY],
            order: slot.order,
        });
        Self(rows.collect())
    }

    /// The entry of the map.
    pub(crate) fn group(&self) -> Group {
        let mut group = Group::EMPTY;
        for (slot, row) in group.slots.iter_mut().zip(&self.0) {
            slot.order = row.order;
        }
        group.member_count = u32::try_from(self.members().len()).unwrap_or(u32::MAX);
        group
    }

    /// Distinct members, ascending.
    pub(crate) fn members(&self) -> Vec<NextHopId> {
        // Each member leads at least one slot.
        let mut ids: Vec<u16> = self.0.iter().map(|row| row.order[0]).collect();
        ids.sort_unstable();
        ids.dedup();
        ids.retain(|id| *id != 0);
        ids.into_iter().map(|id| NextHopId(u32::from(id))).collect()
    }

    /// Slots, one in a hundred, that may move for the sake of a better balance.
    pub(crate) const SLACK: usize = 3;

    /// In how many slots another member leads.
    pub(crate) fn moved_from(&self, before: &Self) -> usize {
        let rows = self.0.iter().zip(&before.0);
        rows.filter(|(a, b)| a.order[0] != b.order[0]).count()
    }

    /// The other table if no more flows move by it than by this one, but for a few; made for these members.
    pub(crate) fn or_as_calm(
        self,
        other: Self,
        members: &[(NextHopId, u32)],
        away: &[NextHopId],
    ) -> Self {
        let moved = |start: &Self| {
            let mut next = start.clone();
            next.update(members, away);
            next.moved_from(&self)
        };
        if moved(&other) <= moved(&self) + Self::SLACK {
            other
        } else {
            self
        }
    }

    /// Whether it says of a member, here or away, which slots are its.
    pub(crate) fn knows(&self, id: NextHopId) -> bool {
        narrow(&id).is_some_and(|id| {
            self.0
                .iter()
                .any(|row| row.chain().any(|other| other == id))
        })
    }

    /// The same with other ids; members without one are forgotten.
    pub(crate) fn renamed(&self, today: impl Fn(NextHopId) -> Option<NextHopId>) -> Self {
        let name = |id: u16| {
            let id = Some(id).filter(|id| *id != 0)?;
            narrow(&today(NextHopId(u32::from(id)))?)
        };
        let rows = self.0.iter().map(|row| {
            let mut renamed = Row::default();
            let away = row.away.into_iter().filter_map(name);
            for (id, to) in away.zip(&mut renamed.away) {
                *to = id;
            }
            let order = row.order.into_iter().filter_map(name);
            for (id, to) in order.zip(&mut renamed.order) {
                *to = id;
            }
            renamed
        });
        Self(rows.collect())
    }

    /// Makes `members` with their weights the members, moving as few flows as can be. Of the others, those that are in
    /// `away` keep a claim to their slots; the rest is forgotten. Members beyond [`Group::MAX_MEMBERS`] are left out.
    pub(crate) fn update(&mut self, members: &[(NextHopId, u32)], away: &[NextHopId]) {
        let members = Members::new(members);
        let away: Vec<u16> = away.iter().filter_map(narrow).collect();
        let shares = Shares::of(&members.weights);
        let mut leaders = self.leaders(&members, &away, &shares);
        self.level(&mut leaders, &members, &shares);
        self.fill_orders(&leaders, &members);
    }

    /// Who leads each slot: the first of its chain that is there; where there is none, whoever has the least of its share.
    fn leaders(&mut self, members: &Members, away: &[u16], shares: &Shares) -> Leaders {
        let mut leaders = Leaders::new(members.ids.len());
        let mut vacant = Vec::new();
        for (at, row) in self.0.iter_mut().enumerate() {
            let leader = row.chain().find_map(|id| members.place(id));
            let id = leader.map(|place| members.ids[place]);
            let mut before = [0; MAX_AWAY];
            let claims = row.chain().take_while(|other| Some(*other) != id);
            for (claim, other) in before
                .iter_mut()
                .zip(claims.filter(|other| away.contains(other)))
            {
                *claim = other;
            }
            row.away = before;
            match leader {
                Some(place) => leaders.set(at, place),
                None => vacant.push(at),
            }
        }
        for at in vacant {
            if let Some(place) = shares.neediest(&leaders.counts, |_| true) {
                leaders.set(at, place);
            }
        }
        leaders
    }

    /// Moves slots until everybody has its share, rounded down or up.
    fn level(&mut self, leaders: &mut Leaders, members: &Members, shares: &Shares) {
        // Each turn brings one slot nearer to where it belongs.
        for _ in 0..Group::SLOTS {
            let places = 0..members.ids.len();
            let over = places
                .clone()
                .any(|p| leaders.counts[p] > shares.0[p].ceiling());
            let under = places
                .clone()
                .any(|p| leaders.counts[p] < shares.0[p].floor());
            if !over && !under {
                return;
            }
            let richest = places.max_by_key(|p| shares.0[*p].surplus(leaders.counts[*p]));
            let (Some(from), Some(to)) = (richest, shares.neediest(&leaders.counts, |_| true))
            else {
                return;
            };
            let wanted = members.ids[to];
            let rank = |row: &Row| match row.order.iter().position(|id| *id == wanted) {
                _ if row.away.contains(&wanted) => 0,
                Some(position) => 1 + position,
                None => 1 + Slot::MAX_ORDER,
            };
            let rows = self.0.iter().enumerate();
            let given = rows
                .filter(|(at, _)| leaders.of[*at] == Some(from))
                .min_by_key(|(_, row)| rank(row));
            let Some((at, _)) = given else {
                return;
            };
            leaders.set(at, to);
        }
    }

    /// Writes the orders: the leader, then who takes over from it.
    fn fill_orders(&mut self, leaders: &Leaders, members: &Members) {
        let count = members.ids.len();
        let mut seconds = Seconds::new(leaders, members);
        // How often each one came behind the same two, whichever of them was first: if both are lost their slots go to all.
        let mut behind: BTreeMap<[usize; 2], Vec<u64>> = BTreeMap::new();
        for (at, row) in self.0.iter_mut().enumerate() {
            let mut order = [0; Slot::MAX_ORDER];
            let Some(leader) = leaders.of[at] else {
                row.order = order;
                continue;
            };
            let mut taken = vec![false; count];
            let mut first_two = [leader; 2];
            for (place, slot) in order.iter_mut().enumerate().take(count) {
                let next = match place {
                    0 => Some(leader),
                    1 => seconds.take(leader),
                    _ => {
                        first_two.sort_unstable();
                        let used = behind.entry(first_two).or_insert_with(|| vec![0; count]);
                        let next = (0..count)
                            .map(|i| (i + at) % count)
                            .filter(|p| !taken[*p])
                            .min_by_key(|p| ((used[*p] + 1) << 32) / members.weights[*p]);
                        if let (Some(next), 2) = (next, place) {
                            used[next] += 1;
                        }
                        next
                    }
                };
                let Some(next) = next else {
                    break;
                };
                taken[next] = true;
                if place == 1 {
                    first_two = [leader, next];
                }
                *slot = members.ids[next];
            }
            row.order = order;
        }
    }
}

/// Ids that fit a slot.
fn narrow(id: &NextHopId) -> Option<u16> {
    u16::try_from(id.0).ok().filter(|id| *id != 0)
}

/// Who is there, by ascending id.
struct Members {
    ids: Vec<u16>,
    weights: Vec<u64>,
}

impl Members {
    fn new(members: &[(NextHopId, u32)]) -> Self {
        let fitting = members
            .iter()
            .filter_map(|(id, weight)| Some((narrow(id)?, u64::from((*weight).max(1)))));
        let mut known: Vec<(u16, u64)> = fitting.take(Group::MAX_MEMBERS).collect();
        known.sort_unstable();
        known.dedup_by_key(|(id, _)| *id);
        let (ids, weights) = known.into_iter().unzip();
        Self { ids, weights }
    }

    fn place(&self, id: u16) -> Option<usize> {
        self.ids.binary_search(&id).ok()
    }
}

/// Who leads which slot, and how many each.
struct Leaders {
    of: Vec<Option<usize>>,
    counts: Vec<u64>,
}

impl Leaders {
    fn new(members: usize) -> Self {
        Self {
            of: vec![None; Group::SLOTS],
            counts: vec![0; members],
        }
    }

    fn set(&mut self, at: usize, place: usize) {
        if let Some(before) = self.of[at].replace(place) {
            self.counts[before] -= 1;
        }
        self.counts[place] += 1;
    }
}

/// A member's part of the slots, a fraction.
#[derive(Clone, Copy)]
struct Share {
    numerator: u64,
    denominator: u64,
}

impl Share {
    fn floor(self) -> u64 {
        self.numerator / self.denominator
    }

    fn ceiling(self) -> u64 {
        self.numerator.div_ceil(self.denominator)
    }

    /// By how much `count` slots are more than the share, in 2^-16 of a slot.
    fn surplus(self, count: u64) -> i64 {
        let wanted = (u128::from(self.numerator) << 16) / u128::from(self.denominator);
        // Both are at most 256 slots.
        (count << 16).cast_signed() - i64::try_from(wanted).unwrap_or(i64::MAX)
    }
}

struct Shares(Vec<Share>);

impl Shares {
    /// In proportion to the weights, but at least one slot each; a weight of zero takes no part.
    fn of(weights: &[u64]) -> Self {
        let mut small = vec![false; weights.len()];
        loop {
            let ones = small.iter().filter(|small| **small).count() as u64;
            let room = Group::SLOTS as u64 - ones;
            let large = weights.iter().zip(&small).filter(|(_, small)| !**small);
            let total: u64 = large.map(|(weight, _)| *weight).sum();
            let mut settled = true;
            for (weight, small) in weights.iter().zip(&mut small) {
                // With a total of zero nobody is left to be large.
                if *weight > 0 && !*small && room * weight < total {
                    *small = true;
                    settled = false;
                }
            }
            if settled {
                let share = |(weight, small): (&u64, &bool)| match small {
                    true => Share {
                        numerator: 1,
                        denominator: 1,
                    },
                    false => Share {
                        numerator: room * weight,
                        denominator: total.max(1),
                    },
                };
                return Self(weights.iter().zip(&small).map(share).collect());
            }
        }
    }

    /// Who of those allowed has the least of its share; the earlier of equals.
    fn neediest(&self, counts: &[u64], allowed: impl Fn(usize) -> bool) -> Option<usize> {
        (0..self.0.len())
            .filter(|place| allowed(*place))
            .min_by_key(|place| self.0[*place].surplus(counts[*place]))
    }
}

/// Who comes after each leader: such that the shares are right without that leader.
struct Seconds(Vec<(Shares, Vec<u64>)>);

impl Seconds {
    fn new(leaders: &Leaders, members: &Members) -> Self {
        let without = |place: usize| {
            let mut weights = members.weights.clone();
            weights[place] = 0;
            (Shares::of(&weights), leaders.counts.clone())
        };
        Self((0..members.ids.len()).map(without).collect())
    }

    fn take(&mut self, leader: usize) -> Option<usize> {
        let (shares, counts) = &mut self.0[leader];
        let second = shares.neediest(counts, |place| place != leader)?;
        counts[second] += 1;
        Some(second)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn members(ids: &[(u32, u32)]) -> Vec<(NextHopId, u32)> {
        ids.iter().map(|(id, w)| (NextHopId(*id), *w)).collect()
    }

    fn equal(n: u32) -> Vec<(NextHopId, u32)> {
        (1..=n).map(|id| (NextHopId(id), 1)).collect()
    }

    fn built(members: &[(NextHopId, u32)]) -> Slots {
        let mut slots = Slots::default();
        slots.update(members, &[]);
        slots
    }

    /// What the dataplane takes in each slot when `dead` are dead.
    fn taken(group: &Group, dead: &[u32]) -> Vec<u16> {
        let alive = |id: &u16| !dead.contains(&u32::from(*id));
        let slots = group.slots.iter();
        slots
            .map(|slot| {
                let mut order = slot.order.into_iter().take_while(|id| *id != 0);
                order.find(alive).unwrap_or(0)
            })
            .collect()
    }

    fn leads(group: &Group) -> BTreeMap<u16, usize> {
        let mut leads = BTreeMap::new();
        for id in taken(group, &[]) {
            *leads.entry(id).or_insert(0) += 1;
        }
        leads
    }

    fn moved(before: &[u16], after: &[u16]) -> usize {
        before.iter().zip(after).filter(|(a, b)| a != b).count()
    }

    /// Every slot has an order of distinct members, as long as can be, and everybody leads its share of slots.
    fn assert_whole(group: &Group, members: &[(NextHopId, u32)]) {
        let n = members.len();
        assert_eq!(group.member_count as usize, n);
        for slot in &group.slots {
            let mut order: Vec<u16> = slot.order.into_iter().take_while(|id| *id != 0).collect();
            assert_eq!(order.len(), n.min(Slot::MAX_ORDER), "{slot:?}");
            assert!(slot.order[order.len()..].iter().all(|id| *id == 0));
            order.sort_unstable();
            order.dedup();
            assert_eq!(order.len(), n.min(Slot::MAX_ORDER), "twice in {slot:?}");
            let known = |id: &u16| members.iter().any(|(m, _)| m.0 == u32::from(*id));
            assert!(order.iter().all(known), "{slot:?}");
        }
        let leads = leads(group);
        let weights: Vec<u64> = members
            .iter()
            .map(|(_, w)| u64::from((*w).max(1)))
            .collect();
        for ((id, _), share) in members.iter().zip(Shares::of(&weights).0) {
            let count = leads.get(&(id.0 as u16)).copied().unwrap_or(0) as u64;
            assert!(count >= 1, "{id:?} leads nowhere");
            assert!(
                (share.floor()..=share.ceiling()).contains(&count),
                "{id:?} leads {count}, its share is {}/{}",
                share.numerator,
                share.denominator
            );
        }
    }

    #[test]
    fn equal_members_lead_equal_numbers_of_slots() {
        for n in 1..=64 {
            assert_whole(&built(&equal(n)).group(), &equal(n));
        }
        assert_eq!(built(&[]).group(), Group::EMPTY);
    }

    #[test]
    fn weights_are_kept_to_the_slot_and_nobody_is_left_without_one() {
        let leads_of = |weights: &[u32]| -> Vec<usize> {
            let ids: Vec<_> = (1..).zip(weights.iter().copied()).collect();
            leads(&built(&members(&ids)).group())
                .into_values()
                .collect()
        };
        assert_eq!(leads_of(&[1, 3]), [64, 192]);
        assert_eq!(leads_of(&[100, 100, 200]), [64, 64, 128]);
        assert_eq!(leads_of(&[u32::MAX, 1]), [255, 1]);
        assert_eq!(
            leads_of(&[0, 1]),
            [128, 128],
            "a weight of zero counts as one"
        );
        assert_eq!(leads_of(&[1_000_000, 1, 1, 1]), [253, 1, 1, 1]);
    }

    #[test]
    fn more_members_than_fit_are_left_out() {
        let group = built(&equal(70)).group();
        assert_whole(&group, &equal(64));
    }

    #[test]
    fn a_lost_member_leaves_exactly_what_the_dataplane_already_does() {
        for n in 2..=16_u32 {
            let mut slots = built(&equal(n));
            let before = slots.group();
            let rest = equal(n).split_off(1);
            slots.update(&rest, &[]);
            let after = slots.group();
            assert_eq!(taken(&before, &[1]), taken(&after, &[]), "{n} members");
            assert_whole(&after, &rest);
        }
    }

    #[test]
    fn a_member_that_was_away_takes_back_the_slots_it_had() {
        for n in 2..=16_u32 {
            let mut slots = built(&equal(n));
            let before = taken(&slots.group(), &[]);
            let rest = equal(n).split_off(2);
            slots.update(&rest, &[NextHopId(1), NextHopId(2)]);
            slots.update(&equal(n).split_off(1), &[NextHopId(1)]);
            slots.update(&equal(n), &[]);
            let after = taken(&slots.group(), &[]);
            let own = |led: &[u16]| -> Vec<bool> { led.iter().map(|id| *id <= 2).collect() };
            assert_eq!(own(&before), own(&after), "{n} members");
            let moved = moved(&before, &after);
            assert!(
                moved <= Group::SLOTS / 20,
                "{n} members: {moved} slots are led by others"
            );
        }
    }

    #[test]
    fn who_is_forgotten_has_no_claim() {
        let mut slots = built(&equal(4));
        slots.update(&equal(4).split_off(1), &[]);
        assert!(slots.0.iter().all(|row| row.away == [0; MAX_AWAY]));
    }

    #[test]
    fn a_table_goes_through_the_map_unchanged() {
        let slots = built(&members(&[(3, 10), (9, 20), (8191, 5)]));
        assert_eq!(Slots::from_group(&slots.group()), slots);
        let ids = slots.members();
        assert_eq!(ids, [NextHopId(3), NextHopId(9), NextHopId(8191)]);
    }

    fn weighted(n: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = Vec<u32>> {
        let weight = prop_oneof![Just(1_u32), 1..20_u32, Just(100)];
        prop_oneof![
            prop::collection::vec(weight, n.clone()),
            n.prop_map(|n| vec![1; n])
        ]
    }

    proptest! {
        #[test]
        fn one_that_goes_moves_its_own_flows_and_one_that_comes_takes_only_its_share(
            weights in weighted(2..=16), gone in any::<prop::sample::Index>(),
        ) {
            let ids: Vec<_> = (1..).zip(weights.iter().copied()).collect();
            let all = members(&ids);
            let mut slots = built(&all);
            let before = slots.group();
            let gone = gone.index(all.len());
            let own = leads(&before)[&(all[gone].0.0 as u16)];
            let mut rest = all.clone();
            rest.remove(gone);
            slots.update(&rest, &[]);
            let without = slots.group();
            assert_whole(&without, &rest);
            let lost = moved(&taken(&before, &[]), &taken(&without, &[]));
            prop_assert!(lost <= own + Slots::SLACK, "{lost} moved, {own} had to");
            slots.update(&all, &[]);
            let back = slots.group();
            assert_whole(&back, &all);
            let moved = moved(&taken(&without, &[]), &taken(&back, &[]));
            prop_assert!(moved <= own + Slots::SLACK, "{moved} moved, {own} had to");
        }

        #[test]
        fn whatever_comes_and_goes_the_table_is_whole(
            steps in prop::collection::vec((1..20_u32, 1..5_u32, any::<bool>()), 1..40),
        ) {
            let mut slots = Slots::default();
            let mut there = BTreeMap::new();
            for (id, weight, keep) in steps {
                let gone = there.remove(&id).is_some();
                if !gone {
                    there.insert(id, weight);
                }
                let ids: Vec<_> = there.iter().map(|(id, weight)| (*id, *weight)).collect();
                let away = if keep && gone { vec![NextHopId(id)] } else { vec![] };
                slots.update(&members(&ids), &away);
                if !ids.is_empty() {
                    assert_whole(&slots.group(), &members(&ids));
                }
            }
        }

        #[test]
        fn up_to_seven_losses_at_once_leave_every_flow_a_member(
            n in 2..=12_u32, lost in prop::collection::btree_set(1..=12_u32, 1..=7),
        ) {
            let mut slots = built(&equal(n));
            let before = slots.group();
            let dead: Vec<u32> = lost.into_iter().collect();
            let rest: Vec<_> = equal(n).into_iter().filter(|(id, _)| !dead.contains(&id.0)).collect();
            if rest.is_empty() {
                return Ok(());
            }
            let by_dataplane = taken(&before, &dead);
            prop_assert!(by_dataplane.iter().all(|id| *id != 0));
            slots.update(&rest, &[]);
            assert_whole(&slots.group(), &rest);
            // Only to keep the shares does the planner move more.
            let moved = moved(&by_dataplane, &taken(&slots.group(), &[]));
            prop_assert!(moved <= Group::SLOTS / 5, "{moved} moved a second time");
        }
    }
}
