//! The shell around each speaker: boots it, hands inputs over, does what it wants done.

use core::net::IpAddr;
use core::time::Duration;

use causeway_bgp::fib::FibDelta;
use causeway_bgp::record::Recorder;
use causeway_bgp::rib::NextHopInterest;
use causeway_bgp::speaker::{Input, Output, Speaker, SpeakerEvent};
use causeway_bgp::wire::Decoder;

use super::queue::Event;
use super::{Network, Recording};
use crate::fib::Fib;

impl Network {
    pub(super) fn boot(&mut self, node: usize, graceful: bool) {
        if self.nodes[node].puppet.is_some() {
            return;
        }
        self.seed = self.seed.wrapping_add(1);
        let config = self.plan.config(node, graceful);
        if let Some(recording) = &mut self.nodes[node].recording {
            *recording = Recording {
                recorder: Some(Recorder::new(self.seed, "tests/sim")),
                ..Recording::default()
            };
            recording.configure(self.now, &config);
        }
        let speaker = Speaker::new(self.now, config, self.seed).expect("a valid configuration");
        self.nodes[node].speaker = Some(speaker);
        if graceful {
            self.nodes[node].incoming = Some(Fib::default());
        }
        self.last_activity = self.now;
    }

    pub(super) fn input(&mut self, node: usize, input: Input) {
        let now = self.now;
        if let Some(recording) = &mut self.nodes[node].recording {
            match &input {
                Input::Reconfigure(config) => recording.configure(now, config),
                input => {
                    if let Some(recorder) = &mut recording.recorder {
                        recorder.input(now, input);
                    }
                }
            }
        }
        if let Some(speaker) = &mut self.nodes[node].speaker {
            speaker.handle(self.now, input);
        }
    }

    /// The recorder of a node that is recorded.
    pub(super) fn recorder(&mut self, node: usize) -> Option<&mut Recorder> {
        self.nodes[node].recording.as_mut()?.recorder.as_mut()
    }

    /// One poll, recorded.
    fn poll(&mut self, node: usize) -> Option<Output> {
        let now = self.now;
        let here = &mut self.nodes[node];
        let output = here.speaker.as_mut()?.poll_output(now);
        if let Some(recording) = &mut here.recording {
            recording.outputs.extend(output.clone());
            if let Some(recorder) = &mut recording.recorder {
                recorder.polled(now, output.as_ref());
            }
        }
        output
    }

    /// Carries out what a node wants done. What it asks for on the way is answered when it has said all.
    pub(super) fn drain(&mut self, node: usize) {
        loop {
            while let Some(output) = self.poll(node) {
                self.carry_out(node, output);
            }
            let asked = core::mem::take(&mut self.nodes[node].asked);
            if asked.is_empty() {
                break;
            }
            for key in asked {
                let metric = self.metric(node, key.addr);
                self.nodes[node].tracked.insert(key, metric);
                self.input(node, Input::NextHop { key, metric });
            }
        }
        let here = &mut self.nodes[node];
        let next = here.speaker.as_ref().and_then(Speaker::poll_timeout);
        if let Some(next) = next
            && here.timer.is_none_or(|at| next < at)
        {
            here.timer = Some(next);
            let delay = next - self.now;
            self.push(delay, Event::Timer { node });
        }
    }

    pub(super) fn carry_out(&mut self, node: usize, output: Output) {
        match output {
            Output::Connect { conn, remote, .. } => {
                let (to, link) = self
                    .owner(remote.ip())
                    .expect("every peer address is a link address");
                let delay = self.plan.links[link].delay;
                self.push(
                    delay,
                    Event::Syn {
                        from: node,
                        conn,
                        link,
                        to,
                    },
                );
            }
            Output::Start {
                conn,
                open,
                decoder,
                ..
            } => {
                let Some(end) = self.ends.get_mut(&(node, conn)) else {
                    return;
                };
                end.decoder = Some(Decoder::new(&open, decoder));
                for bytes in core::mem::take(&mut end.early) {
                    self.push(Duration::ZERO, Event::Data { node, conn, bytes });
                }
            }
            Output::Transmit { conn, bytes } => self.transmit(node, conn, bytes),
            Output::Close { conn, .. } => {
                if self.ends.contains_key(&(node, conn)) {
                    self.close((node, conn), "");
                }
            }
            Output::Fib { generation, delta } => self.program(node, generation, delta),
            Output::NextHop(interest) => self.track(node, interest),
            Output::Event(event) => {
                if matches!(event, SpeakerEvent::SelectionResumed { .. })
                    && let Some(fib) = self.nodes[node].incoming.take()
                {
                    self.nodes[node].fib = fib;
                }
                if !matches!(
                    event,
                    SpeakerEvent::AttemptFailed { .. } | SpeakerEvent::StateChanged { .. }
                ) {
                    self.last_activity = self.now;
                }
                self.nodes[node].events.push((self.now, event));
            }
            Output::Rekey { .. } | Output::Listen => {}
        }
    }

    pub(super) fn program(&mut self, node: usize, generation: u64, delta: FibDelta) {
        self.last_activity = self.now;
        let now = self.now;
        let here = &mut self.nodes[node];
        let fib = here.incoming.as_mut().unwrap_or(&mut here.fib);
        let removed = fib.apply(delta);
        here.removals
            .extend(removed.into_iter().map(|prefix| (now, prefix)));
        self.push(
            Duration::from_micros(200),
            Event::Programmed { node, generation },
        );
    }

    pub(super) fn track(&mut self, node: usize, interest: NextHopInterest) {
        match interest {
            NextHopInterest::Track(key) => self.nodes[node].asked.push(key),
            NextHopInterest::Release(key) => {
                let here = &mut self.nodes[node];
                here.tracked.remove(&key);
                here.asked.retain(|asked| *asked != key);
            }
        }
    }

    /// 0 over a live link of our own, 10 to any node of our AS that lives, else unreachable.
    pub(super) fn metric(&self, node: usize, addr: IpAddr) -> Option<u32> {
        let (owner, link) = self.owner(addr)?;
        if self.plan.links[link].ends.contains(&node) {
            return self.links[link].up.then_some(0);
        }
        (self.plan.nodes[owner].asn == self.plan.nodes[node].asn).then_some(10)
    }

    pub(super) fn refresh_next_hops(&mut self) {
        for node in 0..self.nodes.len() {
            let keys: Vec<_> = self.nodes[node]
                .tracked
                .iter()
                .map(|(key, metric)| (*key, *metric))
                .collect();
            for (key, old) in keys {
                let metric = self.metric(node, key.addr);
                if metric != old {
                    self.nodes[node].tracked.insert(key, metric);
                    self.input(node, Input::NextHop { key, metric });
                }
            }
            self.drain(node);
        }
    }
}
