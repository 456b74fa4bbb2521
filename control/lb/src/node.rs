//! This node, as far as tables depend on it.

use core::net::IpAddr;

use causeway_api::node::{EXCLUDE_FROM_LOAD_BALANCERS_LABEL, Node, ZONE_LABEL};
use smallvec::SmallVec;

use crate::problem::{Findings, ProblemKind};
use crate::types::{Family, host_address};

/// What the cluster says of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeFacts {
    pub(crate) zone: Option<Box<str>>,
    /// Kept from load balancers.
    pub(crate) excluded: bool,
    /// The first `InternalIP` of each family.
    pub(crate) primary: SmallVec<[IpAddr; 2]>,
}

impl NodeFacts {
    pub(crate) fn parse(object: &Node, findings: &mut Findings) -> Self {
        let labels = &object.metadata.labels;
        let mut facts = Self {
            zone: labels
                .get(ZONE_LABEL)
                .filter(|zone| !zone.is_empty())
                .map(|zone| zone.as_str().into()),
            excluded: labels.contains_key(EXCLUDE_FROM_LOAD_BALANCERS_LABEL),
            primary: SmallVec::new(),
        };
        let addresses = object.status.iter().flat_map(|status| &status.addresses);
        for (n, address) in addresses.enumerate() {
            if address.address_type != "InternalIP" {
                continue;
            }
            let Some(addr) = host_address(&address.address) else {
                let field = format!("status.addresses[{n}].address");
                let text = format!(
                    "`{}` is no address of a host; it is passed over, correct it",
                    address.address
                );
                findings.push(ProblemKind::BadAddress, field, text);
                continue;
            };
            let family = Family::of(addr);
            if facts
                .primary
                .iter()
                .all(|other| Family::of(*other) != family)
            {
                facts.primary.push(addr);
            }
        }
        facts
    }
}
