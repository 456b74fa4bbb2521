//! What is wrong with an object, told once. The object's other parts work on.

use core::fmt;
use std::collections::{HashMap, VecDeque};

use foldhash::fast::FixedState;

use crate::limits::Limits;
use crate::types::ObjectRef;

macro_rules! kinds {
    ($( $(#[doc = $doc:literal])+ $name:ident = $text:literal; )+) => {
        /// What sort of problem, for counting.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ProblemKind { $( $(#[doc = $doc])+ $name, )+ }

        impl ProblemKind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[ $( Self::$name, )+ ];

            /// The name that metrics use.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Self::$name => $text, )+ }
            }
        }
    };
}

kinds! {
    /// A text that is no address, or an address that no host can have.
    BadAddress = "bad_address";
    /// A port outside 1 to 65535.
    BadPort = "bad_port";
    /// A prefix that is none.
    BadRange = "bad_range";
    /// A value that we don't know, or a number out of range.
    BadValue = "bad_value";
    /// The same port of the same protocol twice in an object.
    DuplicatePort = "duplicate_port";
    /// An address of a family that the slice or service doesn't have.
    WrongFamily = "wrong_family";
    /// An endpoint slice whose service is not there.
    NoService = "no_service";
    /// An address and port that another service has.
    Conflict = "conflict";
    /// An address that the configuration does not admit.
    NotAdmitted = "not_admitted";
    /// A limit is reached; the rest is left out.
    Limit = "limit";
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Something wrong with a field of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What sort.
    pub kind: ProblemKind,
    /// Path of the field, such as `spec.ports[0].port`.
    pub field: Box<str>,
    /// What is wrong, what follows and what to do.
    pub text: Box<str>,
}

/// A problem that has just appeared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Whose it is.
    pub object: ObjectRef,
    /// What it is.
    pub problem: Problem,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { kind, field, text } = &self.problem;
        write!(f, "{}: {field}: {text} ({kind})", self.object)
    }
}

/// Problems found while one object is read.
#[derive(Debug)]
pub(crate) struct Findings {
    found: Vec<Problem>,
    most: usize,
    more: usize,
}

impl Findings {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            found: Vec::new(),
            most: limits.problems_per_object,
            more: 0,
        }
    }

    pub(crate) fn push(
        &mut self,
        kind: ProblemKind,
        field: impl Into<Box<str>>,
        text: impl Into<Box<str>>,
    ) {
        if self.found.len() < self.most {
            self.found.push(Problem {
                kind,
                field: field.into(),
                text: text.into(),
            });
        } else {
            self.more += 1;
        }
    }

    fn into_problems(mut self) -> Vec<Problem> {
        if self.more > 0 {
            self.found.push(Problem {
                kind: ProblemKind::Limit,
                field: "".into(),
                text: format!("{} more problems of this object are not shown", self.more).into(),
            });
        }
        self.found
    }
}

/// Where problems of an object were found: both places tell theirs independently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// In the object itself.
    Input,
    /// Beside other objects.
    Tables,
}

/// The problems of all objects.
#[derive(Debug)]
pub(crate) struct Problems {
    current: HashMap<(ObjectRef, Place), Vec<Problem>, FixedState>,
    reports: VecDeque<Report>,
    most_reports: usize,
    unreported: u64,
    ever: [u64; ProblemKind::ALL.len()],
}

impl Problems {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            current: HashMap::default(),
            reports: VecDeque::new(),
            most_reports: limits.problem_reports,
            unreported: 0,
            ever: [0; ProblemKind::ALL.len()],
        }
    }

    /// Replaces what was found; what is new is counted and reported.
    pub(crate) fn set(&mut self, object: ObjectRef, place: Place, findings: Findings) {
        let problems = findings.into_problems();
        let key = (object, place);
        let before = self.current.remove(&key).unwrap_or_default();
        for problem in &problems {
            if before.contains(problem) {
                continue;
            }
            self.ever[problem.kind as usize] += 1;
            if self.reports.len() < self.most_reports {
                self.reports.push_back(Report {
                    object: key.0.clone(),
                    problem: problem.clone(),
                });
            } else {
                self.unreported += 1;
            }
        }
        if !problems.is_empty() {
            self.current.insert(key, problems);
        }
    }

    pub(crate) fn clear(&mut self, object: &ObjectRef, place: Place) {
        if !self.current.is_empty() {
            self.current.remove(&(object.clone(), place));
        }
    }

    pub(crate) fn next_report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }

    /// Reports that found no room in the queue.
    pub(crate) fn unreported(&self) -> u64 {
        self.unreported
    }

    /// How often each kind has appeared.
    pub(crate) fn ever(&self) -> impl Iterator<Item = (ProblemKind, u64)> + '_ {
        ProblemKind::ALL
            .iter()
            .map(|kind| (*kind, self.ever[*kind as usize]))
    }

    /// What is wrong now, in the order of objects.
    pub(crate) fn current(&self) -> Vec<Report> {
        let mut all: Vec<_> = self
            .current
            .iter()
            .flat_map(|((object, _), problems)| {
                problems.iter().map(|problem| Report {
                    object: object.clone(),
                    problem: problem.clone(),
                })
            })
            .collect();
        all.sort_by(|a, b| (&a.object, &a.problem.field).cmp(&(&b.object, &b.problem.field)));
        all
    }
}
