//! What becomes of new connections, by where the client is.
//!
//! | destination | policy | pod | node itself | outside |
//! |---|---|---|---|---|
//! | cluster IP | internal Cluster | all | all, masqueraded | all, masqueraded |
//! | cluster IP | internal Local | local | local, masqueraded | local, masqueraded |
//! | other | external Cluster | all, masqueraded | all, masqueraded | all, masqueraded |
//! | other | external Local | all | all, masqueraded | local |
//!
//! Where the ring is empty: reject if no endpoint is usable anywhere, else drop.

use crate::service::TrafficPolicy;
use crate::tables::{Route, Routes, Scope};

/// Which rings of a pool have members.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filled {
    pub(crate) cluster: bool,
    pub(crate) local: bool,
    /// Somebody, somewhere, takes new connections.
    pub(crate) usable: bool,
}

impl Filled {
    fn route(self, scope: Scope, masquerade: bool) -> Route {
        let filled = match scope {
            Scope::Cluster => self.cluster,
            Scope::Local => self.local,
        };
        match (filled, self.usable) {
            (true, _) => Route::Forward { scope, masquerade },
            (false, true) => Route::Drop,
            (false, false) => Route::Reject,
        }
    }
}

/// For the cluster addresses.
pub(crate) fn internal(policy: TrafficPolicy, filled: Filled) -> Routes {
    let scope = match policy {
        TrafficPolicy::Cluster => Scope::Cluster,
        TrafficPolicy::Local => Scope::Local,
    };
    Routes {
        pod: filled.route(scope, false),
        host: filled.route(scope, true),
        outside: filled.route(scope, true),
    }
}

/// For node ports, load-balancer and external addresses.
pub(crate) fn external(policy: TrafficPolicy, filled: Filled) -> Routes {
    match policy {
        TrafficPolicy::Cluster => {
            let route = filled.route(Scope::Cluster, true);
            Routes {
                pod: route,
                host: route,
                outside: route,
            }
        }
        TrafficPolicy::Local => Routes {
            pod: filled.route(Scope::Cluster, false),
            host: filled.route(Scope::Cluster, true),
            outside: filled.route(Scope::Local, false),
        },
    }
}
