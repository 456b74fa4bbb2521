//! Which interfaces forward, and the limits of this room.

use core::fmt;

/// Configuration of a [`crate::Network`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Which interfaces are ports. The first rule that matches decides; an interface without a rule does not forward.
    pub ports: Vec<PortRule>,
    /// A default route may lead to a next hop.
    pub resolve_via_default: bool,
    /// Limits.
    pub limits: Limits,
}

impl NetworkConfig {
    /// What the interface called `name` is, if it is a port.
    #[must_use]
    pub fn role(&self, name: &str) -> Option<PortRole> {
        let rule = self.ports.iter().find(|rule| rule.pattern.matches(name))?;
        Some(rule.role)
    }
}

/// Makes the interfaces that a pattern matches ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRule {
    /// Names.
    pub pattern: NamePattern,
    /// What they are.
    pub role: PortRole,
}

/// Where a port leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PortRole {
    /// Towards the fabric.
    Uplink,
    /// Towards hosts.
    Access,
    /// The host's side of a pod's interface.
    Pod,
}

/// An interface name, or all names that begin alike: `eth0`, `veth*`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NamePattern {
    text: String,
    prefix: bool,
}

impl NamePattern {
    /// `NAME` or `PREFIX*`.
    ///
    /// # Errors
    ///
    /// If no interface can be called so.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        let (name, prefix) = match text.strip_suffix('*') {
            Some(name) => (name, true),
            None => (text, false),
        };
        let wrong = |c: char| c == '*' || c == '/' || c == ':' || c.is_whitespace();
        if (name.is_empty() && !prefix) || name.len() > MAX_NAME_BYTES || name.contains(wrong) {
            return Err(PatternError {
                pattern: text.to_owned(),
            });
        }
        Ok(Self {
            text: name.to_owned(),
            prefix,
        })
    }

    /// Whether an interface called `name` is meant.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        if self.prefix {
            name.starts_with(&self.text)
        } else {
            name == self.text
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.text, if self.prefix { "*" } else { "" })
    }
}

/// `IFNAMSIZ` less its zero byte.
const MAX_NAME_BYTES: usize = 15;

/// No interface can be called so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{pattern:?} is no interface name: write a name of at most {MAX_NAME_BYTES} bytes, or the beginning of one and `*`"
)]
pub struct PatternError {
    /// What was written.
    pub pattern: String,
}

/// The most of everything. What does not fit is left out and counted in [`crate::Overflow`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Interfaces.
    pub max_links: usize,
    /// Addresses.
    pub max_addresses: usize,
    /// Neighbours remembered.
    pub max_neighbours: usize,
    /// Host routes made of neighbours: each takes a group, of which there are 4096.
    pub max_host_routes: usize,
    /// Next hops tracked.
    pub max_next_hops: usize,
    /// Routes that others put into the kernel's main table.
    pub max_foreign_routes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_links: 4_096,
            max_addresses: 8_192,
            max_neighbours: 16_384,
            max_host_routes: 2_048,
            max_next_hops: 4_096,
            max_foreign_routes: 16_384,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rule = |pattern: &str, role| PortRule {
            pattern: NamePattern::new(pattern).unwrap(),
            role,
        };
        let config = NetworkConfig {
            ports: vec![
                rule("eth0", PortRole::Uplink),
                rule("eth*", PortRole::Access),
            ],
            ..NetworkConfig::default()
        };
        assert_eq!(config.role("eth0"), Some(PortRole::Uplink));
        assert_eq!(config.role("eth01"), Some(PortRole::Access));
        assert_eq!(config.role("lo"), None);
    }

    #[test]
    fn a_name_that_no_interface_has_is_refused() {
        for text in ["", "a b", "a*b", "sixteen-bytes-xx", "a/b"] {
            assert!(NamePattern::new(text).is_err(), "{text:?}");
        }
        assert_eq!(NamePattern::new("veth*").unwrap().to_string(), "veth*");
    }
}
