//! XDP on the uplinks: attached when an interface appears, tried again when it can't be, detached when it is none any more.

use std::collections::BTreeMap;

use causeway_api::node::XdpMode;
use causeway_datapath::{AttachMode, Datapath};
use causeway_net::Port;

/// Every uplink and how XDP is attached to it.
#[derive(Debug, Default)]
pub(super) struct Uplinks {
    mode: AttachMode,
    ports: BTreeMap<u32, Uplink>,
}

#[derive(Debug)]
struct Uplink {
    name: String,
    state: State,
}

#[derive(Debug)]
enum State {
    Wanted,
    Attached(&'static str),
    Failed(String),
}

impl Uplinks {
    /// How to attach from now on; what is attached stays.
    pub(super) fn set_mode(&mut self, mode: XdpMode) {
        self.mode = match mode {
            XdpMode::Auto => AttachMode::Auto,
            XdpMode::Native => AttachMode::Native,
            XdpMode::Generic => AttachMode::Generic,
        };
        self.retry();
    }

    /// An interface is an uplink, or no longer.
    pub(super) fn changed(&mut self, datapath: &mut Datapath, ifindex: u32, port: Option<&Port>) {
        match port {
            Some(port) => {
                let uplink = self.ports.entry(ifindex).or_insert_with(|| Uplink {
                    name: String::new(),
                    state: State::Wanted,
                });
                uplink.name.clone_from(&port.name);
            }
            None => {
                self.ports.remove(&ifindex);
                if let Err(error) = datapath.detach(ifindex) {
                    tracing::warn!(ifindex, %error, "XDP stays on an interface that is no uplink any more");
                }
            }
        }
    }

    /// Failed ones are tried again by the next [`Self::attach`].
    pub(super) fn retry(&mut self) {
        for uplink in self.ports.values_mut() {
            if let State::Failed(_) = uplink.state {
                uplink.state = State::Wanted;
            }
        }
    }

    /// Attaches to those that have just come.
    pub(super) fn attach(&mut self, datapath: &mut Datapath) {
        for (ifindex, uplink) in &mut self.ports {
            let State::Wanted = uplink.state else {
                continue;
            };
            uplink.state = match datapath.attach(&uplink.name, *ifindex, self.mode) {
                Ok(attachment) => {
                    let mode = attachment.mode.name();
                    let replaced = attachment.replaced;
                    tracing::info!(interface = uplink.name, mode, replaced, "XDP attached");
                    State::Attached(mode)
                }
                Err(error) => {
                    tracing::error!(interface = uplink.name, %error, "XDP cannot be attached");
                    State::Failed(error.to_string())
                }
            };
        }
    }

    /// How XDP is attached, or why it is not.
    pub(super) fn state(&self, ifindex: u32) -> String {
        match self.ports.get(&ifindex).map(|uplink| &uplink.state) {
            Some(State::Attached(mode)) => (*mode).to_owned(),
            Some(State::Failed(error)) => error.clone(),
            Some(State::Wanted) | None => "not attached".to_owned(),
        }
    }

    /// The first reason why an uplink has no XDP.
    pub(super) fn error(&self) -> Option<&str> {
        self.ports.values().find_map(|uplink| match &uplink.state {
            State::Failed(error) => Some(&**error),
            _ => None,
        })
    }
}
