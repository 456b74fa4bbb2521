//! The decision process (RFC 4271 9.1.2), a pure function of the candidates.
//!
//! MULTI_EXIT_DISC is compared only between paths of one neighbouring AS, so preference is not a total order: with
//! pairwise comparison the winner would depend on the order of arrival. As the RFC asks, every step therefore removes
//! paths from the *whole* set before the next one looks at what is left.

use core::net::IpAddr;

use super::attributes::Rank;
use super::config::RibConfig;
use super::view::DecisionStep;

/// A path that may be chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) rank: &'a Rank,
    /// Originated here.
    pub(super) local: bool,
    /// Learned by eBGP.
    pub(super) external: bool,
    /// Cost to the next hop.
    pub(super) metric: u32,
    /// Whether the path was the best one until now.
    pub(super) was_best: bool,
    /// BGP identifier of the peer.
    pub(super) router_id: u32,
    pub(super) peer_addr: IpAddr,
}

/// How many paths are the best ones, and why the others are not.
#[derive(Debug, Default)]
pub(super) struct Decision {
    /// Index of the best candidate.
    pub(super) best: usize,
    /// Step at which each candidate lost; `None` for the best one.
    pub(super) lost_at: smallvec::SmallVec<[Option<DecisionStep>; 8]>,
}

impl Decision {
    /// Whether a candidate was still there when all that makes a difference to the network had been compared: only such
    /// paths are used beside the best one.
    pub(super) fn is_equal_cost(&self, index: usize) -> bool {
        self.lost_at[index].is_none_or(|step| step > DecisionStep::IgpMetric)
    }
}

/// Decides between the candidates; `None` if there are none.
pub(super) fn decide(candidates: &[Candidate<'_>], config: &RibConfig) -> Option<Decision> {
    if candidates.is_empty() {
        return None;
    }
    let mut round = Round {
        candidates,
        lost_at: smallvec::smallvec![None; candidates.len()],
    };
    round.keep_least(DecisionStep::LocalPref, |path| !path.rank.local_pref);
    round.keep_least(DecisionStep::LocalOrigin, |path| !path.local);
    round.keep_least(DecisionStep::AsPathLength, |path| path.rank.as_path_length);
    round.keep_least(DecisionStep::Origin, |path| path.rank.origin);
    round.keep_least_med(config.med.always_compare);
    round.keep_least(DecisionStep::External, |path| !path.external);
    round.keep_least(DecisionStep::IgpMetric, |path| path.metric);
    if config.prefer_oldest {
        round.keep_least(DecisionStep::Oldest, |path| {
            !(path.was_best && path.external)
        });
    }
    round.keep_least(DecisionStep::RouterId, |path| {
        if path.rank.originator == 0 {
            path.router_id
        } else {
            path.rank.originator
        }
    });
    round.keep_least(DecisionStep::ClusterList, |path| {
        path.rank.cluster_list_length
    });
    round.keep_least(DecisionStep::PeerAddress, |path| path.peer_addr);
    let best = round.lost_at.iter().position(Option::is_none)?;
    // Two sessions with one address (different ports or links) tie to the end: the first one stands.
    for lost in round
        .lost_at
        .iter_mut()
        .skip(best + 1)
        .filter(|lost| lost.is_none())
    {
        *lost = Some(DecisionStep::PeerAddress);
    }
    Some(Decision {
        best,
        lost_at: round.lost_at,
    })
}

struct Round<'a> {
    candidates: &'a [Candidate<'a>],
    lost_at: smallvec::SmallVec<[Option<DecisionStep>; 8]>,
}

impl Round<'_> {
    /// Removes every path whose key is not the least of those left.
    fn keep_least<K: Ord>(&mut self, step: DecisionStep, key: impl Fn(&Candidate<'_>) -> K) {
        let left = || {
            self.candidates
                .iter()
                .zip(&self.lost_at)
                .filter(|(_, lost)| lost.is_none())
        };
        let Some(least) = left().map(|(path, _)| key(path)).min() else {
            return;
        };
        for (path, lost) in self.candidates.iter().zip(&mut self.lost_at) {
            if lost.is_none() && key(path) != least {
                *lost = Some(step);
            }
        }
    }

    /// The same within each neighbouring AS.
    fn keep_least_med(&mut self, across: bool) {
        if across {
            return self.keep_least(DecisionStep::Med, |path| path.rank.med);
        }
        for index in 0..self.candidates.len() {
            let path = &self.candidates[index];
            let beaten = self.lost_at[index].is_none()
                && self
                    .candidates
                    .iter()
                    .zip(&self.lost_at)
                    .any(|(other, lost)| {
                        // A path that lost in this very step counts: it still has less MED than what it beats.
                        lost.is_none_or(|step| step == DecisionStep::Med)
                            && other.rank.neighbour == path.rank.neighbour
                            && other.rank.med < path.rank.med
                    });
            if beaten {
                self.lost_at[index] = Some(DecisionStep::Med);
            }
        }
    }
}
