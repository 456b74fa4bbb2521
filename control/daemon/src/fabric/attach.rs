//! Programs on ports: attached when an interface appears, tried again when they can't be, detached when it is none any more.
//!
//! An uplink has XDP, on the parent of a VLAN device, and TC behind it on the interface itself; a pod's interface has TC
//! alone.

use std::collections::BTreeMap;

use causeway_api::node::XdpMode;
use causeway_datapath::{AttachMode, Datapath, TcProgram};
use causeway_net::{LinkKind, Port, PortRole};

/// Every port and what is attached to it.
#[derive(Debug, Default)]
pub(super) struct Uplinks {
    mode: AttachMode,
    ports: BTreeMap<u32, Uplink>,
}

#[derive(Debug)]
struct Uplink {
    name: String,
    /// Where XDP is attached; nowhere for pods.
    xdp_on: Option<u32>,
    xdp: State,
    tc_program: TcProgram,
    tc: State,
}

#[derive(Debug)]
enum State {
    Wanted,
    Attached(&'static str),
    /// Not before the maps of this version are complete: meanwhile programs of an earlier one forward with theirs.
    Held,
    Failed(String),
}

impl State {
    fn retry(&mut self) {
        if let Self::Failed(_) | Self::Held = self {
            *self = Self::Wanted;
        }
    }

    fn hold(&mut self) {
        if self.wanted() {
            *self = Self::Held;
        }
    }

    fn wanted(&self) -> bool {
        matches!(self, Self::Wanted)
    }

    fn error(&self) -> Option<&str> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }
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

    /// An interface is a port, or no longer.
    pub(super) fn changed(&mut self, datapath: &mut Datapath, ifindex: u32, port: Option<&Port>) {
        let Some(port) = port else {
            return self.remove(datapath, ifindex);
        };
        let xdp_on = match (port.role, port.kind) {
            (PortRole::Pod, _) => None,
            (_, LinkKind::Vlan { parent, .. }) => Some(parent),
            _ => Some(ifindex),
        };
        let tc_program = match port.role {
            PortRole::Pod => TcProgram::Pod,
            PortRole::Uplink | PortRole::Access => TcProgram::Uplink,
        };
        let before = self.ports.get(&ifindex);
        if before.is_some_and(|u| (u.xdp_on, u.tc_program) != (xdp_on, tc_program)) {
            self.remove(datapath, ifindex);
        }
        let uplink = self.ports.entry(ifindex).or_insert_with(|| Uplink {
            name: String::new(),
            xdp_on,
            xdp: State::Wanted,
            tc_program,
            tc: State::Wanted,
        });
        uplink.name.clone_from(&port.name);
    }

    fn remove(&mut self, datapath: &mut Datapath, ifindex: u32) {
        let Some(gone) = self.ports.remove(&ifindex) else {
            return;
        };
        let shared = self.ports.values().any(|u| u.xdp_on == gone.xdp_on);
        if let Some(xdp_on) = gone.xdp_on.filter(|_| !shared)
            && let Err(error) = datapath.detach(xdp_on)
        {
            tracing::warn!(ifindex, %error, "XDP stays on an interface that is no port any more");
        }
        if let Err(error) = datapath.detach_tc(ifindex) {
            tracing::warn!(ifindex, %error, "a TC program stays on an interface that is no port any more");
        }
    }

    /// Failed ones are tried again by the next [`Self::attach`].
    pub(super) fn retry(&mut self) {
        for uplink in self.ports.values_mut() {
            uplink.xdp.retry();
            uplink.tc.retry();
        }
    }

    /// Attaches to those that have just come.
    pub(super) fn attach(&mut self, datapath: &mut Datapath) {
        let wanted = |uplink: &Uplink| uplink.xdp.wanted() || uplink.tc.wanted();
        if !self.ports.values().any(wanted) {
            return;
        }
        for (ifindex, uplink) in &mut self.ports {
            if datapath.incomplete() {
                uplink.xdp.hold();
                uplink.tc.hold();
                continue;
            }
            if uplink.xdp.wanted() {
                uplink.xdp = match uplink.xdp_on {
                    Some(xdp_on) => uplink.attach_xdp(datapath, xdp_on, self.mode),
                    None => State::Attached("none"),
                };
            }
            if uplink.tc.wanted() {
                uplink.tc = uplink.attach_tc(datapath, *ifindex);
            }
        }
    }

    /// How XDP is attached, or why it is not.
    pub(super) fn state(&self, ifindex: u32) -> String {
        match self.ports.get(&ifindex).map(|uplink| &uplink.xdp) {
            Some(State::Attached(mode)) => (*mode).to_owned(),
            Some(State::Held) => {
                "waits for the maps of this version; an earlier one's programs forward".to_owned()
            }
            Some(State::Failed(error)) => error.clone(),
            Some(State::Wanted) | None => "not attached".to_owned(),
        }
    }

    /// The first reason why a port lacks a program.
    pub(super) fn error(&self) -> Option<&str> {
        let mut ports = self.ports.values();
        ports.find_map(|uplink| uplink.xdp.error().or(uplink.tc.error()))
    }
}

impl Uplink {
    fn attach_xdp(&self, datapath: &mut Datapath, ifindex: u32, mode: AttachMode) -> State {
        match datapath.attach(&self.name, ifindex, mode) {
            Ok(attachment) => {
                let mode = attachment.mode.name();
                let replaced = attachment.replaced;
                tracing::info!(interface = self.name, mode, replaced, "XDP attached");
                State::Attached(mode)
            }
            Err(error) => {
                tracing::error!(interface = self.name, %error, "XDP cannot be attached");
                State::Failed(error.to_string())
            }
        }
    }

    fn attach_tc(&self, datapath: &mut Datapath, ifindex: u32) -> State {
        match datapath.attach_tc(&self.name, ifindex, self.tc_program) {
            Ok(hook) => {
                tracing::debug!(interface = self.name, hook = hook.name(), "TC attached");
                State::Attached(hook.name())
            }
            Err(error) => {
                tracing::error!(interface = self.name, %error, "TC cannot be attached");
                State::Failed(error.to_string())
            }
        }
    }
}
