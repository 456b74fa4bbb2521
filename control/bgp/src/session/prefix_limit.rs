//! Limits on what a peer may send (RFC 4486 4).

use super::{Context, End, Next, Peer};
use crate::config::Excess;
use crate::speaker::{ResetCause, SpeakerEvent};
use crate::types::Family;
use crate::wire::Notification;
use crate::wire::notification::{cease, code};

impl Peer {
    /// Compares what the peer sent with its limits: warns once per crossing, ends the session beyond.
    pub(crate) fn check_prefixes(
        &mut self,
        ctx: &mut Context<'_>,
        family: Family,
        received: usize,
    ) {
        let Some(max) = self
            .config
            .session
            .family(family)
            .and_then(|f| f.max_prefixes)
        else {
            return;
        };
        let received = u32::try_from(received).unwrap_or(u32::MAX);
        let restart_after = match max.excess {
            Excess::Stop => Some(None),
            Excess::RestartAfter(time) => Some(Some(time)),
            Excess::Warn => None,
        };
        if let Some(restart_after) = restart_after
            && received > max.limit
        {
            let [high, low] = family.afi().to_be_bytes();
            let [a, b, c, d] = max.limit.to_be_bytes();
            let notification = Notification::with_data(
                code::CEASE,
                cease::MAX_PREFIXES,
                &[high, low, family.safi(), a, b, c, d],
            );
            let cause = ResetCause::MaxPrefixes {
                family,
                limit: max.limit,
            };
            self.end_session(
                ctx,
                End::stop(cause, notification, Next::Held(restart_after)),
            );
            return;
        }
        let threshold = u64::from(max.limit) * u64::from(max.warn_percent) / 100;
        // Crossing the limit is worth another word than coming near it.
        let crossings = [
            (&mut self.warned, u64::from(received) >= threshold),
            (&mut self.exceeded, received > max.limit),
        ];
        let mut news = false;
        for (told, crossed) in crossings {
            if crossed && !told.contains(family) {
                told.insert(family);
                news = true;
            } else if !crossed {
                told.remove(family);
            }
        }
        if news {
            ctx.event(SpeakerEvent::MaxPrefixesWarning {
                peer: self.id,
                family,
                received,
                limit: max.limit,
            });
        }
    }
}
