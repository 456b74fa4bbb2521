//! The speaker: all peers and the RIB behind one interface, driven by a shell with sockets and a clock, or by a simulation.

mod event;
mod io;
mod view;

use std::collections::VecDeque;

pub use event::{RefuseReason, Reset, ResetCause, SpeakerEvent, SweepCause};
pub use io::{Command, Decoding, Input, Listener, Notice, Output, inbound_conn};
pub use view::{
    Counters, MessageCounters, NegotiatedView, NeighborFamily, NeighborView, RefusedView,
    TimersView,
};

use crate::config::{ConfigError, SpeakerConfig};
use crate::rib::Rib;
use crate::time::Time;

/// A BGP speaker.
///
/// Polling order: any number of [`Self::handle`] for what is at hand, [`Self::handle_timeout`] when [`Self::poll_timeout`]
/// is due, then [`Self::poll_output`] until it yields `None`. A shell with more input at hand handles it first, for at most
/// some milliseconds: changes to a prefix then merge, and routes with equal attributes share messages. A shell without
/// polls at once, so that a lone change leaves at once.
pub struct Speaker {
    config: SpeakerConfig,
    rib: Rib,
    outputs: VecDeque<Output>,
}

impl Speaker {
    /// A speaker that starts its peers at `now`. `seed` decides jitter only.
    ///
    /// # Errors
    ///
    /// If the configuration is not valid.
    pub fn new(now: Time, config: SpeakerConfig, seed: u64) -> Result<Self, ConfigError> {
        let _ = (now, seed);
        config.validate()?;
        Ok(Self {
            rib: Rib::new(config.rib.clone()),
            config,
            outputs: VecDeque::new(),
        })
    }

    /// Takes an input in.
    pub fn handle(&mut self, now: Time, input: Input) {
        let _ = (now, input);
    }

    /// Lets expired timers act.
    pub fn handle_timeout(&mut self, now: Time) {
        let _ = now;
    }

    /// When [`Self::handle_timeout`] is to be called next. It may turn out that nothing was due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        None
    }

    /// The next thing to do.
    pub fn poll_output(&mut self, now: Time) -> Option<Output> {
        let _ = now;
        self.outputs.pop_front()
    }

    /// Every peer, in the order of its number.
    #[must_use]
    pub fn neighbors(&self, now: Time) -> Vec<NeighborView> {
        let _ = now;
        Vec::new()
    }

    /// What the listening sockets must know: one entry per peer and dynamic range.
    #[must_use]
    pub fn listen(&self) -> Vec<Listener> {
        Vec::new()
    }

    /// Connections refused.
    #[must_use]
    pub fn refused(&self) -> RefusedView {
        RefusedView::default()
    }

    /// The RIB, for its queries.
    #[must_use]
    pub const fn rib(&self) -> &Rib {
        &self.rib
    }

    /// The configuration in force.
    #[must_use]
    pub const fn config(&self) -> &SpeakerConfig {
        &self.config
    }
}
