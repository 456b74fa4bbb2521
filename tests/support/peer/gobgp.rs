//! GoBGP.

use std::fmt::Write;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Daemon, Family, Neighbor, Origin, Router, Routes, Session, write_config};
use crate::{Node, Process};

pub(super) struct GoBgp {
    node: Node,
    router: Router,
    originated: bool,
    gobgpd: Process,
}

impl GoBgp {
    pub(super) fn start(node: &Node, router: &Router) -> Result<Self> {
        let file = write_config(node, "gobgp.toml", &config(router))?;
        let mut command = node.command("gobgpd");
        command.arg("-f").arg(file);
        Ok(Self {
            node: node.clone(),
            router: router.clone(),
            originated: false,
            gobgpd: Process::start(node, "gobgpd", command)?,
        })
    }

    fn ask(&self, words: &str) -> Result<String> {
        self.node.run("gobgp", words.split_whitespace())
    }

    fn json(&self, words: &str) -> Result<Value> {
        let text = self.ask(&format!("-j {words}"))?;
        serde_json::from_str(&text).with_context(|| format!("gobgp answered {text:?}"))
    }

    /// GoBGP has no next-hop-self for what it originates: it is the local address of that family's session.
    fn next_hop(&self, family: Family) -> String {
        let own = self
            .router
            .neighbors
            .iter()
            .find(|neighbor| Family::of(&neighbor.local.to_string()) == family);
        match (own, family) {
            (Some(neighbor), _) => neighbor.local.to_string(),
            (None, Family::Ipv4) => "0.0.0.0".to_owned(),
            (None, Family::Ipv6) => "::".to_owned(),
        }
    }

    fn add(&self, origin: &Origin) -> Result<()> {
        let family = Family::of(&origin.prefix);
        let mut words = format!(
            "global rib -a {} add {} nexthop {}",
            family.word(),
            origin.prefix,
            self.next_hop(family)
        );
        for (word, values) in [
            ("community", origin.standard()),
            ("large-community", origin.large()),
            ("rt", origin.targets()),
        ] {
            if !values.is_empty() {
                let _ = write!(words, " {word} {}", values.join(","));
            }
        }
        if let Some(med) = origin.med {
            let _ = write!(words, " med {med}");
        }
        if origin.prepend > 0 {
            let path = vec![self.router.asn.to_string(); origin.prepend.into()];
            let _ = write!(words, " aspath {}", path.join(","));
        }
        self.ask(&words).map(drop)
    }
}

impl Daemon for GoBgp {
    fn ready(&mut self) -> Result<()> {
        self.ask("global")?;
        if !self.originated {
            for origin in &self.router.originate {
                self.add(origin)?;
            }
            self.originated = true;
        }
        Ok(())
    }

    fn session(&self, neighbor: &Neighbor) -> Result<Session> {
        let one = self.json(&format!("neighbor {}", neighbor.address))?;
        let state = &one["state"]["session_state"];
        Ok(Session {
            // The enumeration of its API: ESTABLISHED is 6.
            established: *state == 6 || *state == "established",
            text: format!("state {state}, {}", one["state"]["messages"]),
        })
    }

    fn routes(&self, family: Family) -> Result<Routes> {
        let all = self.json(&format!("global rib -a {}", family.word()))?;
        Ok(all
            .as_object()
            .cloned()
            .unwrap_or_default()
            .into_iter()
            .filter_map(|(prefix, paths)| {
                let learned: Vec<_> = paths
                    .as_array()?
                    .iter()
                    .filter(|path| {
                        // What it originated has no source but "Local" or itself.
                        path["source-id"].as_str().is_some_and(|id| !id.is_empty())
                            && path["source-id"] != "<nil>"
                    })
                    .cloned()
                    .collect();
                (!learned.is_empty()).then(|| (prefix, Value::Array(learned).to_string()))
            })
            .collect())
    }

    fn originate(&mut self, router: &Router, before: &Router) -> Result<()> {
        for origin in before.origins_beyond(router) {
            let family = Family::of(&origin.prefix).word();
            self.ask(&format!("global rib -a {family} del {}", origin.prefix))?;
        }
        for origin in router.origins_beyond(before) {
            self.add(origin)?;
        }
        self.router = router.clone();
        Ok(())
    }

    fn shut(&mut self, neighbor: &Neighbor, message: &str) -> Result<()> {
        let address = neighbor.address.to_string();
        self.node
            .run(
                "gobgp",
                ["neighbor", &address, "shutdown", "--reason", message],
            )
            .map(drop)
    }

    fn reset(&mut self, neighbor: &Neighbor, message: &str) -> Result<()> {
        let address = neighbor.address.to_string();
        self.node
            .run(
                "gobgp",
                ["neighbor", &address, "reset", "--reason", message],
            )
            .map(drop)
    }

    fn refresh(&mut self, neighbor: &Neighbor) -> Result<()> {
        self.ask(&format!("neighbor {} softresetin", neighbor.address))
            .map(drop)
    }

    fn processes(&mut self) -> Vec<&mut Process> {
        vec![&mut self.gobgpd]
    }
}

fn config(router: &Router) -> String {
    let mut text = format!(
        "[global.config]\nas = {}\nrouter-id = \"{}\"\nport = 179\n",
        router.asn, router.router_id
    );
    for neighbor in &router.neighbors {
        let hold = neighbor.hold_time;
        let _ = write!(
            text,
            "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"{}\"\npeer-as = {}\n",
            neighbor.address, neighbor.asn
        );
        if let Some(password) = &neighbor.password {
            let _ = writeln!(text, "auth-password = \"{password}\"");
        }
        let _ = write!(
            text,
            "[neighbors.timers.config]\nhold-time = {hold}\nkeepalive-interval = {}\n\
             connect-retry = 1\nidle-hold-time-after-reset = 1\n\
             [neighbors.transport.config]\nlocal-address = \"{}\"\npassive-mode = {}\n",
            (hold / 3).max(1),
            neighbor.local,
            neighbor.passive
        );
        if neighbor.ttl_security {
            text.push_str("[neighbors.ttl-security.config]\nenabled = true\nttl-min = 255\n");
        }
        if let Some(hops) = neighbor.multihop {
            let _ = write!(
                text,
                "[neighbors.ebgp-multihop.config]\nenabled = true\nmultihop-ttl = {hops}\n"
            );
        }
        if neighbor.reflector_client {
            let _ = write!(
                text,
                "[neighbors.route-reflector.config]\nroute-reflector-client = true\n\
                 route-reflector-cluster-id = \"{}\"\n",
                router.router_id
            );
        }
        if neighbor.graceful_restart {
            text.push_str(
                "[neighbors.graceful-restart.config]\nenabled = true\nrestart-time = 20\n",
            );
        }
        for family in &neighbor.families {
            let _ = write!(
                text,
                "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{}-unicast\"\n",
                family.word()
            );
            if let Some(limit) = neighbor.max_prefixes {
                let _ = write!(
                    text,
                    "[neighbors.afi-safis.prefix-limit.config]\nmax-prefixes = {limit}\n"
                );
            }
            if neighbor.graceful_restart {
                text.push_str("[neighbors.afi-safis.mp-graceful-restart.config]\nenabled = true\n");
            }
        }
    }
    text
}
