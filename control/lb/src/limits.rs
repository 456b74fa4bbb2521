//! Every limit of the room, in one place.

/// How much is taken in and handed out. What does not fit is left out by name; what is there already stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Services, those known only by their slices included.
    pub services: usize,
    /// Endpoint slices.
    pub slices: usize,
    /// Slices of one service.
    pub slices_per_service: usize,
    /// Endpoints of one slice; Kubernetes allows 1000.
    pub endpoints_per_slice: usize,
    /// Endpoint addresses in all slices together.
    pub endpoints: usize,
    /// Ports of one service or of one slice.
    pub ports_per_object: usize,
    /// Addresses of one service.
    pub addresses_per_service: usize,
    /// Source ranges of one service.
    pub source_ranges_per_service: usize,
    /// Pools on this node.
    pub pools: u32,
    /// Backends on this node.
    pub backends: u32,
    /// Backends of one pool; a ring has at most 65521 slots for them.
    pub backends_per_pool: usize,
    /// Frontends on this node.
    pub frontends: usize,
    /// Problems kept of one object; more are only counted.
    pub problems_per_object: usize,
    /// Problems that wait to be reported; more are only counted.
    pub problem_reports: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            services: 65_536,
            slices: 262_144,
            slices_per_service: 1_024,
            endpoints_per_slice: 1_000,
            endpoints: 1_048_576,
            ports_per_object: 256,
            addresses_per_service: 64,
            source_ranges_per_service: 256,
            pools: 131_072,
            backends: 524_288,
            backends_per_pool: 4_096,
            frontends: 524_288,
            problems_per_object: 16,
            problem_reports: 1_024,
        }
    }
}

/// Largest weight of a backend.
pub const MAX_WEIGHT: u16 = 255;
/// Weight of a backend of which nothing is said.
pub const DEFAULT_WEIGHT: u16 = 100;
/// Longest affinity, in seconds; Kubernetes' own limit.
pub const MAX_AFFINITY_SECONDS: u32 = 86_400;
/// Affinity of which nothing is said, in seconds; Kubernetes' own default.
pub const DEFAULT_AFFINITY_SECONDS: u32 = 10_800;
